"""A small network and generator as PyTorch modules and as the ONNX files made from them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import nn

from export.cards import CARD_KEY
from export.generator import Generator, load_generator
from export.generators.architecture import GeneratorConfig, HybridGenerator
from export.network import Network, load_network
from export.prior import CodePrior
from export.priors.box import BoxPrior
from export.sources.torch_export import to_onnx

SHAPE = GeneratorConfig(global_dim=24, spatial_dim=2, grid=4, style_dim=16, widths=(16, 12, 8))


class SmallNet(nn.Module):
    """Convolutions, BatchNorm, pooling and a classifier; 20 px images."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.body = nn.Sequential(nn.Conv2d(8, 12, 3, groups=4), nn.BatchNorm2d(12), nn.ReLU())
        self.head = nn.Linear(12, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.body(self.pool(self.stem(image)))
        return self.head(x.mean(dim=(2, 3)))


@dataclass(frozen=True)
class Pair:
    module: nn.Module
    generator_module: HybridGenerator
    network: Network
    generator: Generator


def randomised(module: nn.Module, seed: int) -> nn.Module:
    """Eval mode, BatchNorm statistics drawn at random."""
    torch.manual_seed(seed)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean, std=0.3)
            nn.init.uniform_(layer.running_var, 0.5, 2.0)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.3)
    return module.eval()


def prior(code_dim: int, *, bound: float = np.inf, decay: float = 1.0) -> CodePrior:
    rng = np.random.default_rng(3)
    mean = rng.normal(size=code_dim).astype(np.float32)
    fill = np.ones(code_dim, np.float32)
    return BoxPrior(mean, fill, -bound * fill, bound * fill, decay * fill)


def save(model: ir.Model, card: dict[str, Any], path: Path) -> Path:
    model.metadata_props[CARD_KEY] = json.dumps(card)
    ir.save(model, path)
    return path


def make_pair(folder: Path, *, px: int = 20, network_card: dict[str, Any] | None = None) -> Pair:
    torch.manual_seed(0)
    module = randomised(SmallNet(), 1)
    generator_module = HybridGenerator(SHAPE).eval()
    with torch.no_grad():  # FiLM starts near nothing; give it something to do
        for parameter in generator_module.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    card = {
        "title": "small",
        "input": {"height": px, "width": px, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]},
        "labels": [f"class {i}" for i in range(10)],
    } | (network_card or {})
    network_path = save(to_onnx(module, torch.rand(2, 3, px, px), "image"), card, folder / "net.onnx")
    model = to_onnx(generator_module, torch.rand(2, SHAPE.code_dim), "code", layers=False)
    generator_path = save(model, {"title": "small generator"}, folder / "gen.onnx")
    prior(SHAPE.code_dim).save(folder / "gen.codes.npz")
    return Pair(module, generator_module, load_network(network_path), load_generator(generator_path))
