"""Code statistics: what turns an encoder's features into a code, and what keeps a code plausible."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from export.errors import InputError, ModelError
from export.generators.architecture import GeneratorConfig
from export.generators.encoder import Encoder, Features
from export.priors.sphere import SpherePrior

PACE_BY_PLACE, PACE_OF_MAP = (0.5, 2.0), (1.0, 2.0)
"""Of the global and the spatial part, where a code has both: a code per position; components of the whole map.

Measured: docs/throughput.md for the first; for the second docs/generators.md.
"""
LEAST_STD = 1e-3


@dataclass
class CodeStatistics:
    """Measured on training images; a part that the code has not is None.

    Attributes:
        global_std: (G,) standard deviation of each pooled feature.
        global_mean: (G,) mean of the pooled features in units of ``global_std``.
        spatial_mean: (C,) mean of the spatial layer's channels; (C, grid, grid) where the whole map is whitened.
        whitening: (C, S) projection on the S leading principal components, each scaled to unit variance; of the
            whole map (C grid^2, S).
        basis: (S, spatial_dim grid^2) of components of the whole map: the map, whitened per position, that each of
            them stands for.
        candidates: (K, code_dim) codes that an ascent may start from; measured at the end of a training.
    """

    global_std: torch.Tensor | None
    global_mean: torch.Tensor | None
    spatial_mean: torch.Tensor | None
    whitening: torch.Tensor | None
    basis: torch.Tensor | None = None
    candidates: torch.Tensor | None = None

    def encode(self, features: Features, grid: int) -> torch.Tensor:
        """Features -> code (N, G + S * grid * grid)."""
        parts = []
        if self.global_std is not None:
            assert features.pooled is not None
            parts.append(features.pooled / self.global_std)
        if self.whitening is not None:
            assert features.spatial is not None
            assert self.spatial_mean is not None
            spatial = on_grid(features.spatial, grid)
            if self.spatial_mean.ndim == 3:
                parts.append((spatial - self.spatial_mean).flatten(1) @ self.whitening)
            else:
                centred = spatial - self.spatial_mean[:, None, None]
                parts.append(torch.einsum("nchw,cs->nshw", centred, self.whitening).flatten(1))
        return torch.cat(parts, dim=1)

    def to(self, device: torch.device | str) -> CodeStatistics:
        moved: dict[str, Any] = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in vars(self).items()}
        return CodeStatistics(**moved)


def on_grid(spatial: torch.Tensor, grid: int) -> torch.Tensor:
    """(N, C, h, w) averaged, or enlarged, to (N, C, grid, grid)."""
    return spatial if spatial.shape[2:] == (grid, grid) else F.adaptive_avg_pool2d(spatial, grid)


@torch.no_grad()
def measure_statistics(encoder: Encoder, batches: Iterable[torch.Tensor], shape: GeneratorConfig) -> CodeStatistics:
    """Measure :class:`CodeStatistics` on image batches, each (N, 3, H, W) in [0, 1].

    Raises:
        InputError: more spatial components than channels, or than the images tell apart.
        ModelError: features that are not finite.
    """
    pooled, maps = [], []
    for images in batches:
        features = encoder(images)
        if features.pooled is not None:
            pooled.append(features.pooled)
        if features.spatial is not None:
            maps.append(on_grid(features.spatial, shape.grid))
    if not all(bool(t.isfinite().all()) for t in (*pooled, *maps)):
        raise ModelError("the encoder's features are not finite; its weights or its card's mean and std are wrong")
    std = mean = centre = whitening = basis = None
    if pooled:
        p = torch.cat(pooled).double()
        deviation = p.std(dim=0).clamp_min(LEAST_STD)
        std, mean = deviation.float(), (p.mean(dim=0) / deviation).float()
    if maps:
        t = torch.cat(maps).double()
        centre, whitening = _whitening(t.permute(0, 2, 3, 1).flatten(0, 2), shape.spatial_dim)
        if shape.map_dim:
            centre = t.mean(dim=0)
            each = torch.einsum("nchw,cs->nshw", t - centre, whitening)
            if pooled:  # what is everywhere is in the global code: four fifths of the variance, and no layout
                each = each - each.mean(dim=(2, 3), keepdim=True)
            _, whole = _whitening(each.flatten(1), shape.map_dim)
            by_place = whole.reshape(shape.spatial_dim, shape.grid, shape.grid, shape.map_dim)
            whitening = torch.einsum("cs,shwk->chwk", whitening, by_place).flatten(0, 2)
            basis = torch.linalg.pinv(whole)
            basis = (basis / basis.square().sum(dim=0).mean().sqrt()).float()  # maps of variance 1
        centre, whitening = centre.float(), whitening.float()
    return CodeStatistics(std, mean, centre, whitening, basis)


def _whitening(pixels: torch.Tensor, components: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(mean (C,), projection (C, components)) of rows (n, C)."""
    if components > pixels.shape[1]:
        raise InputError(f"{components} spatial components are more than the {pixels.shape[1]} there are")
    mean = pixels.mean(dim=0)
    values, vectors = torch.linalg.eigh(torch.cov((pixels - mean).T))
    top = torch.argsort(values, descending=True)[:components]
    if not values[top[-1]] > 1e-9 * values[top[0]]:
        raise InputError(
            f"the training images span fewer than {components} components of the spatial layer; use more images, or "
            "fewer components with --spatial-dim"
        )
    vectors = vectors[:, top]
    largest = vectors[vectors.abs().argmax(dim=0), torch.arange(components, device=vectors.device)]
    whitening = vectors * torch.sign(largest) / values[top].sqrt()  # eigenvectors have no sign of their own
    return mean, whitening


def code_prior(statistics: CodeStatistics, shape: GeneratorConfig) -> SpherePrior:
    """Codes keep the length that those of images have: every component has a variance of 1, so sqrt(code_dim).

    The published method's box (0 to mean + 3 std of rectified features) holds no code together: in it an ascent may
    raise most features at once, as no image does.

    Raises:
        InputError: statistics of another length than the code.
    """
    parts = []
    if statistics.global_mean is not None:
        parts.append(statistics.global_mean.cpu().numpy().astype(np.float32))
    if statistics.whitening is not None:
        parts.append(np.zeros(shape.map_size, np.float32))
    mean = np.concatenate(parts)
    if len(mean) != shape.code_dim:
        raise InputError(f"the statistics describe codes of {len(mean)}, but the generator takes {shape.code_dim}")
    radius = np.asarray([len(mean) ** 0.5], np.float32)
    return SpherePrior(mean, np.ones_like(mean), radius).check("the training's statistics")


def code_pace(shape: GeneratorConfig) -> np.ndarray | None:
    """(code_dim,) what Adam's step along a component is multiplied by; None for a code of one part."""
    if not shape.global_dim or not shape.map_size:
        return None
    pace = PACE_OF_MAP if shape.map_dim else PACE_BY_PLACE
    return np.repeat(np.asarray(pace, np.float32), [shape.global_dim, shape.map_size])
