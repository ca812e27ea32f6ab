"""Losses of a generator's training, and how images are prepared for them."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def normalised(taps: list[torch.Tensor], scales: list[torch.Tensor]) -> list[torch.Tensor]:
    """Maps (N, C, H, W) whose channels have a root mean square of about 1 on photographs."""
    return [t.float() / s[:, None, None] for t, s in zip(taps, scales, strict=True)]


def commonness(images: torch.Tensor) -> torch.Tensor:
    """The mean cosine between the details of two images, (N, 3, S, S) -> (): about 0 of photographs.

    Details are what differs from the mean over an eighth of the image around. A pattern that stands at one place in
    every image makes them alike; no loss of single images sees that. Over pairs of different images:
    ``(|sum_i h_i|^2 - N) / (N (N - 1))``, h of length 1.
    """
    side = images.shape[-1] // 8 // 2 * 2 + 1
    around = images
    for kernel, pad in (((side, 1), (side // 2, 0)), ((1, side), (0, side // 2))):
        around = F.avg_pool2d(around, kernel, stride=1, padding=pad, count_include_pad=False)
    details = F.normalize((images - around).flatten(1), dim=1)
    count = len(details)
    return (details.sum(dim=0).square().sum() - count) / (count * (count - 1))


def agreement(seen: torch.Tensor, witnessed: torch.Tensor) -> torch.Tensor:
    """Mean divergence between the classes that the encoder and the witness see, in nats.

    Args:
        seen: (N, U) the encoder's logits, which are taken as they are.
        witnessed: (N, U) the witness's.

    Returns:
        (), ``mean_i KL(softmax(seen_i) | softmax(witnessed_i))``.
    """
    wanted = seen.detach().float().softmax(1)
    return F.kl_div(witnessed.float().log_softmax(1), wanted, reduction="batchmean")


def seen_at(images: torch.Tensor, native_px: torch.Tensor) -> torch.Tensor:
    """Every image as it is when stored at ``native_px``: averaged down and enlarged again.

    An image of little detail is thus compared with what the generator makes at the same detail, and does not teach it
    to blur.
    """
    side = images.shape[-1]
    for px in sorted({int(p) for p in native_px if p < side}):
        small = F.interpolate(images, size=(px, px), mode="area")
        low = F.interpolate(small, size=(side, side), mode="bilinear", align_corners=False)
        images = torch.where((native_px == px).to(images.device)[:, None, None, None], low, images)
    return images.contiguous(memory_format=torch.channels_last)


def seen_from(images: torch.Tensor, nearest: float, rng: torch.Generator) -> torch.Tensor:
    """A part of every image (N, 3, S, S), enlarged to the same size by 1 to ``nearest``: each its own, anywhere."""
    if nearest == 1:
        return images
    draws = torch.rand(len(images), 3, generator=rng).to(images)
    share = 1 / (1 + (nearest - 1) * draws[:, :1])
    shift = (1 - share) * (2 * draws[:, 1:] - 1)
    turn = torch.eye(2).to(images) * share[:, None]
    grid = F.affine_grid(torch.cat([turn, shift[:, :, None]], dim=2), list(images.shape), align_corners=False)
    seen = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return seen.contiguous(memory_format=torch.channels_last)
