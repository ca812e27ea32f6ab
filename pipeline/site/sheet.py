"""Contact sheets: every unit of a layer in one picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from export.errors import InputError
from pipeline.site.gallery import Unit, make_gallery
from pipeline.site.model import Layer
from pipeline.site.pictures import decode, gallery_picture

MIN_CELL_PX = 16
GROUND, TOMB, INK, FAINT = "#ffffff", "#e4e4e0", "#1b1e23", "#5d6570"


def contact_sheet(layer: Layer, columns: int, cell_px: int) -> Image.Image:
    """Every unit's best picture in index order, with a caption each; dead units are tombstones.

    Args:
        layer: what to show; of units that see little, the part they see is shown.
        columns: pictures in a row; fewer where there are fewer units.
        cell_px: side of a picture.

    Returns:
        An RGB image.

    Raises:
        InputError: there are no results, or the sizes make no sheet.
        AtlasError: an image cannot be read.
    """
    if columns < 1 or cell_px < MIN_CELL_PX:
        raise InputError(f"a contact sheet needs a column and cells of {MIN_CELL_PX} px; ask for more")
    units = make_gallery(layer).units
    if not units:
        raise InputError(f"layer {layer.name} has no results to put on a sheet; build some of its units first")
    columns = min(columns, len(units))
    font = ImageFont.load_default(max(8, min(13, cell_px // 7)))
    gap, caption_px = max(4, cell_px // 16), math.ceil(_line_height(font) * 1.4)
    width, height = cell_px + gap, cell_px + caption_px + gap
    num_rows = math.ceil(len(units) / columns)
    sheet = Image.new("RGB", (columns * width + gap, num_rows * height + gap), GROUND)
    draw = ImageDraw.Draw(sheet)
    pictures = _pictures(layer, units)
    for index, unit in enumerate(units):
        row, column = divmod(index, columns)
        left, top = gap + column * width, gap + row * height
        _draw_picture(sheet, draw, pictures.get(unit.unit), (left, top), cell_px, font)
        text = _fitting(f"{unit.unit} {unit.short_label}".strip(), cell_px, font)
        draw.text((left, top + cell_px + caption_px // 8), text, INK, font)
    return sheet


def default_layout(num_units: int) -> tuple[int, int]:
    """(columns, cell_px): near square, smaller cells for more units."""
    cell_px = 128 if num_units <= 64 else 96 if num_units <= 256 else 64
    return max(1, math.ceil(math.sqrt(num_units))), cell_px


def _pictures(layer: Layer, units: Sequence[Unit]) -> dict[int, Image.Image]:
    best = {(unit.unit, unit.best.seed) for unit in units if unit.best}
    return {
        number: gallery_picture(layer, decode(layer, number, seed, content))
        for number, seed, content in layer.pictures.read([unit.unit for unit in units])
        if (number, seed) in best
    }


def _draw_picture(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    picture: Image.Image | None,
    corner: tuple[int, int],
    cell_px: int,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    left, top = corner
    if picture is None:
        draw.rectangle((left, top, left + cell_px - 1, top + cell_px - 1), TOMB)
        x = left + (cell_px - font.getbbox("dead")[2]) / 2
        draw.text((x, top + (cell_px - _line_height(font)) / 2), "dead", FAINT, font)
        return
    scale = cell_px / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    picture = picture.resize(size, Image.Resampling.LANCZOS)
    sheet.paste(picture, (left + (cell_px - size[0]) // 2, top + (cell_px - size[1]) // 2))


def _fitting(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The text, cut to a width in pixels."""
    text = text.splitlines()[0] if text else text
    if font.getbbox(text)[2] <= width:
        return text
    while text and font.getbbox(text + "…")[2] > width:
        text = text[:-1]
    return text.rstrip() + "…"


def _line_height(font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> float:
    return font.getbbox("Ag")[3]
