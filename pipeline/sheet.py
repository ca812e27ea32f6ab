"""Contact sheets: pictures with captions, as a PNG or, for papers, as a PDF whose captions are text."""

from __future__ import annotations

import datetime
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from export.errors import InputError

GAP_PX = 4
MIN_CELL_PX = 16
GROUND, TOMB, INK, FAINT = "#ffffff", "#e4e4e0", "#1b1e23", "#5d6570"

PAGE_MM, MARGIN_MM = (210.0, 297.0), 15.0
"""Of the PDF: A4."""

NO_DATE = datetime.datetime(1980, 1, 1, tzinfo=datetime.UTC)
"""A PDF must have one; a true one would make equal sheets differ."""

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class Cell:
    """One picture of a sheet: (H, W, 3) uint8, None for a dead unit, and what is written below it."""

    image: npt.NDArray[np.uint8] | None
    caption: str


def png_sheet(cells: Sequence[Cell], columns: int, cell_px: int) -> bytes:
    """The cells row by row.

    Args:
        cells: at least one.
        columns: pictures in a row; fewer where there are fewer cells.
        cell_px: side of a picture.

    Raises:
        InputError: there are no cells, or the sizes make no sheet.
    """
    columns = _checked(cells, columns)
    if cell_px < MIN_CELL_PX:
        raise InputError(f"a contact sheet needs cells of {MIN_CELL_PX} px; ask for more")
    font = ImageFont.load_default(max(8, min(13, cell_px // 7)))
    caption_px = math.ceil(_line_height(font) * 1.4)
    width, height = cell_px + GAP_PX, cell_px + caption_px + GAP_PX
    rows = math.ceil(len(cells) / columns)
    sheet = Image.new("RGB", (columns * width + GAP_PX, rows * height + GAP_PX), GROUND)
    draw = ImageDraw.Draw(sheet)
    for index, cell in enumerate(cells):
        row, column = divmod(index, columns)
        left, top = GAP_PX + column * width, GAP_PX + row * height
        if cell.image is None:
            draw.rectangle((left, top, left + cell_px - 1, top + cell_px - 1), TOMB)
            x = left + (cell_px - font.getbbox("dead")[2]) / 2
            draw.text((x, top + (cell_px - _line_height(font)) / 2), "dead", FAINT, font)
        else:
            picture = _scaled(cell.image, cell_px)
            sheet.paste(picture, (left + (cell_px - picture.width) // 2, top + (cell_px - picture.height) // 2))
        text = _fitting(cell.caption, lambda part: font.getbbox(part)[2] <= cell_px)
        draw.text((left, top + cell_px + caption_px // 8), text, INK, font)
    sink = io.BytesIO()
    sheet.save(sink, "PNG")
    return sink.getvalue()


def pdf_sheet(cells: Sequence[Cell], columns: int, title: str = "") -> bytes:
    """The cells on A4 pages as wide as their margins allow; pictures keep their pixels, captions are text.

    Equal cells make equal bytes.

    Args:
        cells: at least one.
        columns: pictures in a row.
        title: above the first page's pictures, and of the document.

    Raises:
        InputError: there are no cells, no columns, or fpdf2 is not installed.
    """
    columns = _checked(cells, columns)
    try:
        import fpdf
    except ImportError as error:
        raise InputError("a PDF needs fpdf2; pip install 'neuron-atlas[pdf]', or ask for a .png") from error
    gap, size = 2.0, 7.0 if columns <= 8 else 5.0
    side = (PAGE_MM[0] - 2 * MARGIN_MM - gap * (columns - 1)) / columns
    caption_mm = size * 0.5
    pdf = fpdf.FPDF(format=PAGE_MM)
    pdf.set_creation_date(NO_DATE)
    pdf.set_title(title or "Contact sheet")
    pdf.set_auto_page_break(False)
    pdf.set_margin(MARGIN_MM)
    top = PAGE_MM[1]
    for index, cell in enumerate(cells):
        column = index % columns
        if column == 0:
            top += side + caption_mm + gap
            if top + side + caption_mm > PAGE_MM[1] - MARGIN_MM:
                pdf.add_page()
                top = MARGIN_MM
                if title and index == 0:
                    pdf.set_font("Helvetica", "B", 11)
                    pdf.text(MARGIN_MM, top + 3, _latin(title))
                    top += 9
                pdf.set_font("Helvetica", "", size)
        left = MARGIN_MM + column * (side + gap)
        if cell.image is None:
            pdf.set_fill_color(228, 228, 224)
            pdf.rect(left, top, side, side, "F")
            pdf.text(left + side / 2 - 2.5, top + side / 2, "dead")
        else:
            picture = Image.fromarray(cell.image)
            scale = side / max(picture.size)
            width, height = picture.width * scale, picture.height * scale
            pdf.image(picture, left + (side - width) / 2, top + (side - height) / 2, width, height)
        text = _fitting(_latin(cell.caption), lambda part: pdf.get_string_width(_latin(part)) <= side)
        pdf.text(left, top + side + caption_mm * 0.8, _latin(text))
    return bytes(pdf.output())


def near_square(num_cells: int) -> tuple[int, int]:
    """(columns, cell_px) of a sheet that nobody gave sizes for: near square, smaller cells for more pictures."""
    cell_px = 128 if num_cells <= 64 else 96 if num_cells <= 256 else 64
    return max(1, math.ceil(math.sqrt(num_cells))), cell_px


def _checked(cells: Sequence[Cell], columns: int) -> int:
    if not cells:
        raise InputError("there is nothing to put on a sheet; ask for units that have been built")
    if columns < 1:
        raise InputError("a contact sheet needs a column; ask for more")
    return min(columns, len(cells))


def _scaled(image: npt.NDArray[np.uint8], longer_px: int) -> Image.Image:
    picture = Image.fromarray(image)
    scale = longer_px / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.LANCZOS)


def _fitting(text: str, fits: Callable[[str], bool]) -> str:
    """The first line of the text, cut until it fits."""
    text = text.splitlines()[0] if text else text
    if fits(text):
        return text
    while text and not fits(text + "…"):
        text = text[:-1]
    return text.rstrip() + "…"


def _latin(text: str) -> str:
    """Text that the PDF's built-in fonts can write."""
    return text.replace("…", "...").encode("latin-1", "replace").decode("latin-1")


def _line_height(font: Font) -> float:
    return font.getbbox("Ag")[3]
