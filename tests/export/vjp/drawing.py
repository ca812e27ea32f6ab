"""Constants and inputs of the cases."""

from __future__ import annotations

import numpy as np

rng = np.random.default_rng(7)
F = rng.normal  # F(size=...) draws a constant


def ints(*values: int) -> np.ndarray:
    return np.asarray(values, np.int64)


def scales(*values: float) -> np.ndarray:
    return np.asarray(values, np.float32)


def apart(*shape: int) -> np.ndarray:
    """Values 1/7 apart and away from 0, so that a maximum or a kink is not crossed by a step."""
    n = int(np.prod(shape))
    return (rng.permutation(n) - n / 2 + 0.5).reshape(shape) / 7
