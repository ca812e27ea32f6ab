"""Sphere: the whitened code keeps its length, as a normal vector of many components does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn, Self

import numpy as np
import onnx_ir as ir

from export.declared_prior import Options
from export.errors import InputError
from export.prior import CodePrior, Vector
from export.vjp.emit import Emitter, shape_of

TINY = 1e-12


@dataclass(frozen=True)
class SpherePrior(CodePrior):
    """``u = (h - mean) / std;  h <- mean + std * u * radius / |u|``.

    For generators trained on normal or normalised codes (StyleGAN's z): nearly all the mass of N(0, I) in D dimensions
    lies near the radius sqrt(D).

    Attributes:
        radius: (1,) length of the whitened code, sqrt(code_dim) unless declared.
    """

    kind = "sphere"
    radius: Vector

    def constrain(self, code: Vector) -> Vector:
        u = (code - self.mean) / self._spread
        length = np.sqrt(np.square(u, dtype=np.float64).sum(axis=-1, keepdims=True))
        return np.asarray(self.mean + self.std * u * (self.radius / np.maximum(length, TINY)), np.float32)

    def emit(self, e: Emitter, code: ir.Value, share: ir.Value | None = None) -> ir.Value:
        _, width = shape_of(code)
        plain = not self.mean.any() and bool((self.std == 1).all())
        u = code
        if not plain:
            u = e.op("Mul", e.op("Sub", code, e.const(self.mean[None])), e.const((1 / self._spread)[None]))
        # ONNX Runtime's sums depend on the slot in the last bit unless rows are a multiple of 16 floats
        square = e.pad(e.op("Mul", u, u), [0, 0], [0, -width % 16])
        length = e.op("Max", e.op("Sqrt", e.sum(square, [1])), e.const(np.asarray(TINY, np.float32)))
        scaled = e.op("Mul", u, e.op("Div", e.const(self.radius[None]), length))
        if plain:
            return scaled
        return e.op("Add", e.op("Mul", scaled, e.const(self.std[None])), e.const(self.mean[None]))

    @property
    def _spread(self) -> Vector:
        return np.maximum(self.std, np.float32(1e-6))

    def with_decay(self, decay: float) -> NoReturn:
        raise InputError("the sphere prior has no decay: its codes keep their length; leave decay out")

    @classmethod
    def from_options(cls, options: Options) -> Self:
        """``radius``: in standard deviations; sqrt(code_dim) by default."""
        mean, std = options.mean_and_std()
        radius = options.number("radius", float(options.code_dim) ** 0.5)
        return cls(mean, std, np.asarray([radius], np.float32))


PRIOR = SpherePrior
