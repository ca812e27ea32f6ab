from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from export.errors import InputError
from pipeline.sheet import TOMB, Cell, near_square, pdf_sheet, png_sheet


def plain(*colour: int) -> npt.NDArray[np.uint8]:
    return np.broadcast_to(np.array(colour, np.uint8), (16, 16, 3)).copy()


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content)).convert("RGB")


def test_a_sheet_shows_every_cell_in_its_place() -> None:
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    sheet = opened(png_sheet([*(Cell(plain(*colour), "") for colour in colours), Cell(None, "dead one")], 2, 32))
    width, height = (sheet.width - 4) / 2, (sheet.height - 4) / 2
    for index, colour in enumerate(colours):
        row, column = divmod(index, 2)
        assert sheet.getpixel((int(column * width) + 10, int(row * height) + 10)) == colour
    assert sheet.getpixel((int(width) + 5, int(height) + 5)) == tuple(bytes.fromhex(TOMB[1:]))


def test_captions_leave_ink_and_long_ones_stay_in_their_cell() -> None:
    with_caption, without = (
        np.asarray(opened(png_sheet([Cell(plain(1, 2, 3), text), Cell(plain(1, 2, 3), "")], 2, 64)))
        for text in ("w" * 300, "")
    )
    differing = np.argwhere((with_caption != without).any(axis=2))
    assert len(differing) > 0
    assert differing[:, 1].max() < 4 + 64 + 2


def test_a_sheet_is_no_wider_than_its_cells() -> None:
    assert opened(png_sheet([Cell(plain(0, 0, 0), "")] * 3, 100, 32)).width == 3 * 36 + 4


@pytest.mark.parametrize(("count", "columns", "cell_px"), [(1, 0, 64), (1, 3, 4), (0, 3, 64)])
def test_impossible_sheets_are_refused(count: int, columns: int, cell_px: int) -> None:
    with pytest.raises(InputError, match="ask for"):
        png_sheet([Cell(plain(0, 0, 0), "")] * count, columns, cell_px)


def test_a_pdf_runs_over_pages_and_bears_any_caption() -> None:
    pytest.importorskip("fpdf", reason="fpdf2 is not installed")
    cells = [
        Cell(plain(index % 250, 0, 0) if index % 9 else None, f"{index} größe ✓ " + "w" * 90) for index in range(60)
    ]
    content = pdf_sheet(cells, 4, "a title ✓")
    assert content.count(b"/Type /Page\n") == 3
    assert pdf_sheet(cells, 4, "a title ✓") == content


def test_layouts_are_near_square() -> None:
    assert near_square(1) == (1, 128)
    assert near_square(1000) == (32, 64)
