import io

import numpy as np
import pytest
from PIL import Image

from export.errors import AtlasError, InputError
from export.manifest import Box
from pipeline.site.pictures import crop, decode, shows_crop, visible
from pipeline.site.sheet import TOMB, contact_sheet, default_layout
from tests.pipeline.site.samples import SIDE, make_dead, make_layer, make_result


def test_a_sheet_shows_every_unit_in_its_cell() -> None:
    colours = {0: (200, 0, 0), 1: (0, 200, 0), 2: (0, 0, 200)}
    results = (*(make_result(unit) for unit in colours), make_dead(3))
    images = {(unit, 0): _plain(colour) for unit, colour in colours.items()}
    sheet = contact_sheet(make_layer(results=results, images=images), 2, 32)
    cell_width = (sheet.width - 4) / 2
    cell_height = (sheet.height - 4) / 2
    for unit, colour in colours.items():
        row, column = divmod(unit, 2)
        assert sheet.getpixel((int(column * cell_width) + 10, int(row * cell_height) + 10)) == colour
    tomb = sheet.getpixel((int(cell_width) + 5, int(cell_height) + 5))
    assert tomb == tuple(bytes.fromhex(TOMB[1:]))


def test_captions_leave_ink_and_long_labels_stay_in_their_cell() -> None:
    layer = make_layer(results=(make_result(0), make_result(1)), labels={0: "w" * 300})
    with_label = np.asarray(contact_sheet(layer, 2, 64))
    without = np.asarray(contact_sheet(make_layer(results=(make_result(0), make_result(1))), 2, 64))
    differing = np.argwhere((with_label != without).any(axis=2))
    assert len(differing) > 0
    assert differing[:, 1].max() < 4 + 64 + 2


def test_a_sheet_is_no_wider_than_its_units() -> None:
    assert contact_sheet(make_layer(), 100, 32).width == 4 * 36 + 4


@pytest.mark.parametrize(("columns", "cell_px"), [(0, 64), (3, 4)])
def test_impossible_sheets_are_refused(columns: int, cell_px: int) -> None:
    with pytest.raises(InputError, match="ask for more"):
        contact_sheet(make_layer(), columns, cell_px)


def test_a_layer_without_results_has_no_sheet() -> None:
    with pytest.raises(InputError, match="no results"):
        contact_sheet(make_layer(results=()), 4, 64)


def test_layouts_are_near_square() -> None:
    assert default_layout(1) == (1, 128)
    assert default_layout(1000) == (32, 64)


def test_a_crop_is_what_the_unit_sees() -> None:
    layer = make_layer(receptive_field=Box(4, 8, 8, 12))
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    pixels[4:8, 8:12] = 255
    assert shows_crop(layer)
    assert np.asarray(crop(layer, Image.fromarray(pixels))).min() == 255


def test_a_receptive_field_is_clipped_to_the_image() -> None:
    assert visible(make_layer(receptive_field=Box(-4, 12, 3, 99))) == Box(0, 12, 3, SIDE)
    assert visible(make_layer(receptive_field=Box(-4, -4, -1, -1))) == Box(0, 0, SIDE, SIDE)
    assert not shows_crop(make_layer(receptive_field=Box(0, 0, 3, 12)))


def test_a_broken_image_names_its_unit() -> None:
    with pytest.raises(AtlasError, match="unit 3, seed 1 of layer fc"):
        decode(make_layer(), 3, 1, b"\x89PNG nothing")


def _plain(colour: tuple[int, int, int]) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), colour).save(sink, "PNG")
    return sink.getvalue()
