"""Sprites: many small pictures in one file, so that a layer of thousands of units opens with a few requests.

A sprite is a square of ``columns`` x ``columns`` cells, filled row by row. Pages show a cell by shifting an ``<img>``
inside a frame that hides the rest, by classes alone, since the site's policy forbids inline styles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from pipeline.films import GROUND
from pipeline.site.pictures import to_webp

QUALITY, EFFORT = 66, 1
"""Of WebP, for sprites. With cells of 64 px, 2,048 units make about 1.2 MB; an effort of 4 saves a tenth of that
and takes three times as long."""

TASTE_PX, NUM_TASTE = 80, 12
"""Cells of the strip that the home page shows of a layer, and how many there are."""


@dataclass(frozen=True)
class Grid:
    """How a layer's pictures are laid out.

    Attributes:
        cell_px: side of a picture.
        columns: cells in a row, and rows in a sprite.
    """

    cell_px: int
    columns: int

    @property
    def num_cells(self) -> int:
        """Pictures in a sprite."""
        return self.columns**2

    def place(self, index: int) -> tuple[int, int, int]:
        """(sprite, column, row) of the picture at this index."""
        sprite, cell = divmod(index, self.num_cells)
        row, column = divmod(cell, self.columns)
        return sprite, column, row


def grid_for(num_units: int) -> Grid:
    """Smaller cells for larger layers, so that a layer's sprites together stay below about 1.2 MB."""
    if num_units <= 400:
        return Grid(128, 8)
    return Grid(96, 10) if num_units <= 900 else Grid(64, 16)


def sprite_name(number: int) -> str:
    """A sprite, relative to its layer's folder."""
    return f"grid/{number}.webp"


def sprite(grid: Grid, cells: Mapping[int, Image.Image]) -> bytes:
    """A WebP file; cells without a picture stay empty."""
    side = grid.cell_px * grid.columns
    sheet = Image.new("RGB", (side, side), GROUND)
    for index, picture in cells.items():
        _, column, row = grid.place(index)
        _paste(sheet, picture, column * grid.cell_px, row * grid.cell_px, grid.cell_px)
    return to_webp(sheet, QUALITY, EFFORT)


def strip(pictures: Sequence[Image.Image], cell_px: int = TASTE_PX) -> bytes:
    """One row of :data:`NUM_TASTE` cells as WebP."""
    sheet = Image.new("RGB", (NUM_TASTE * cell_px, cell_px), GROUND)
    for index, picture in enumerate(pictures):
        _paste(sheet, picture, index * cell_px, 0, cell_px)
    return to_webp(sheet, QUALITY, EFFORT)


def _paste(sheet: Image.Image, picture: Image.Image, left: int, top: int, cell_px: int) -> None:
    scale = cell_px / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.HAMMING)
    sheet.paste(picture, (left + (cell_px - size[0]) // 2, top + (cell_px - size[1]) // 2))
