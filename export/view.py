"""The view: how the network looks at the generator's image. Resize, crop, zoom and jitter, as one matrix per axis.

A bilinear resize by a sub-pixel shift is linear and separable: ``out = Y @ image @ X^T`` per channel. A table of such
matrices, one per offset and zoom, turns jitter into a Gather and two small matrix products that every runtime has.
Rotation does not separate; it comes before, see :mod:`export.rotation`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from export.cone.regions import Span
from export.errors import ModelError
from export.rotation import Rotation, make_rotation

JITTER_PERIOD = 5
"""The last step of every JITTER_PERIOD, and the last of all, look without jitter; only those are recorded."""
NUM_ZOOMS = 5
"""Magnifications drawn from, evenly spaced from the smallest to the largest."""
NO_ZOOM = (1.0, 1.0)
ZOOM_OF_CLASSES = (1.0, 2.0)
"""By default, for units without positions: what shows a class shows it from nearer too."""


@dataclass(frozen=True)
class View:
    """Matrices and, per step, which to use.

    Attributes:
        rows: (offsets, network height, image_px) float32.
        columns: (offsets, network width, image_px) float32.
        row_of_step: (steps,) int64 index into ``rows``.
        column_of_step: (steps,) int64 index into ``columns``.
        still: index of the offset 0 at zoom 1.
        rotation: of the generator's image before the matrices; None for none.
    """

    rows: npt.NDArray[np.float32]
    columns: npt.NDArray[np.float32]
    row_of_step: npt.NDArray[np.int64]
    column_of_step: npt.NDArray[np.int64]
    still: int
    rotation: Rotation | None = None

    def is_identity(self) -> bool:
        return self.rotation is None and all(
            np.array_equal(m, np.eye(m.shape[2])[None]) for m in (self.rows, self.columns)
        )

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
        turning = self.rotation is not None and not still  # then any pixel may come anywhere
        by_row, top = _part(self.rows[offsets], rows, everything=turning)
        by_column, left = _part(self.columns[offsets], columns, everything=turning)
        return View(by_row, by_column, self.row_of_step, self.column_of_step, self.still, self.rotation), (top, left)

    def steady(self) -> npt.NDArray[np.bool_]:
        """(steps,) whether a step looks without jitter, zoom and rotation."""
        steady: npt.NDArray[np.bool_] = (self.row_of_step == self.still) & (self.column_of_step == self.still)
        return steady if self.rotation is None else steady & (self.rotation.of_step == self.rotation.still)


def _part(matrices: npt.NDArray[np.float32], span: Span, *, everything: bool) -> tuple[npt.NDArray[np.float32], Span]:
    own = matrices[:, span[0] : span[1]]
    if everything:
        return np.ascontiguousarray(own), (0, own.shape[2])
    used = np.flatnonzero(own.any(axis=(0, 1)))
    first, last = int(used[0]), int(used[-1]) + 1
    return np.ascontiguousarray(own[:, :, first:last]), (first, last)


def resize_matrix(size: int, out: int, shift: float = 0.0, zoom: float = 1.0) -> npt.NDArray[np.float32]:
    """Bilinear resize of ``size`` samples to ``out``, shifted by ``shift`` output pixels; (out, size), rows sum to 1.

    ``zoom`` enlarges about the centre.

    Half-pixel centres (``align_corners=False``); enlarging repeats the edges, reducing averages what lies inside (the
    triangle is widened), as PyTorch's antialiased resize does.
    """
    scale = size / out
    return _sampled((np.arange(out) + 0.5 + shift) * scale - 0.5, size, scale, zoom)


def _sampled(centre: npt.NDArray[np.floating], size: int, scale: float, zoom: float) -> npt.NDArray[np.float32]:
    """Bilinear samples at ``centre``, ``scale`` input samples apart, zoomed about the middle of the input."""
    if zoom != 1:
        middle = (size - 1) / 2
        centre, scale = middle + (centre - middle) / zoom, scale / zoom
    width = max(scale, 1.0)
    matrix = np.zeros((len(centre), size), np.float64)
    for row, c in enumerate(centre):
        taps = np.arange(int(np.floor(c - width)), int(np.ceil(c + width)) + 1)
        weights = np.maximum(0.0, 1.0 - np.abs(taps - c) / width)
        inside = (taps >= 0) & (taps < size)
        if scale > 1 and (weights * inside).any():
            weights = weights * inside
        np.add.at(matrix[row], np.clip(taps, 0, size - 1), weights)
    rows: npt.NDArray[np.float32] = (matrix / matrix.sum(axis=1, keepdims=True)).astype(np.float32)
    return rows


def crop_matrix(size: int, out: int, shift: int = 0, zoom: float = 1.0) -> npt.NDArray[np.float32]:
    """Centre crop of ``out`` of ``size`` samples, moved by ``shift``; (out, size) with a single 1 per row.

    ``zoom`` enlarges about the centre of the image; other than 1 it interpolates.
    """
    start = (size - out) // 2 + shift
    if zoom != 1:
        return _sampled(start + np.arange(out, dtype=np.float64), size, 1.0, zoom)
    matrix = np.zeros((out, size), np.float32)
    matrix[np.arange(out), np.clip(start + np.arange(out), 0, size - 1)] = 1.0
    return matrix


def make_view(
    image_px: int,
    height: int,
    width: int,
    *,
    fit: str,
    jitter_px: int,
    steps: int,
    seed: int = 0,
    zoom: tuple[float, float] = NO_ZOOM,
    rotate_deg: float = 0.0,
) -> View:
    """Make the view of a network input of (height, width) on a generator image.

    Args:
        image_px: side of the generator's image.
        height: of the network's input.
        width: of the network's input.
        fit: ``resize``, or ``crop`` (the published settings crop 256 to 224 or 227).
        jitter_px: largest shift in network pixels, both ways.
        steps: length of the schedule.
        seed: of the jitter sequence, the same for every job.
        zoom: smallest and largest magnification, about the centre.
        rotate_deg: largest angle, both ways.

    Raises:
        ModelError: a crop larger than the image.
    """
    if fit == "crop" and max(height, width) > image_px:
        raise ModelError(
            f"the generator's image ({image_px} px) does not fit the network: it is smaller than the network's input "
            f'({height}x{width}), so it cannot be cropped; use fit = "resize"'
        )
    matrix = crop_matrix if fit == "crop" else resize_matrix
    rng = np.random.default_rng(seed)
    still = np.arange(steps) % JITTER_PERIOD == JITTER_PERIOD - 1
    still[-1] = True
    offsets = rng.integers(-jitter_px, jitter_px + 1, size=(2, steps))
    zooms = np.ones(steps)
    if zoom != NO_ZOOM:
        zooms = np.linspace(*zoom, NUM_ZOOMS)[rng.integers(0, NUM_ZOOMS, size=steps)]
    offsets[:, still], zooms[still] = 0, 1.0
    rotation = make_rotation(rotate_deg, steps, still, rng) if rotate_deg else None
    keys = [[(int(shift), float(z)) for shift, z in zip(axis, zooms, strict=True)] for axis in offsets]
    if zoom != NO_ZOOM:
        looks = sorted({key for axis in keys for key in axis} | {(0, 1.0)})
    else:
        looks = [(shift, 1.0) for shift in range(-jitter_px, jitter_px + 1)]
    place = {look: number for number, look in enumerate(looks)}
    row_of_step, column_of_step = (np.asarray([place[key] for key in axis], np.int64) for axis in keys)
    rows, columns = (np.stack([matrix(image_px, side, *look) for look in looks]) for side in (height, width))
    return View(rows, columns, row_of_step, column_of_step, place[(0, 1.0)], rotation)
