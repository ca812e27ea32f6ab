"""Code priors: what keeps a code where its generator was trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from export.errors import InputError

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True)
class CodePrior:
    """Per-component statistics and bounds of a generator's code. Every field is (code_dim,) float32.

    Attributes:
        mean: mean over encoded training images; where ascent starts.
        std: standard deviation over encoded training images.
        low: lower bound, -inf for none.
        high: upper bound, inf for none.
        decay: what the code is multiplied by after every step, 1 for none.
    """

    mean: Vector
    std: Vector
    low: Vector
    high: Vector
    decay: Vector

    @property
    def code_dim(self) -> int:
        return len(self.mean)

    def save(self, path: Path) -> None:
        names = ("mean", "std", "low", "high", "decay")
        arrays: dict[str, Any] = {name: getattr(self, name) for name in names}
        np.savez(path, **arrays)

    @classmethod
    def load(cls, path: Path) -> CodePrior:
        """Read a prior written by :meth:`save`.

        Raises:
            InputError: the file is missing or unreadable, an array is missing, of another length or not finite, or a
                low bound lies above its high bound.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                fields = {name: np.asarray(file[name], np.float32) for name in ("mean", "std", "low", "high", "decay")}
        except FileNotFoundError:
            raise InputError(f"code statistics not found: {path}") from None
        except Exception as error:
            raise InputError(f"{path} does not hold code statistics (mean, std, low, high, decay): {error}") from error
        lengths = {name: array.shape for name, array in fields.items()}
        if len(set(lengths.values())) != 1 or fields["mean"].ndim != 1:
            raise InputError(f"{path}: code statistics of different shapes: {lengths}")
        for name in ("mean", "std", "decay"):
            if not np.isfinite(fields[name]).all():
                raise InputError(f"{path}: {name} holds values that are not finite")
        if not (fields["low"] <= fields["high"]).all():
            raise InputError(f"{path}: a lower bound lies above its upper bound")
        return cls(**fields)
