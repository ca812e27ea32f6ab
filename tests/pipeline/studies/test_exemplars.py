"""Exemplars: red pictures for the red unit; pixels only of what may be published."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.site.panels import Pictures, Table
from pipeline.studies.base.context import Context
from pipeline.studies.base.study import TooFew
from pipeline.studies.exemplars import CELL_PX, STUDY
from tests.pipeline.studies.conftest import made
from tests.pipeline.studies.study_cases import LABELS, Folders


def test_the_known_colour_of_every_class_is_its_exemplar(colours: Folders, context_of: Callable[..., Context]) -> None:
    dataset = context_of(colours).dataset
    for unit, label in enumerate(LABELS):
        assert {e.label for e in dataset.top("fc", "fc", unit)} == {label.removesuffix(" too")}


def test_pixels_of_what_may_not_be_published_are_nowhere(colours: Folders, context_of: Callable[..., Context]) -> None:
    output = STUDY.run(context_of(colours, publish=()))
    assert not output.files
    assert not any(isinstance(block, Pictures) for blocks in output.blocks.values() for block in blocks)
    table = output.blocks["fc", 0][0]
    assert isinstance(table, Table)
    top = [row for row in table.rows if row[0] == "top"]
    assert [row[2] for row in top] == ["red"] * 6
    assert top[0][3].startswith("red/")
    assert top[0][4] == "0,0 to 16,16"


def test_only_matching_paths_are_published_as_pictures(colours: Folders, context_of: Callable[..., Context]) -> None:
    output = STUDY.run(context_of(colours, publish=("red/*",)))
    for blocks in output.blocks.values():
        for block in blocks:
            if isinstance(block, Pictures):
                assert all("red/" in picture.alt for picture in block.pictures)
    found = output.blocks["fc", 0][0]
    assert isinstance(found, Pictures)
    assert len(found.pictures) == 6
    first = found.pictures[0]
    with Image.open(io.BytesIO(output.files[first.file])) as sheet:
        assert sheet.size == (first.file_width, first.file_height)
        cell = np.asarray(sheet.convert("RGB"))[:, first.left : first.left + CELL_PX]
    red, green, blue = cell.reshape(-1, 3).mean(axis=0)
    assert red > green + 40
    assert red > blue + 40


def test_hidden_units_show_the_part_that_they_see(colours: Folders, context_of: Callable[..., Context]) -> None:
    dataset = context_of(colours).dataset
    best = dataset.top("map", "map", 0)[0]
    assert (best.box.bottom - best.box.top, best.box.right - best.box.left) == (4, 4)
    assert dataset.crop(best).shape == (4, 4, 3)


def test_too_few_pictures_are_refused(tmp_path: Path, context_of: Callable[..., Context]) -> None:
    with pytest.raises(TooFew, match="6 pictures are too few"):
        STUDY.run(context_of(made(tmp_path, per_class=1)))
