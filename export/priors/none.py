"""None: the code is free; for pixel and Fourier images, and to see what a prior is worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn, Self

import numpy as np
import onnx_ir as ir

from export.declared_prior import Options
from export.errors import InputError
from export.prior import CodePrior, Vector
from export.vjp.emit import Emitter


@dataclass(frozen=True)
class NoPrior(CodePrior):
    """``h <- h``; mean and std say only where ascent starts."""

    kind = "none"

    def constrain(self, code: Vector) -> Vector:
        return code.astype(np.float32)

    def emit(self, e: Emitter, code: ir.Value, share: ir.Value | None = None) -> ir.Value:
        return code

    def with_decay(self, decay: float) -> NoReturn:
        raise InputError('the prior "none" has no decay; use "gaussian"')

    @classmethod
    def from_options(cls, options: Options) -> Self:
        return cls(*options.mean_and_std())


PRIOR = NoPrior
