"""What the kinds with bounds share; no kind of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import onnx_ir as ir

from export.prior import CodePrior, Vector, decayed, filled
from export.vjp.emit import Emitter


@dataclass(frozen=True)
class BoundedPrior(CodePrior):
    """``h <- centre + decay (clip(h, low, high) - centre)``.

    Attributes:
        low: (code_dim,) lower bound, -inf for none.
        high: (code_dim,) upper bound, inf for none.
        decay: (code_dim,) what the distance to the centre is multiplied by after every step, 1 for none.
    """

    low: Vector
    high: Vector
    decay: Vector

    @property
    def centre(self) -> Vector | None:
        """(code_dim,) what the decay pulls towards, None for 0."""
        return None

    def constrain(self, code: Vector) -> Vector:
        return np.clip(code, self.low, self.high).astype(np.float32)

    def emit(self, e: Emitter, code: ir.Value, share: ir.Value | None = None) -> ir.Value:
        """Bounds that are infinite everywhere emit nothing."""
        if np.isfinite(self.low).any():
            code = e.op("Max", code, e.const(self.low[None]))
        if np.isfinite(self.high).any():
            code = e.op("Min", code, e.const(self.high[None]))
        return decayed(e, code, self.decay, self.centre, share)

    def with_decay(self, decay: float) -> Self:
        return replace(self, decay=filled(self, decay))
