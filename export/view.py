"""The view: how the network looks at the generator's image. Resize, crop and jitter, as one matrix per axis.

A bilinear resize by a sub-pixel shift is linear and separable: ``out = Y @ image @ X^T`` per channel. A table of such
matrices, one per offset, turns jitter into a Gather and two small matrix products that every runtime has.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from export.cone.regions import Span
from export.errors import ModelError

JITTER_PERIOD = 5
"""The last step of every JITTER_PERIOD looks without jitter; only those steps are recorded."""


@dataclass(frozen=True)
class View:
    """Matrices and, per step, which to use.

    Attributes:
        rows: (offsets, network height, image_px) float32.
        columns: (offsets, network width, image_px) float32.
        row_of_step: (steps,) int64 index into ``rows``.
        column_of_step: (steps,) int64 index into ``columns``.
        still: index of the offset 0.
    """

    rows: npt.NDArray[np.float32]
    columns: npt.NDArray[np.float32]
    row_of_step: npt.NDArray[np.int64]
    column_of_step: npt.NDArray[np.int64]
    still: int

    def is_identity(self) -> bool:
        return all(np.array_equal(m, np.eye(m.shape[2])[None]) for m in (self.rows, self.columns))

    def part(self, rows: Span, columns: Span, *, still: bool = False) -> tuple[View, tuple[Span, Span]]:
        """The view of rows and columns ``[first, last)`` of the network's input.

        Args:
            rows: of the network's input.
            columns: of the network's input.
            still: leave the jitter out.

        Returns:
            The smaller view, and the rows and columns of the generator's image that it reads, at any offset.
        """
        offsets = slice(self.still, self.still + 1) if still else slice(None)
        by_row, top = _part(self.rows[offsets], rows)
        by_column, left = _part(self.columns[offsets], columns)
        return View(by_row, by_column, self.row_of_step, self.column_of_step, self.still), (top, left)

    def steady(self) -> npt.NDArray[np.bool_]:
        """(steps,) whether a step looks without jitter."""
        steady: npt.NDArray[np.bool_] = (self.row_of_step == self.still) & (self.column_of_step == self.still)
        return steady


def _part(matrices: npt.NDArray[np.float32], span: Span) -> tuple[npt.NDArray[np.float32], Span]:
    own = matrices[:, span[0] : span[1]]
    used = np.flatnonzero(own.any(axis=(0, 1)))
    first, last = int(used[0]), int(used[-1]) + 1
    return np.ascontiguousarray(own[:, :, first:last]), (first, last)


def resize_matrix(size: int, out: int, shift: float = 0.0) -> npt.NDArray[np.float32]:
    """Bilinear resize of ``size`` samples to ``out``, shifted by ``shift`` output pixels; (out, size), rows sum to 1.

    Half-pixel centres (``align_corners=False``); enlarging repeats the edges, reducing averages what lies inside (the
    triangle is widened), as PyTorch's antialiased resize does.
    """
    scale = size / out
    centre = (np.arange(out) + 0.5 + shift) * scale - 0.5
    width = max(scale, 1.0)
    matrix = np.zeros((out, size), np.float64)
    for row, c in enumerate(centre):
        taps = np.arange(int(np.floor(c - width)), int(np.ceil(c + width)) + 1)
        weights = np.maximum(0.0, 1.0 - np.abs(taps - c) / width)
        inside = (taps >= 0) & (taps < size)
        if scale > 1 and (weights * inside).any():
            weights = weights * inside
        np.add.at(matrix[row], np.clip(taps, 0, size - 1), weights)
    rows: npt.NDArray[np.float32] = (matrix / matrix.sum(axis=1, keepdims=True)).astype(np.float32)
    return rows


def crop_matrix(size: int, out: int, shift: int = 0) -> npt.NDArray[np.float32]:
    """Centre crop of ``out`` of ``size`` samples, moved by ``shift``; (out, size) with a single 1 per row."""
    start = (size - out) // 2 + shift
    matrix = np.zeros((out, size), np.float32)
    matrix[np.arange(out), np.clip(start + np.arange(out), 0, size - 1)] = 1.0
    return matrix


def make_view(image_px: int, height: int, width: int, *, fit: str, jitter_px: int, steps: int, seed: int = 0) -> View:
    """Make the view of a network input of (height, width) on a generator image.

    Args:
        image_px: side of the generator's image.
        height: of the network's input.
        width: of the network's input.
        fit: ``resize``, or ``crop`` (the published settings crop 256 to 224 or 227).
        jitter_px: largest shift in network pixels, both ways.
        steps: length of the schedule.
        seed: of the jitter sequence, the same for every job.

    Raises:
        ModelError: a crop larger than the image.
    """
    if fit == "crop" and max(height, width) > image_px:
        raise ModelError(
            f"the generator's image ({image_px} px) does not fit the network: it is smaller than the network's input "
            f'({height}x{width}), so it cannot be cropped; use fit = "resize"'
        )
    shifts = range(-jitter_px, jitter_px + 1)
    matrix = crop_matrix if fit == "crop" else resize_matrix
    rows = np.stack([matrix(image_px, height, s) for s in shifts])
    columns = np.stack([matrix(image_px, width, s) for s in shifts])
    rng = np.random.default_rng(seed)
    offsets = rng.integers(0, len(rows), size=(2, steps))
    offsets[:, np.arange(steps) % JITTER_PERIOD == JITTER_PERIOD - 1] = jitter_px
    return View(rows, columns, offsets[0].astype(np.int64), offsets[1].astype(np.int64), jitter_px)
