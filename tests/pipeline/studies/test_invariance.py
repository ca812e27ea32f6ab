"""Invariance: colours do not move when shifted; a checkerboard of a known period does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from export.manifest import Box
from pipeline.config import load_config, read_overrides
from pipeline.studies.base.context import Context
from pipeline.studies.base.study import TooFew
from pipeline.studies.invariance import CHANGES, STUDY, Change
from tests.pipeline.studies.changed import change_records, png
from tests.pipeline.studies.study_cases import COLOURS, Folders


def test_flat_colours_are_known_to_keep_everything_but_under_noise(
    colours: Folders, context_of: Callable[..., Context]
) -> None:
    """Pictures are pure colours: shift and scale change nothing; clipped noise takes from them."""
    context = context_of(colours)
    names = list(COLOURS)

    def paint(layer, place, record):  # type: ignore[no-untyped-def]
        colour = np.asarray(COLOURS[names[place % 6]], float) * 255
        return replace(record, image=png(np.broadcast_to(colour, (16, 16, 3)).astype(np.uint8)))

    output = STUDY.run(change_records(context, paint))
    section = next(f for f in output.findings if f.heading.startswith("Classes"))
    rows = section.blocks[0].rows  # type: ignore[union-attr]
    kept = [float(row[1].split()[0]) for row in rows]
    for change, value in zip(CHANGES, kept, strict=True):
        if change.kind != "noise":
            assert value == pytest.approx(1.0, abs=0.01), change.name
    noisy = [value for change, value in zip(CHANGES, kept, strict=True) if change.kind == "noise"]
    assert noisy == sorted(noisy, reverse=True)
    # clipping turns noise of sigma into an inward shift of sigma / sqrt(2 pi) on every channel
    base = output.rows["fc", 0, None]["kept_noise"]
    assert base == pytest.approx(1 - 2 * 16 / np.sqrt(2 * np.pi) / 255 / 0.9, abs=0.06)


def test_a_shift_moves_by_the_said_pixels() -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[30, 20] = 255
    found = Change("shift", 1 / 16).variants(picture, Box(0, 0, 64, 64), 0)
    assert sorted(tuple(np.argwhere(p[:, :, 0] == 255)[0].tolist()) for p in found) == [
        (26, 20),
        (30, 16),
        (30, 24),
        (34, 20),
    ]


def test_a_scale_keeps_the_middle_of_the_box() -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[16, 16] = 255
    picture[16, 26] = 255
    box = Box(8, 8, 24, 24)
    larger = Change("scale", 2.0).variants(picture, box, 0)[0]
    assert larger[16, 16, 0] == 255
    assert larger[16, 36, 0] == 255
    smaller = Change("scale", 0.5).variants(picture, box, 0)[0]
    assert smaller[16, 16, 0] == 255
    assert smaller[16, 21, 0] == 255


def test_noise_has_the_said_strength_and_is_the_same_every_time() -> None:
    grey = np.full((64, 64, 3), 128, np.uint8)
    once, again = (Change("noise", 16).variants(grey, Box(0, 0, 64, 64), 5)[0] for _ in range(2))
    np.testing.assert_array_equal(once, again)
    assert once.astype(float).std() == pytest.approx(16, rel=0.03)


def test_too_few_units_are_refused(colours: Folders, context_of: Callable[..., Context]) -> None:
    config = read_overrides(None, "0:4", None, None).apply(load_config(str(colours.config)))
    with pytest.raises(TooFew, match="no layer has 5 units"):
        STUDY.run(context_of(colours, config))
