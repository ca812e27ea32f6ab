"""Box: every component stays between the bounds that training images reached, and decays towards 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from export.declared_prior import Options
from export.priors.bounded import BoundedPrior

SIGMAS = 3.0
DECAY = 0.99


@dataclass(frozen=True)
class BoxPrior(BoundedPrior):
    """``h <- decay * clip(h, low, high)``, as in the published program (Nguyen et al. 2016).

    The published bounds are 0 and mean + 3 std of ReLU features.
    """

    kind = "box"

    @classmethod
    def from_options(cls, options: Options) -> Self:
        """``low``, ``high``: numbers or files; by default the generator's own, else mean -+ 3 std."""
        mean, std = options.mean_and_std()
        own = options.statistics
        bounds = (own.low, own.high) if isinstance(own, BoxPrior) else (mean - SIGMAS * std, mean + SIGMAS * std)
        low, high = options.vector("low", bounds[0]), options.vector("high", bounds[1])
        decay = options.number("decay", DECAY, high=1.0)
        return cls(mean, std, low, high, np.full(options.code_dim, decay, np.float32))


PRIOR = BoxPrior
