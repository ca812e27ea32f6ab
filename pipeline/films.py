"""The film of a climb: what the picture was on its way, as one small WebP of square cells in a row.

The engine keeps the codes of a few polls (see :func:`engine.loop.run_jobs`); the worker makes the film, the store keeps
it, the site cuts it into cells. The last cell is the result. Where a unit sees little, the cells show that part.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from engine.loop import Frame
from export.manifest import Box

GROUND = "#808080"
"""Behind pictures that are not square."""

SMALL = 0.5
"""A receptive field at most this share of the image's side is shown enlarged, in place of the whole image."""

QUALITY, EFFORT = 70, 2
"""Of WebP."""


def visible(field: Box, side: int) -> Box:
    """A receptive field clipped to the image of this side; the whole image where nothing would be left."""
    box = Box(max(0, field.top), max(0, field.left), min(side, field.bottom), min(side, field.right))
    return box if box.top < box.bottom and box.left < box.right else Box(0, 0, side, side)


def is_small(field: Box, side: int) -> bool:
    """Whether a unit sees so little of the image that this part is shown enlarged."""
    box = visible(field, side)
    return max(box.bottom - box.top, box.right - box.left) <= SMALL * side


def make_film(frames: Sequence[Frame], result: npt.NDArray[np.uint8], field: Box, px: int) -> bytes:
    """A WebP of (len(frames) + 1) cells of ``px``; equal pictures make equal bytes under one version of Pillow.

    Args:
        frames: by step.
        result: (side, side, 3) uint8, the job's image; the last cell.
        field: receptive field, in pixels of the image.
        px: side of a cell.
    """
    side = result.shape[0]
    box = visible(field, side) if is_small(field, side) else Box(0, 0, side, side)
    sheet = Image.new("RGB", ((len(frames) + 1) * px, px), GROUND)
    for index, image in enumerate([*(frame.image for frame in frames), result]):
        part = Image.fromarray(np.ascontiguousarray(image[box.top : box.bottom, box.left : box.right]))
        scale = px / max(part.size)
        size = max(1, round(part.width * scale)), max(1, round(part.height * scale))
        if part.size != size:
            part = part.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC)
        sheet.paste(part, (index * px + (px - size[0]) // 2, (px - size[1]) // 2))
    sink = io.BytesIO()
    sheet.save(sink, "WEBP", quality=QUALITY, method=EFFORT)
    return sink.getvalue()
