"""Truncated normal: codes stay within a number of standard deviations, as BigGAN's truncation trick samples them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from export.declared_prior import Options
from export.prior import Vector
from export.priors.bounded import BoundedPrior

BOUND = 2.0


@dataclass(frozen=True)
class TruncatedNormalPrior(BoundedPrior):
    """``h <- mean + decay (clip(h, low, high) - mean)`` with ``low, high = mean -+ bound * std``.

    Brock, Donahue and Simonyan 2019 draw a component again when it lies beyond the bound; ascent is held at it.
    """

    kind = "truncated-normal"

    @property
    def centre(self) -> Vector:
        return self.mean

    @classmethod
    def from_options(cls, options: Options) -> Self:
        """``bound``: in standard deviations, 2 by default."""
        mean, std = options.mean_and_std()
        reach = np.float32(options.number("bound", BOUND)) * std
        decay = options.number("decay", 1.0, high=1.0)
        return cls(mean, std, mean - reach, mean + reach, np.full(options.code_dim, decay, np.float32))


PRIOR = TruncatedNormalPrior
