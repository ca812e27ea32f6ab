"""Codes that an ascent may start from: centres of the codes of training images.

A centre is a mean of the codes of several images that show like things: plausible, and no image's own code.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

NUM_IMAGES = 8192
"""Whose codes are grouped."""
NUM_CANDIDATES = 512
LEAST_MEMBERS = 4
"""A group of fewer images is left out: its centre would be nearly one image's code."""
ROUNDS = 15


@torch.no_grad()
def code_candidates(codes: torch.Tensor, global_dim: int, seed: int) -> torch.Tensor:
    """Centres of groups of like codes, by spherical k-means (Dhillon and Modha 2001) on the codes less their mean.

    Args:
        codes: (n, code_dim) of training images.
        global_dim: components that say what is there; what is like is decided by them, where there are any.
        seed: chooses the first centres.

    Returns:
        (K, code_dim), K at most NUM_CANDIDATES; the mean of all codes where no group has LEAST_MEMBERS.
    """
    what = codes[:, : global_dim or codes.shape[1]].double()
    what = F.normalize(what - what.mean(dim=0), dim=1)
    rng = torch.Generator().manual_seed(seed)
    first = torch.randperm(len(codes), generator=rng)[:NUM_CANDIDATES].to(codes.device)
    centres = what[first]
    for _ in range(ROUNDS):
        group = (what @ centres.T).argmax(dim=1)
        centres = F.normalize(torch.zeros_like(centres).index_add_(0, group, what) + 1e-9 * centres, dim=1)
    group = (what @ centres.T).argmax(dim=1)
    size = torch.bincount(group, minlength=len(centres))
    means = codes.new_zeros(len(centres), codes.shape[1]).index_add_(0, group, codes) / size.clamp_min(1)[:, None]
    kept = means[size >= LEAST_MEMBERS]
    return kept if len(kept) else codes.mean(dim=0, keepdim=True)
