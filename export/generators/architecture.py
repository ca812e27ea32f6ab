"""The generators we train: a code of global features, a small spatial map, or both, to an RGB image.

No batch statistics anywhere: a job's image must not depend on the rest of its batch. Normalisation is a per-pixel
root-mean-square over channels; the global code modulates every normalised map (FiLM).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from export.errors import InputError

WIDTHS = (256, 192, 112, 56, 32, 16)
"""Channels from the coarsest resolution on."""


@dataclass(frozen=True)
class GeneratorConfig:
    """Shape of the generator.

    Attributes:
        global_dim: length of the global code (pooled encoder features), 0 for none.
        spatial_dim: channels of the spatial code, 0 for none.
        grid: side of the spatial code.
        map_dim: components of the whole spatial map, 0 for a code per position (``spatial_dim``).
        style_dim: width of the style vector that modulates every stage.
        widths: channels at base, 2 base, 4 base, ...; the output side is ``base * 2 ** (len(widths) - 1)``.
        base: the generator's coarsest side, to which the spatial code is enlarged; None for that of the code.
        layout: of a hybrid code, the global part too says where things are, as far as the codes differ in that.

    Components of the whole map are smooth patterns over the image. A code per position lets an ascent change every
    position by itself: its images fall apart into the grid's squares.
    """

    global_dim: int = 1280
    spatial_dim: int = 32
    grid: int = 4
    style_dim: int = 512
    widths: tuple[int, ...] = WIDTHS
    base: int | None = None
    layout: bool = False
    map_dim: int = 0

    @property
    def coarsest(self) -> int:
        return self.grid if self.base is None else self.base

    @property
    def map_size(self) -> int:
        """Components of the code that say where things are."""
        return self.map_dim or self.spatial_dim * self.grid**2

    @property
    def code_dim(self) -> int:
        return self.global_dim + self.map_size

    @property
    def image_px(self) -> int:
        side: int = self.coarsest * 2 ** (len(self.widths) - 1)
        return side

    @classmethod
    def for_image(
        cls,
        image_px: int,
        *,
        global_dim: int,
        spatial_dim: int,
        map_dim: int = 0,
        style_dim: int = 512,
        grid: int | None = None,
    ) -> GeneratorConfig:
        """The shape whose output has ``image_px`` a side: a coarsest side of 4 to 7, that of the code, and doublings.

        Raises:
            InputError: no such grid doubles to ``image_px``, or the code is empty.
        """
        if not global_dim and not spatial_dim:
            raise InputError("the code is empty: give a global layer, a spatial layer, or both")
        for base in range(4, 8):
            doublings = (image_px // base).bit_length() - 1
            if image_px == base * 2**doublings and doublings >= 2:
                widths = (WIDTHS + (WIDTHS[-1],) * doublings)[: doublings + 1]
                layout = bool(global_dim and spatial_dim)
                return cls(global_dim, spatial_dim, grid or base, style_dim, widths, base, layout, map_dim)
        raise InputError(
            f"no generator gives {image_px} px; the side is 4, 5, 6 or 7 times a power of two: 64, 96, 128, 224"
        )


class ModulatedNorm(nn.Module):
    """``y = x / rms_C(x) * (1 + scale(z)) + shift(z)``, then leaky ReLU 0.2. x is (N, C, H, W), z is (N, style)."""

    def __init__(self, channels: int, style_dim: int) -> None:
        super().__init__()
        self.affine = nn.Linear(style_dim, 2 * channels)
        nn.init.normal_(self.affine.weight, std=0.02)
        nn.init.zeros_(self.affine.bias)

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        scale, shift = self.affine(z)[:, :, None, None].chunk(2, dim=1)
        x = x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-6)
        return F.leaky_relu(x * (1 + scale) + shift, 0.2)


class Stage(nn.Module):
    """A residual pair of 3x3 convolutions, after a nearest-neighbour doubling if ``up``; (N, C, H, W) in and out."""

    def __init__(self, inputs: int, outputs: int, style_dim: int, *, up: bool) -> None:
        super().__init__()
        self.up = up
        self.norm1 = ModulatedNorm(inputs, style_dim)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = ModulatedNorm(outputs, style_dim)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else nn.Identity()

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        skip = self.skip(x)
        y = self.norm1(x, z)  # before the doubling: a quarter of the work
        if self.up:
            skip, y = (F.interpolate(t, scale_factor=2.0, mode="nearest") for t in (skip, y))
        out: torch.Tensor = skip + self.conv2(self.norm2(self.conv1(y), z))
        return out


class LastStage(nn.Module):
    """Doubling, one 3x3 convolution, and the colours: the finest resolution is where arithmetic is dear."""

    def __init__(self, inputs: int, outputs: int, style_dim: int) -> None:
        super().__init__()
        self.norm = ModulatedNorm(inputs, style_dim)
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.rgb = nn.Conv2d(outputs, 3, 3, padding=1)
        self.rgb_skip = nn.Conv2d(inputs, 3, 1)

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        y = F.interpolate(self.norm(x, z), scale_factor=2.0, mode="nearest")
        skip = F.interpolate(self.rgb_skip(x), scale_factor=2.0, mode="nearest")
        out: torch.Tensor = skip + self.rgb(F.leaky_relu(self.conv(y), 0.2))
        return out


class HybridGenerator(nn.Module):
    """Code ``(N, code_dim)`` -> RGB image ``(N, 3, image_px, image_px)`` in [0, 1].

    The global code says what is there, the spatial code where. With ``layout`` the global code has a say in where, too:
    without, an ascent, which starts at the spatial code's mean, has nothing to build on, and repeats the pattern of
    that mean. Its layout has no bias: with one, every image had an arc at the same place.

    Without a spatial code the global one has a layout of its own; without a global code the map's mean modulates.

    The first ``global_dim`` components of the code are the encoder's pooled features in units of their standard
    deviation; the rest is the whitened spatial map, ``(spatial_dim, grid, grid)`` flattened or ``map_dim`` components.
    """

    basis: torch.Tensor
    """Of components of the whole map, (map_dim, spatial_dim grid^2): the map that each stands for."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        first = config.widths[0]
        self.style = nn.Sequential(
            nn.Linear(config.global_dim or config.spatial_dim, config.style_dim),
            nn.LeakyReLU(0.2),
            nn.Linear(config.style_dim, config.style_dim),
            nn.LeakyReLU(0.2),
        )
        self.start = nn.Linear(config.style_dim, first if config.spatial_dim else first * config.coarsest**2)
        if config.spatial_dim:
            self.spatial = nn.Conv2d(config.spatial_dim, first, 3, padding=1)
            if config.map_dim:  # measured, not learned: components -> map
                self.register_buffer("basis", torch.zeros(config.map_dim, config.spatial_dim * config.grid**2))
            if config.layout:  # no bias: one would put something at the same place into every image
                self.layout = nn.Linear(config.style_dim, first * config.coarsest**2, bias=False)
                nn.init.normal_(self.layout.weight, std=0.02)  # styles have a mean: by chance it would be a bias
        self.stem = Stage(first, first, config.style_dim, up=False)
        self.stages = nn.ModuleList(
            Stage(a, b, config.style_dim, up=True) for a, b in zip(config.widths[:-2], config.widths[1:-1], strict=True)
        )
        self.last = LastStage(config.widths[-2], config.widths[-1], config.style_dim)

    def forward(self, code: torch.Tensor) -> torch.Tensor:
        c = self.config
        vector, flat = torch.split(code, [c.global_dim, c.map_size], dim=1)
        if c.spatial_dim:
            layout = (flat @ self.basis if c.map_dim else flat).reshape(-1, c.spatial_dim, c.grid, c.grid)
            z = self.style(vector if c.global_dim else layout.mean(dim=(2, 3)))
            x = self.spatial(layout)
            if c.coarsest != c.grid:
                x = F.interpolate(x, size=(c.coarsest, c.coarsest), mode="bilinear", align_corners=False)
            x = x + self.start(z)[:, :, None, None]
            if c.layout:
                x = x + self.layout(z).reshape(-1, c.widths[0], c.coarsest, c.coarsest)
        else:
            z = self.style(vector)
            x = self.start(z).reshape(-1, c.widths[0], c.coarsest, c.coarsest)
        x = self.stem(x, z)
        for stage in self.stages:
            x = stage(x, z)
        return torch.sigmoid(self.last(x, z))


