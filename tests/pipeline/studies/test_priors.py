"""Priors: a second generator that reaches a known part of the first one's colours."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from export.errors import InputError
from export.priors.box import BoxPrior
from pipeline.build import build
from pipeline.config import load_config
from pipeline.progress import LineReporter
from pipeline.site.panels import Pictures
from pipeline.studies.base.context import Context
from pipeline.studies.base.study import TooFew
from pipeline.studies.priors import CELL_PX, STUDY
from tests.pipeline.studies.study_cases import CONFIG, Folders, write_generator, write_network


def weak_atlas(
    folder: Path, *, units: str = "all", gain: float = 1.0, bound: float = 0.5, **trained: Any
) -> tuple[Path, Path]:
    """(configuration, folder) of a built atlas whose codes end at ``bound``: its colours at sigmoid(0.5) = 0.62."""
    write_network(folder / "network.onnx", gain=[gain] * 12)
    write_generator(folder / "generator.onnx", **trained)
    ones = np.ones(3, np.float32)
    BoxPrior(0 * ones, ones, -bound * ones, bound * ones, ones).save(folder / "generator.codes.npz")
    text = CONFIG.replace('name = "colours"', 'name = "weak"').replace('name = "fc"', f'name = "fc"\nunits = "{units}"')
    (folder / "weak.toml").write_text(text)
    build(load_config(str(folder / "weak.toml")), folder / "out", LineReporter([].append))
    return folder / "weak.toml", folder / "out"


@pytest.fixture(scope="module")
def weak(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return weak_atlas(tmp_path_factory.mktemp("weak"))


def test_a_weaker_generator_is_weaker_by_what_is_known(
    colours: Folders, context_of: Callable[..., Context], weak
) -> None:
    """(sigmoid(0.5) - 0.5) / (sigmoid(4) - 0.5) = 0.254 of the activation."""
    output = STUDY.run(context_of(colours, compare=(weak,)))
    classes = output.findings[1]
    assert classes.heading == "Classes"
    first, second = classes.blocks[0].rows  # type: ignore[union-attr]
    assert (first[0], second[0]) == ("colours", "weak")
    assert first[2].startswith("1.00 [1.00, 1.00], n = 12")
    assert float(second[2].split()[0]) == pytest.approx(0.254, abs=0.03)
    assert float(second[-1].removeprefix("< ")) < 0.01
    assert second[3].startswith("50%"), "the judge still names the same six"


def test_the_strip_shows_every_atlas(colours: Folders, context_of: Callable[..., Context], weak) -> None:
    output = STUDY.run(context_of(colours, compare=(weak,)))
    strip = output.blocks["fc", 0][0]
    assert isinstance(strip, Pictures)
    assert [picture.left for picture in strip.pictures] == [0, CELL_PX]
    with Image.open(io.BytesIO(output.files[strip.pictures[0].file])) as sheet:
        red = np.asarray(sheet.convert("RGB"), float)[:, :, 0]
    assert red[:, :CELL_PX].mean() > red[:, CELL_PX:].mean() + 50


def test_an_atlas_of_another_network_is_refused(
    colours: Folders, context_of: Callable[..., Context], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="an atlas of another network"):
        STUDY.run(context_of(colours, compare=(weak_atlas(tmp_path, gain=2.0),)))


def test_atlases_of_other_networks_are_left_to_other_studies(
    colours: Folders, context_of: Callable[..., Context], weak, tmp_path: Path
) -> None:
    output = STUDY.run(context_of(colours, compare=(weak_atlas(tmp_path, gain=2.0), weak)))
    assert [row[0] for row in output.findings[1].blocks[0].rows] == ["colours", "weak"]  # type: ignore[union-attr]


def test_too_few_units_in_common_are_not_reported(
    colours: Folders, context_of: Callable[..., Context], tmp_path: Path
) -> None:
    from pipeline.config import read_overrides

    other = weak_atlas(tmp_path, units="0:3")
    output = STUDY.run(context_of(colours, compare=(other,)))
    assert output.findings[1].heading == "Classes: not reported"
    config = read_overrides("fc", None, None, None).apply(load_config(str(colours.config)))
    with pytest.raises(TooFew, match="no layer has 6 units"):
        STUDY.run(context_of(colours, config, compare=(other,)))
