"""Weights of another generator, and what its codes mean, for a training that begins with them."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch.nn import functional as F

from export.encoding import encoder_facts
from export.generator import load_generator
from export.generators.architecture import GeneratorConfig
from export.generators.encoder import Encoder
from export.generators.statistics import CodeStatistics
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


def published_statistics(
    path: Path, weights: dict[str, torch.Tensor], shape: GeneratorConfig, encoder: Encoder
) -> CodeStatistics | None:
    """What a published generator's codes were made with.

    Measured anew, principal components turn among those of like variance (a mean cosine of 0.09 for the bundled
    generator's, of another mix of its images), and the weights that read them would have to learn which is which.

    Args:
        path: of the published generator.
        weights: its, see :func:`published_weights`.
        shape: of the generator to be trained.
        encoder: of the generator to be trained.

    Returns:
        None where it does not say, or its codes are of another encoder, other layers or another shape.

    Raises:
        ModelError: see :func:`export.generator.load_generator`.
        InputError: likewise.
    """
    generator = load_generator(path)
    facts, layers = encoder_facts(generator), encoder.layers
    if facts is None or generator.code_dim != shape.code_dim:
        return None
    if (facts.digest, facts.global_layer, facts.spatial_layer) != (
        encoder.network.digest,
        layers.global_layer,
        layers.spatial_layer,
    ):
        return None
    found = CodeStatistics(None, None, None, None)
    if shape.global_dim:
        found.global_std = torch.from_numpy(facts.arrays["global_std"])
        found.global_mean = torch.from_numpy(generator.prior.mean[: shape.global_dim].copy())
        if found.global_std.shape != found.global_mean.shape:
            return None
    if shape.map_size:
        found.spatial_mean, found.whitening = (torch.from_numpy(facts.arrays[n]) for n in ("spatial_mean", "whitening"))
        width = shape.map_dim or shape.spatial_dim
        if facts.grid != shape.grid or found.whitening.shape[1] != width:
            return None
    if shape.map_dim:
        basis = weights.get("basis")
        if basis is None or tuple(basis.shape) != (shape.map_dim, shape.spatial_dim * shape.grid**2):
            return None
        found.basis = basis.float()
    return found


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