class FeatureDiscriminator(nn.Module):
    """Spectrally normalised heads on frozen features: one map of scores per tapped stage, 4x4 or smaller.

    A head halves its map until few positions are left, so that it sees how the parts of an image stand to each other: a
    patchwork of plausible textures passes heads that only look at 3x3 positions.

    Args:
        shapes: (C, H, W) of every tapped stage.
        width: channels of a head.
    """

    FINEST, COARSEST = 32, 4

    def __init__(self, shapes: list[tuple[int, int, int]], width: int = 64) -> None:
        super().__init__()
        self.heads = nn.ModuleList(self._head(c, min(h, w), width) for c, h, w in shapes)

    @classmethod
    def _head(cls, channels: int, side: int, width: int) -> nn.Sequential:
        norm = nn.utils.parametrizations.spectral_norm
        patch = 2 if side > cls.FINEST else 1
        layers: list[nn.Module] = [norm(nn.Conv2d(channels, width, patch, stride=patch)), nn.LeakyReLU(0.2)]
        side //= patch
        while side > cls.COARSEST:
            layers += [norm(nn.Conv2d(width, width, 3, stride=2, padding=1)), nn.LeakyReLU(0.2)]
            side = (side + 1) // 2
        layers += [norm(nn.Conv2d(width, width, 3, padding=1)), nn.LeakyReLU(0.2), norm(nn.Conv2d(width, 1, 1))]
        return nn.Sequential(*layers)

    def forward(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        return [head(f) for head, f in zip(self.heads, features, strict=True)]
