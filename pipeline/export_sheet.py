"""A contact sheet of a layer of a built atlas."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from export.errors import InputError
from pipeline.atlas import open_atlas
from pipeline.sheet import Cell, near_square, pdf_sheet, png_sheet
from pipeline.temporary import replace_file
from pipeline.units import parse_units_option, select_units


def write_sheet(
    folder: Path,
    layer: str,
    units: Sequence[str],
    output: Path,
    columns: int | None = None,
    cell_px: int | None = None,
) -> None:
    """Every unit's best picture with its number and activation, as a PNG or a PDF.

    Args:
        folder: of the build.
        layer: of the atlas.
        units: numbers and ranges; empty for all that were built.
        output: ``.png`` or ``.pdf``.
        columns: pictures in a row; by default as many as rows.
        cell_px: side of a picture in a PNG.

    Raises:
        InputError: the atlas lacks the layer or a unit, or the file's name ends otherwise.
        StoreError: the store cannot be read, or the file not written.
    """
    kind = output.suffix.lower()
    if kind not in (".png", ".pdf"):
        raise InputError(f"{output} is neither a .png nor a .pdf; name one of these")
    atlas = open_atlas(folder)
    built = atlas.units(layer)
    wanted: dict[int, None] = dict.fromkeys(() if units else built)
    for text in units:
        wanted |= dict.fromkeys(select_units(parse_units_option(text), layer, max(built) + 1, None))
    best, cells = atlas.best_seeds(layer), {unit: Cell(None, f"{unit}  dead") for unit in wanted}
    for seed in sorted(set(best.values())):
        part = [unit for unit in wanted if best.get(unit) == seed]
        for record in atlas.records(layer, part, seed) if part else ():
            with Image.open(io.BytesIO(record.image)) as image:
                pixels = np.asarray(image.convert("RGB"))
            cells[record.unit] = Cell(pixels, f"{record.unit}  {record.activation:.4g}")
    if unknown := sorted(set(wanted) - set(built)):
        raise InputError(f"unit {unknown[0]} of {layer} has not been built; build it, or leave it out")
    usual = near_square(len(cells))
    if kind == ".pdf":
        content = pdf_sheet(list(cells.values()), columns or min(usual[0], 10), layer)
    else:
        content = png_sheet(list(cells.values()), columns or usual[0], cell_px or usual[1])
    replace_file(output, content)
