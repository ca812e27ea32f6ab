"""The published generator's architecture (Dosovitskiy & Brox, NeurIPS 2016), code fc6 or fc7; weights are the user's.

Three fully connected layers, reshaped to 4x4, then deconvolutions (4x4, stride 2) with stride-1 deconvolutions (3x3,
called conv in the prototxt) between them up to 256 px; leaky ReLU 0.3 after every layer but the last. The output is BGR
minus the mean of ImageNet.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch
from torch import nn

from export.cards import CARD_KEY
from export.prior import CodePrior
from export.sources.torch_export import to_onnx

CODE_DIM = 4096
MEAN_BGR = (104.0, 117.0, 123.0)
SLOPE = 0.3
DECAY = 0.99
IMAGE_PX = 256


class DeepSim(nn.Module):
    """Code (N, 4096) -> image (N, 3, 256, 256), BGR minus :data:`MEAN_BGR`, about -120 to 120.

    Args:
        width: factor on the channels of the hidden layers; 1 is the published network (56 M parameters).
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        hidden, c = (max(1, round(n * width)) for n in (CODE_DIM, 256))
        half, quarter, eighth = max(1, c // 2), max(1, c // 4), max(1, c // 8)
        self.side, self.first = 4, c
        self.vector = nn.Sequential()
        for name, inputs, outputs in (
            ("defc7", CODE_DIM, hidden),
            ("defc6", hidden, hidden),
            ("defc5", hidden, c * 16),
        ):
            self.vector.add_module(name, nn.Linear(inputs, outputs))
            self.vector.add_module(f"relu_{name}", nn.LeakyReLU(SLOPE))
        self.image = nn.Sequential()
        for name, inputs, outputs, up in (
            ("deconv5", c, c, True),
            ("conv5_1", c, 2 * c, False),
            ("deconv4", 2 * c, c, True),
            ("conv4_1", c, c, False),
            ("deconv3", c, half, True),
            ("conv3_1", half, half, False),
            ("deconv2", half, quarter, True),
            ("deconv1", quarter, eighth, True),
            ("deconv0", eighth, 3, True),
        ):
            kernel, stride = (4, 2) if up else (3, 1)
            self.image.add_module(name, nn.ConvTranspose2d(inputs, outputs, kernel, stride, 1))
            if name != "deconv0":
                self.image.add_module(f"relu_{name}", nn.LeakyReLU(SLOPE))

    def forward(self, code: torch.Tensor) -> torch.Tensor:
        x = self.vector(code).reshape(-1, self.first, self.side, self.side)
        out: torch.Tensor = self.image(x)
        return out


def randomised(width: float = 1.0, seed: int = 0) -> DeepSim:
    """A generator whose random weights keep the signal's size from layer to layer: for speed, never for pictures."""
    torch.manual_seed(seed)
    module = DeepSim(width)
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, SLOPE)
        elif isinstance(layer, nn.ConvTranspose2d):
            taps = layer.in_channels * layer.kernel_size[0] * layer.kernel_size[1] / layer.stride[0] ** 2
            nn.init.normal_(layer.weight, std=(2 / (1 + SLOPE**2) / taps) ** 0.5)
    with torch.no_grad():
        last = module.image.get_submodule("deconv0")
        assert isinstance(last, nn.ConvTranspose2d)
        last.weight.mul_(30)
    return module.eval()


def save_generator(module: DeepSim, out: Path, *, bound: float = 12.0, title: str = "DeePSiM generator") -> None:
    """Write ``out`` (ONNX) and its code prior: 0 to ``bound`` (the median of the published bounds), decay 0.99."""
    model = to_onnx(module, torch.rand(2, CODE_DIM), "code", layers=False)
    card = {
        "title": title,
        "source": "architecture of Dosovitskiy & Brox 2016",
        "output": {"channels": "BGR", "scale": 1 / 255, "offset": [m / 255 for m in MEAN_BGR]},
    }
    model.metadata_props[CARD_KEY] = json.dumps(card)
    ir.save(model, out)
    fill = np.ones(CODE_DIM, np.float32)
    CodePrior(0.5 * fill, fill, 0 * fill, bound * fill, DECAY * fill).save(out.with_suffix(".codes.npz"))
