"""Rotation of the view inside the step graph: three shears, each a few shifted copies weighted by row or column.

A rotation by t is ``shear_x(-tan(t/2)) shear_y(sin t) shear_x(-tan(t/2))`` (Paeth 1986). A shear moves every row by its
own distance; by linear interpolation that is a sum of whole-pixel shifts with per-row weights. So jobs of different age
turn by different angles in one batch, with nothing but Gather, Slice, Mul and Add, whose gradients every runtime has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from export.vjp.emit import Emitter, shape_of

NUM_ANGLES = 9
"""Angles of the table, from one end to the other, 0 in the middle."""
GREY = 0.5
"""What lies beyond the image's edge."""


@dataclass(frozen=True)
class Rotation:
    """Angles and, per step, which to use.

    Attributes:
        angles: (NUM_ANGLES,) radians; the middle one is 0.
        of_step: (steps,) int64 index into ``angles``.
    """

    angles: npt.NDArray[np.float64]
    of_step: npt.NDArray[np.int64]

    @property
    def still(self) -> int:
        return len(self.angles) // 2


def make_rotation(rotate_deg: float, steps: int, still: npt.NDArray[np.bool_], rng: np.random.Generator) -> Rotation:
    """Draw an angle within +-``rotate_deg`` per step; ``still`` (steps,) says where there is none."""
    angles = np.radians(np.linspace(-rotate_deg, rotate_deg, NUM_ANGLES))
    angles[NUM_ANGLES // 2] = 0.0
    of_step = rng.integers(0, NUM_ANGLES, size=steps)
    of_step[still] = NUM_ANGLES // 2
    return Rotation(angles, of_step.astype(np.int64))


def add_rotation(e: Emitter, image: ir.Value, rotation: Rotation, age: ir.Value) -> ir.Value:
    """Turn ``image`` (batch, 3, S, S) about its centre by the angle of each slot's step.

    Args:
        e: emitter of the step graph.
        image: canonical.
        rotation: the angles.
        age: (batch,) each slot's step.
    """
    index = e.op("Gather", e.const(rotation.of_step), age, axis=0)
    by_row = [-math.tan(t / 2) for t in rotation.angles]
    by_column = [math.sin(t) for t in rotation.angles]
    for slopes, axis in ((by_row, 3), (by_column, 2), (by_row, 3)):
        image = _shear(e, image, np.asarray(slopes), axis, index)
    return image


def shear_weights(slopes: npt.NDArray[np.float64], size: int) -> tuple[int, npt.NDArray[np.float32]]:
    """Weights of whole-pixel shifts -reach..reach: (reach, (2 reach + 1, angles, size)).

    Line ``r`` moves by ``slope (r - middle)``; the weights of a line add up to 1.
    """
    distance = slopes[:, None] * (np.arange(size) - (size - 1) / 2)
    reach = math.ceil(float(np.abs(distance).max()))
    shifts = np.arange(-reach, reach + 1)[:, None, None]
    return reach, np.maximum(0.0, 1.0 - np.abs(distance - shifts)).astype(np.float32)


def _shear(e: Emitter, image: ir.Value, slopes: npt.NDArray[np.float64], axis: int, index: ir.Value) -> ir.Value:
    """``out[r, c] = image[r, c + slope (r - middle)]`` along ``axis`` 3; rows and columns exchanged along 2."""
    size = shape_of(image)[axis]
    reach, weights = shear_weights(slopes, size)
    if reach == 0:
        return image
    amount = [reach if a == axis else 0 for a in range(4)]
    padded = e.pad(image, amount, amount, fill=GREY)
    total = None
    for shift, table in enumerate(weights):
        line = (len(table), 1, size, 1) if axis == 3 else (len(table), 1, 1, size)
        weight = e.op("Gather", e.const(table.reshape(line)), index, axis=0)
        part = e.op("Mul", e.slice(padded, axis, shift, shift + size), weight)
        total = part if total is None else e.op("Add", total, part)
    assert total is not None
    return total
