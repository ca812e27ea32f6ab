"""A small network in training, for the study of evolution: ONNX checkpoints of its first steps.

    python -m tests.bench.small_network --images tiny64_train40k.tar --out build/small

Four convolutions and a classifier on 64 px images in folders of their classes. It learns little in a few minutes
(the last line printed is its accuracy on images kept back); the study asks how its units change meanwhile.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path

import click
import numpy as np
import onnx_ir as ir
import torch
from torch import nn
from torch.nn import functional as F

from export.cards import CARD_KEY
from export.sources.torch_export import IMAGENET_MEAN, IMAGENET_STD, to_onnx
from pipeline.dataset.images import ImageSet, open_images

SIDE_PX, BATCH, KEPT_BACK = 64, 32, 1000
CHECKPOINTS = (0, 30, 100, 250, 600)
WIDTHS = (24, 48, 64, 96)


def small_network(classes: int) -> nn.Sequential:
    """(N, 3, 64, 64) -> (N, classes); modules ``block1`` to ``block4``, ``pool``, ``fc``."""
    parts: list[tuple[str, nn.Module]] = []
    before = 3
    for place, width in enumerate(WIDTHS):
        convolution = nn.Conv2d(before, width, 3, stride=2 if place < 3 else 1, padding=1, bias=False)
        parts.append((f"block{place + 1}", nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU())))
        before = width
    parts += [("pool", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())), ("fc", nn.Linear(before, classes))]
    return nn.Sequential(OrderedDict(parts))


def loaded(images: ImageSet, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Images (N, 3, S, S) uint8, classes (N,), names."""
    names = sorted({entry.label for entry in images.entries})
    place = {name: index for index, name in enumerate(names)}
    parts = [images.pictures(part.tolist(), SIDE_PX, SIDE_PX) for part in np.array_split(rows, len(rows) // 500 + 1)]
    labels = np.asarray([place[images.entries[row].label] for row in rows], np.int64)
    return np.concatenate(parts).transpose(0, 3, 1, 2), labels, names


def save(module: nn.Module, names: list[str], path: Path) -> None:
    """Write one checkpoint."""
    module.eval()
    model = to_onnx(module, torch.rand(2, 3, SIDE_PX, SIDE_PX), "image")
    card = {
        "title": "A small network",
        "source": "tests/bench/small_network.py",
        "licence": "Apache-2.0",
        "input": {
            "height": SIDE_PX,
            "width": SIDE_PX,
            "channels": "RGB",
            "mean": list(IMAGENET_MEAN),
            "std": list(IMAGENET_STD),
        },
        "labels": names,
    }
    model.metadata_props[CARD_KEY] = json.dumps(card)
    ir.save(model, path)
    module.train()


@click.command()
@click.option("--images", required=True, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path))
@click.option("--limit", type=click.IntRange(min=2 * KEPT_BACK), default=10_000, show_default=True, help="Images read.")
def main(images: Path, out: Path, limit: int) -> None:
    """Train and write the checkpoints ``stepNNNN.onnx``."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    pictures = open_images(images)
    pixels, labels, names = loaded(pictures, rng.permutation(len(pictures.entries))[:limit])
    test, train = np.split(np.arange(len(labels)), [KEPT_BACK])
    mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))

    def batch(rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        seen = (torch.from_numpy(pixels[rows]).float() / 255 - mean) / std
        return seen.contiguous(memory_format=torch.channels_last), torch.from_numpy(labels[rows])

    module = small_network(len(names)).to(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(module.parameters(), lr=2e-3)
    out.mkdir(parents=True, exist_ok=True)
    for step in range(CHECKPOINTS[-1] + 1):
        if step in CHECKPOINTS:
            save(module, names, out / f"step{step:04d}.onnx")
            with torch.no_grad():
                module.eval()
                parts = [(module(x).argmax(1) == y) for x, y in map(batch, np.array_split(test, 20))]
                module.train()
            click.echo(f"step {step}: {torch.cat(parts).float().mean().item():.1%} of {KEPT_BACK} images kept back")
        x, y = batch(rng.choice(train, BATCH, replace=False))
        if rng.random() < 0.5:
            x = x.flip(3)
        loss = F.cross_entropy(module(x), y)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimiser.step()


if __name__ == "__main__":
    main()
