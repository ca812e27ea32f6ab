"""Weights of another generator, for a training that begins with them."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch.nn import functional as F

from export.generators.architecture import GeneratorConfig
from export.models import read_model
from export.passes.half import HALF


def published_weights(path: Path) -> dict[str, torch.Tensor]:
    """The weights of a published generator under the names of the module's parameters."""
    model = read_model(path)
    arrays = {name: value.const_value for name, value in model.graph.initializers.items()}
    return {
        name.removesuffix(HALF): torch.from_numpy(array.numpy().copy())
        for name, array in arrays.items()
        if array is not None
    }


def fitted_layout(
    weights: dict[str, torch.Tensor], shape: GeneratorConfig, usual: torch.Tensor | None
) -> dict[str, torch.Tensor]:
    """Weights whose start says where things are, for a generator that keeps this in ``layout``.

    A start of ``first * side ** 2`` rows is split: its mean over positions stays the start; the rest, brought to the
    generator's coarsest side, becomes the layout. What the rest puts into every image alike is taken out of it: its
    bias, and its answer to the usual style.

    Args:
        weights: of the other generator.
        shape: of this one.
        usual: (style_dim,) the mean style of training images; None if it is not known.
    """
    start, first = weights.get("start.weight"), shape.widths[0]
    if not shape.layout or start is None or len(start) <= first or len(start) % first:
        return weights
    side = math.isqrt(len(start) // first)
    by_place = start.float().reshape(first, side, side, -1)
    mean = by_place.mean(dim=(1, 2))
    rest = by_place - mean[:, None, None]
    if usual is not None:
        rest = rest - (rest @ usual)[..., None] * usual / usual.square().sum()
    rest = F.interpolate(
        rest.permute(0, 3, 1, 2), size=(shape.coarsest, shape.coarsest), mode="bilinear", align_corners=False
    )
    return weights | {
        "start.weight": mean,
        "start.bias": weights["start.bias"].float().reshape(first, -1).mean(dim=1),
        "layout.weight": rest.permute(0, 2, 3, 1).reshape(first * shape.coarsest**2, -1),
    }
