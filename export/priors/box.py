"""Box: every component stays between the bounds that training images reached, and decays towards 0."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import onnx_ir as ir

from export.declared_prior import Options
from export.prior import CodePrior, Vector, clipped, decayed, filled
from export.vjp.emit import Emitter

SIGMAS = 3.0
DECAY = 0.99


@dataclass(frozen=True)
class BoxPrior(CodePrior):
    """``h <- decay * clip(h, low, high)``, as in the published program (Nguyen et al. 2016).

    Attributes:
        low: (code_dim,) lower bound, -inf for none.
        high: (code_dim,) upper bound, inf for none; the published one is mean + 3 std of ReLU features.
        decay: (code_dim,) what the code is multiplied by after every step, 1 for none.
    """

    kind = "box"
    low: Vector
    high: Vector
    decay: Vector

    def constrain(self, code: Vector) -> Vector:
        return np.clip(code, self.low, self.high).astype(np.float32)

    def emit(self, e: Emitter, code: ir.Value) -> ir.Value:
        return decayed(e, clipped(e, code, self.low, self.high), self.decay)

    def with_decay(self, decay: float) -> Self:
        return replace(self, decay=filled(self, decay))

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
