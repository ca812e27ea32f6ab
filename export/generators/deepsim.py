"""The published generators' architecture (Dosovitskiy & Brox, NeurIPS 2016), codes fc6, fc7 and pool5.

Weights are the user's. fc6, fc7: three fully connected layers, reshaped to 4x4; pool5: three convolutions, 6x6 to 4x4.
Then deconvolutions (4x4, stride 2) with stride-1 deconvolutions (3x3, called conv in the prototxt) between them up to
256 px; leaky ReLU 0.3 after every layer but the last. The output is BGR minus the mean of ImageNet.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import nn

from export.cards import CARD_KEY
from export.priors.box import BoxPrior
from export.sources.torch_export import to_onnx

CODES = ("fc6", "fc7", "pool5")
CODE_DIM, CHANNELS = 4096, 256
MEAN_BGR = (104.0, 117.0, 123.0)
SLOPE = 0.3
DECAY = 0.99
BOUND = 12.0
"""Median of the published bounds, mean + 3 std of fc6; a declared box with ``high`` = the act_range file has all."""
IMAGE_PX = 256
_UP = (  # name, outputs in units of 256 channels, doubling
    ("deconv5", 1, True),
    ("conv5_1", 2, False),
    ("deconv4", 1, True),
    ("conv4_1", 1, False),
    ("deconv3", 1 / 2, True),
    ("conv3_1", 1 / 2, False),
    ("deconv2", 1 / 4, True),
    ("deconv1", 1 / 8, True),
)


class DeepSim(nn.Module):
    """Code (N, 4096), or (N, 256, 6, 6) for pool5 -> image (N, 3, 256, 256), BGR minus :data:`MEAN_BGR`, +-120.

    Args:
        width: factor on the channels of the hidden layers; 1 is the published network (56 M parameters).
        code: the layer of CaffeNet that it inverts.
    """

    def __init__(self, width: float = 1.0, code: str = "fc6") -> None:
        super().__init__()
        self.code = code
        hidden, c = (max(1, round(n * width)) for n in (CODE_DIM, CHANNELS))
        self.vector, self.image = nn.Sequential(), nn.Sequential()
        if code == "pool5":
            self.code_shape: tuple[int, ...] = (256, 6, 6)
            inputs = 256
            for name, pad in (("Rconv6", 1), ("Rconv7", 1), ("Rconv8", 0)):
                self._add(self.vector, name, nn.Conv2d(inputs, 2 * c, 3, padding=pad))
                inputs = 2 * c
        else:
            self.code_shape, inputs = (CODE_DIM,), c
            for name, a, b in (("defc7", CODE_DIM, hidden), ("defc6", hidden, hidden), ("defc5", hidden, c * 16)):
                self._add(self.vector, name, nn.Linear(a, b))
        self.first = inputs
        for name, ratio, up in _UP:
            outputs = max(1, int(c * ratio))
            kernel, stride = (4, 2) if up else (3, 1)
            self._add(self.image, name, nn.ConvTranspose2d(inputs, outputs, kernel, stride, 1))
            inputs = outputs
        self.image.add_module("deconv0", nn.ConvTranspose2d(inputs, 3, 4, 2, 1))

    @staticmethod
    def _add(to: nn.Sequential, name: str, layer: nn.Module) -> None:
        to.add_module(name, layer)
        to.add_module(f"relu_{name}", nn.LeakyReLU(SLOPE))

    def forward(self, code: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.image(self.vector(code).reshape(-1, self.first, 4, 4))
        return out


def randomised(width: float = 1.0, seed: int = 0, code: str = "fc6") -> DeepSim:
    """A generator whose random weights keep the signal's size from layer to layer: for speed, never for pictures."""
    torch.manual_seed(seed)
    module = DeepSim(width, code)
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, SLOPE)
        elif isinstance(layer, nn.ConvTranspose2d):
            taps = layer.in_channels * layer.kernel_size[0] * layer.kernel_size[1] / layer.stride[0] ** 2
            nn.init.normal_(layer.weight, std=(2 / (1 + SLOPE**2) / taps) ** 0.5)
    with torch.no_grad():
        last = module.image.get_submodule("deconv0")
        assert isinstance(last, nn.ConvTranspose2d)
        last.weight.mul_(30)
    return module.eval()


def card(code: str) -> dict[str, Any]:
    return {
        "title": f"DeePSiM generator, {code}",
        "source": "Dosovitskiy & Brox 2016",
        "licence": "the published weights: non-commercial use only",
        "encoder": f"CaffeNet, {code}",
        "output": {"channels": "BGR", "scale": 1 / 255, "offset": [m / 255 for m in MEAN_BGR]},
    }


def default_prior(module: DeepSim, bound: float = BOUND) -> BoxPrior:
    """0 to ``bound``, decay 0.99; starts are N(0, 1), as published, but clipped from the first step on."""
    fill = np.ones(math.prod(module.code_shape), np.float32)
    return BoxPrior(0 * fill, fill, 0 * fill, bound * fill, DECAY * fill)


def save_generator(module: DeepSim, out: Path, *, bound: float = BOUND) -> None:
    """Write ``out`` (ONNX) and its code prior, unchecked: for benchmarks with random weights."""
    model = to_onnx(module, torch.rand(2, *module.code_shape), "code", layers=False)
    model.metadata_props[CARD_KEY] = json.dumps(card(module.code))
    ir.save(model, out)
    default_prior(module, bound).save(out.with_suffix(".codes.npz"))
