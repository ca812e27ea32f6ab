"""Total variation: every step smooths the code as an image, and leaves its edges; for ``pixels:S``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isqrt
from typing import Self

import numpy as np
import onnx_ir as ir

from export.declared_prior import Options
from export.errors import InputError
from export.prior import CodePrior, Vector, decayed, filled
from export.vjp.emit import Emitter, shape_of

WEIGHT = 0.02
EPSILON = 0.05
"""Differences well below it are smoothed as by heat, so that the slope of ``|.|`` at 0 needs no case of its own."""


@dataclass(frozen=True)
class TotalVariationPrior(CodePrior):
    """``h <- mean + decay (h + weight div(grad h / sqrt(|grad h|^2 + EPSILON^2)) - mean)``, h as (3, S, S).

    A step down the total variation of each colour (Rudin, Osher and Fatemi 1992; as a prior of synthetic inputs
    Mahendran and Vedaldi 2015). Differences are forward ones, 0 across the border.

    Attributes:
        weight: (code_dim,) length of the smoothing step.
        decay: (code_dim,) what the distance to the mean is multiplied by after every step, 1 for none.
    """

    kind = "total-variation"
    weight: Vector
    decay: Vector

    def check(self, origin: str) -> Self:
        """As every prior, and see that the code is a square image of three colours."""
        checked = super().check(origin)
        side = isqrt(self.code_dim // 3)
        if 3 * side * side != self.code_dim:
            raise InputError(
                f"{origin}: total variation needs a code that is an image, 3 x S x S, not {self.code_dim} numbers; "
                "use it with pixels:S"
            )
        return checked

    def constrain(self, code: Vector) -> Vector:
        return code.astype(np.float32)

    def emit(self, e: Emitter, code: ir.Value, share: ir.Value | None = None) -> ir.Value:
        batch, length = shape_of(code)
        side = isqrt(length // 3)
        image = e.reshape(code, (batch, 3, side, side))
        across = [self._difference(e, image, axis, side) for axis in (2, 3)]
        square = e.op("Add", *(e.op("Mul", d, d) for d in across))
        norm = e.op("Sqrt", e.op("Add", square, e.const(EPSILON**2, like=square)))
        parts = [self._divergence(e, e.op("Div", d, norm), axis, side) for axis, d in zip((2, 3), across, strict=True)]
        step = e.reshape(e.op("Add", *parts), (batch, length))
        smoothing = e.op("Mul", step, e.const(self.weight[None]))
        moved = e.op("Add", code, smoothing if share is None else e.op("Mul", smoothing, share))
        return decayed(e, moved, self.decay, self.mean, share)

    @staticmethod
    def _difference(e: Emitter, image: ir.Value, axis: int, side: int) -> ir.Value:
        """``image[i + 1] - image[i]``, 0 at the end."""
        inner = e.op("Sub", e.slice(image, axis, 1, side), e.slice(image, axis, 0, side - 1))
        return e.pad(inner, (0, 0, 0, 0), tuple(int(a == axis) for a in range(4)))

    @staticmethod
    def _divergence(e: Emitter, flow: ir.Value, axis: int, side: int) -> ir.Value:
        """``flow[i] - flow[i - 1]``, nothing flowing in at the start."""
        before = e.pad(e.slice(flow, axis, 0, side - 1), tuple(int(a == axis) for a in range(4)), (0, 0, 0, 0))
        return e.op("Sub", flow, before)

    def with_decay(self, decay: float) -> Self:
        return replace(self, decay=filled(self, decay))

    @classmethod
    def from_options(cls, options: Options) -> Self:
        """``weight``: 0.02 by default; ``decay``: 1 by default."""
        mean, std = options.mean_and_std()
        weight = options.number("weight", WEIGHT)
        decay = options.number("decay", 1.0, high=1.0)
        weights, decays = (np.full(options.code_dim, number, np.float32) for number in (weight, decay))
        return cls(mean, std, weights, decays)


PRIOR = TotalVariationPrior
