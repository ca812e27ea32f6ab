"""Joint: parts of the code with a prior each, such as BigGAN's noise and class embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NoReturn, Self

import numpy as np
import onnx_ir as ir

from export.declared_prior import Options
from export.errors import InputError
from export.prior import CodePrior, Vector
from export.vjp.emit import Emitter


@dataclass(frozen=True)
class JointPrior(CodePrior):
    """The code is the concatenation of the parts' codes; declared as a list, one table per part.

    Attributes:
        parts: in the order of the code.
    """

    kind = "joint"
    parts: tuple[CodePrior, ...]

    @classmethod
    def of(cls, parts: Sequence[CodePrior]) -> Self:
        mean, std = (np.concatenate([getattr(part, name) for part in parts]) for name in ("mean", "std"))
        return cls(mean, std, tuple(parts))

    def _spans(self) -> list[tuple[CodePrior, int, int]]:
        ends = np.cumsum([part.code_dim for part in self.parts]).tolist()
        return [(part, end - part.code_dim, end) for part, end in zip(self.parts, ends, strict=True)]

    def constrain(self, code: Vector) -> Vector:
        return np.concatenate([part.constrain(code[..., a:b]) for part, a, b in self._spans()], axis=-1)

    def emit(self, e: Emitter, code: ir.Value, share: ir.Value | None = None) -> ir.Value:
        kept = [part.emit(e, e.slice(code, 1, a, b), share) for part, a, b in self._spans()]
        return kept[0] if len(kept) == 1 else e.op("Concat", *kept, axis=1)

    def with_decay(self, decay: float) -> Self:
        return type(self).of([part.with_decay(decay) for part in self.parts])

    def check(self, origin: str) -> Self:
        for number, part in enumerate(self.parts):
            part.check(f"{origin}, part {number}")
        return self

    def arrays(self) -> dict[str, Any]:
        own = {"kind": np.asarray(self.kind), "count": np.asarray([len(self.parts)], np.float32)}
        return own | {f"{i}.{k}": v for i, part in enumerate(self.parts) for k, v in part.arrays().items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Self:
        from export.priors import kind_of

        parts = []
        for number in range(int(arrays["count"][0])):
            kind = kind_of(str(arrays[f"{number}.kind"]))
            parts.append(kind.from_arrays({f.name: arrays[f"{number}.{f.name}"] for f in fields(kind)}))
        return cls.of(parts)

    @classmethod
    def from_options(cls, options: Options) -> NoReturn:
        raise InputError("is declared as a list of priors, one per part of the code")


PRIOR = JointPrior
