"""Code priors: what keeps a code where its generator was trained.

A prior is a declared, swappable piece: it says where ascent starts, which codes are plausible, and what is done to a
code after every step, as nodes of the step graph. The kinds are the modules of :mod:`export.priors`.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from export.errors import InputError
from export.vjp.emit import Emitter

if TYPE_CHECKING:
    from export.declared_prior import Options

Vector = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float32]
NEVER_INFINITE = ("mean", "std", "decay", "radius")


@dataclass(frozen=True)
class CodePrior(ABC):
    """Base of the kinds. Every field of a kind is a float32 array; those of length code_dim are per component.

    Attributes:
        kind: name in configurations and files.
        mean: (code_dim,) mean over encoded training images; where ascent starts.
        std: (code_dim,) standard deviation over encoded training images, the spread of starts.
    """

    kind: ClassVar[str]
    mean: Vector
    std: Vector

    @property
    def code_dim(self) -> int:
        return len(self.mean)

    @abstractmethod
    def constrain(self, code: Vector) -> Vector:
        """The plausible code nearest to ``code``, (..., code_dim); for start codes, which are not decayed."""

    @abstractmethod
    def emit(self, e: Emitter, code: ir.Value, share: ir.Value | None = None) -> ir.Value:
        """Emit what happens to a code (batch, code_dim) after every step: the constraint, then the decay.

        Args:
            e: emitter of the step graph.
            code: (batch, code_dim).
            share: (batch, 1) in [0, 1], how much of its pull the prior exerts in this step; None for all of it. A
                constraint always holds.
        """

    @abstractmethod
    def with_decay(self, decay: float) -> Self:
        """The same prior with another decay of every component.

        Raises:
            InputError: the kind has none.
        """

    @classmethod
    @abstractmethod
    def from_options(cls, options: Options) -> Self:
        """Make one from a declaration; reads what it knows from ``options``."""

    def arrays(self) -> dict[str, Any]:
        """Everything that defines the prior, by name; ``kind`` is a string."""
        return {"kind": np.asarray(self.kind)} | {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`arrays`.

        Raises:
            KeyError: one is missing.
        """
        return cls(**{f.name: np.asarray(arrays[f.name], np.float32) for f in fields(cls)})

    def check(self, origin: str) -> Self:
        """Return the prior, or say what is wrong with it.

        Raises:
            InputError: arrays of different lengths or with values that are not finite, negative deviations, or a low
                bound above its high bound; ``origin`` names where they came from.
        """
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        shapes = {name: array.shape for name, array in own.items() if name != "radius"}
        if len(set(shapes.values())) != 1 or self.mean.ndim != 1 or not len(self.mean):
            raise InputError(f"{origin}: code statistics of different shapes: {shapes}")
        for name, array in own.items():
            if not np.isfinite(array).all() if name in NEVER_INFINITE else np.isnan(array).any():
                raise InputError(f"{origin}: {name} holds values that are not finite; measure the statistics again")
        if (self.std < 0).any():
            raise InputError(f"{origin}: std holds negative values; measure the statistics again")
        if "low" in own and not (own["low"] <= own["high"]).all():
            raise InputError(f"{origin}: a lower bound lies above its upper bound")
        return self

    def digest(self) -> str:
        """SHA-256 of everything that defines the prior."""
        sha = hashlib.sha256()
        for name, array in sorted(self.arrays().items()):
            sha.update(f"{name}{array.shape}".encode())
            sha.update(str(array).encode() if array.dtype.kind == "U" else array.astype("<f4").tobytes())
        return sha.hexdigest()

    def save(self, path: Path, pace: Vector | None = None, candidates: Matrix | None = None) -> None:
        """Write ``NAME.codes.npz``, with a generator's pace and candidates where it has them; see :func:`read_pace` and
        :func:`read_candidates`."""
        more: dict[str, Any] = {} if pace is None else {"pace": pace}
        more |= {} if candidates is None else {"candidates": candidates.astype(np.float16)}
        np.savez(path, **self.arrays(), **more)

    @staticmethod
    def load(path: Path) -> CodePrior:
        """Read a prior written by :meth:`save`. A file that names no kind is a box.

        Raises:
            InputError: the file is missing or unreadable, an array is missing, or see :meth:`check`.
        """
        from export.priors import kind_of

        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: np.asarray(file[name]) for name in file.files}
            kind = kind_of(str(arrays.get("kind", "box")))
            prior = kind.from_arrays(arrays)
        except FileNotFoundError:
            raise InputError(f"code statistics not found: {path}") from None
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        except Exception as error:
            raise InputError(f"{path} does not hold code statistics (mean, std, low, high, decay): {error}") from error
        return prior.check(str(path))


def decayed(
    e: Emitter, code: ir.Value, decay: Vector, centre: Vector | None = None, share: ir.Value | None = None
) -> ir.Value:
    """``centre + (1 - share (1 - decay)) (code - centre)``; nothing where every decay is 1."""
    if not (decay != 1).any():
        return code
    if share is not None:
        away = code if centre is None or not centre.any() else e.op("Sub", code, e.const(centre[None]))
        return e.op("Sub", code, e.op("Mul", share, e.op("Mul", away, e.const((1 - decay)[None]))))
    moved = e.op("Mul", code, e.const(decay[None]))
    if centre is None or not centre.any():
        return moved
    return e.op("Add", moved, e.const(((1 - decay) * centre).astype(np.float32)[None]))


def read_pace(path: Path, code_dim: int) -> Vector | None:
    """What Adam's step along a component of the code is multiplied by: ``pace`` of a ``NAME.codes.npz``, if it has one.

    Returns:
        (code_dim,) float32, or None for 1 everywhere.

    Raises:
        InputError: of another length, or not positive and finite.
    """
    with np.load(path, allow_pickle=False) as file:
        pace = np.asarray(file["pace"], np.float32) if "pace" in file.files else None
    if pace is not None and (pace.shape != (code_dim,) or not (np.isfinite(pace) & (pace > 0)).all()):
        raise InputError(f"{path}: pace must hold {code_dim} positive numbers, one per component of the code")
    return pace


def read_candidates(path: Path, prior: CodePrior) -> Matrix | None:
    """Codes to start from, made plausible: ``candidates`` of a ``NAME.codes.npz``, (K, code_dim), if it has them.

    Raises:
        InputError: of another length, or not finite.
    """
    with np.load(path, allow_pickle=False) as file:
        codes = np.asarray(file["candidates"], np.float32) if "candidates" in file.files else None
    if codes is None:
        return None
    if codes.ndim != 2 or codes.shape[1] != prior.code_dim or not len(codes) or not np.isfinite(codes).all():
        raise InputError(f"{path}: candidates must be rows of {prior.code_dim} finite numbers, but are {codes.shape}")
    return prior.constrain(codes)


def filled(prior: CodePrior, decay: float) -> Vector:
    return np.full(prior.code_dim, decay, np.float32)
