"""Truncated normal: codes stay within a number of standard deviations, as BigGAN's truncation trick samples them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import onnx_ir as ir

from export.declared_prior import Options
from export.prior import CodePrior, Vector, clipped, decayed, filled
from export.vjp.emit import Emitter

BOUND = 2.0


@dataclass(frozen=True)
class TruncatedNormalPrior(CodePrior):
    """``h <- mean + decay (clip(h, low, high) - mean)`` with ``low, high = mean -+ bound * std``.

    Brock, Donahue and Simonyan 2019 draw a component again when it lies beyond the bound; ascent is held at it.

    Attributes:
        low: (code_dim,) lower bound.
        high: (code_dim,) upper bound.
        decay: (code_dim,) what the distance to the mean is multiplied by after every step.
    """

    kind = "truncated-normal"
    low: Vector
    high: Vector
    decay: Vector

    def constrain(self, code: Vector) -> Vector:
        return np.clip(code, self.low, self.high).astype(np.float32)

    def emit(self, e: Emitter, code: ir.Value) -> ir.Value:
        return decayed(e, clipped(e, code, self.low, self.high), self.decay, self.mean)

    def with_decay(self, decay: float) -> Self:
        return replace(self, decay=filled(self, decay))

    @classmethod
    def from_options(cls, options: Options) -> Self:
        """``bound``: in standard deviations, 2 by default."""
        mean, std = options.mean_and_std()
        reach = np.float32(options.number("bound", BOUND)) * std
        decay = options.number("decay", 1.0, high=1.0)
        return cls(mean, std, mean - reach, mean + reach, np.full(options.code_dim, decay, np.float32))


PRIOR = TruncatedNormalPrior
