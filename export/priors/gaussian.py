"""Gaussian: every step pulls the code towards the mean, as the gradient of a normal log-density does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import onnx_ir as ir

from export.declared_prior import Options
from export.prior import CodePrior, Vector, decayed, filled
from export.vjp.emit import Emitter

DECAY = 0.99


@dataclass(frozen=True)
class GaussianPrior(CodePrior):
    """``h <- mean + decay (h - mean)``: a step of ``1 - decay`` along ``std^2 d/dh log N(h; mean, std)``.

    For VAE and diffusion decoders, whose codes were trained to be normal.

    Attributes:
        decay: (code_dim,) what the distance to the mean is multiplied by after every step.
    """

    kind = "gaussian"
    decay: Vector

    def constrain(self, code: Vector) -> Vector:
        return code.astype(np.float32)

    def emit(self, e: Emitter, code: ir.Value, share: ir.Value | None = None) -> ir.Value:
        return decayed(e, code, self.decay, self.mean, share)

    def with_decay(self, decay: float) -> Self:
        return replace(self, decay=filled(self, decay))

    @classmethod
    def from_options(cls, options: Options) -> Self:
        mean, std = options.mean_and_std()
        decay = options.number("decay", DECAY, high=1.0)
        return cls(mean, std, np.full(options.code_dim, decay, np.float32))


PRIOR = GaussianPrior
