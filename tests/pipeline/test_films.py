"""Films: what their cells show, and files of the time before there were any."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from engine.loop import Frame
from export.manifest import Box
from pipeline.films import is_small, make_film, visible
from pipeline.records import SCHEMA, from_parquet, to_parquet
from tests.conformance.test_store import make_records

SIDE, PX = 32, 48
WHOLE = Box(0, 0, SIDE, SIDE)


def plain(red: int) -> np.ndarray:
    """An image whose left half is of one colour and whose right half is of another."""
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    image[:, : SIDE // 2], image[:, SIDE // 2 :] = (red, 0, 0), (0, 0, 255 - red)
    return image


def colours(film: bytes) -> list[tuple[int, int, int]]:
    """The middle of the left and the right half of every cell."""
    image = Image.open(io.BytesIO(film)).convert("RGB")
    assert image.height == PX
    return [image.getpixel((x, PX // 2)) for x in range(PX // 4, image.width, PX // 2)]  # type: ignore[misc]


def test_cells_are_the_frames_in_order_and_then_the_result() -> None:
    film = make_film([Frame(0, plain(20)), Frame(5, plain(120))], plain(220), WHOLE, PX)
    expected = [(20, 0, 0), (0, 0, 235), (120, 0, 0), (0, 0, 135), (220, 0, 0), (0, 0, 35)]
    np.testing.assert_allclose(colours(film), expected, atol=12)
    assert film == make_film([Frame(0, plain(20)), Frame(5, plain(120))], plain(220), WHOLE, PX)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (Box(0, 0, 16, 16), [(200, 0, 0), (200, 0, 0)]),  # the left half alone
        (Box(-8, 20, 8, 40), [(0, 0, 55), (0, 0, 55)]),  # clipped, in the right half
        (Box(0, 0, 20, 20), [(200, 0, 0), (0, 0, 55)]),  # more than half of the side: the whole image
        (Box(40, 40, 50, 50), [(200, 0, 0), (0, 0, 55)]),  # outside
    ],
)
def test_units_that_see_little_are_shown_that_part(field: Box, expected: list[tuple[int, int, int]]) -> None:
    np.testing.assert_allclose(colours(make_film([], plain(200), field, PX)), expected, atol=12)
    assert is_small(field, SIDE) == (max(visible(field, SIDE).bottom, 0) <= 16)


def test_files_of_the_time_before_films_are_read() -> None:
    records = make_records([0, 1])
    old = pq.read_table(io.BytesIO(to_parquet(records))).drop_columns(["film_steps", "film"])
    sink = io.BytesIO()
    pq.write_table(old.replace_schema_metadata({}), sink)
    found = from_parquet(sink.getvalue())
    assert [(r.unit, r.film_steps, r.film) for r in found] == [(0, (), b""), (1, (), b"")]
    assert [r.image for r in found] == [r.image for r in records]


def test_files_say_which_version_they_are() -> None:
    schema: pa.Schema = pq.read_schema(io.BytesIO(to_parquet(make_records([0]))))
    assert schema.metadata[b"records"] == SCHEMA.metadata[b"records"] == b"2"
