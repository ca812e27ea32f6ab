"""Evolution: one unit of twelve is turned from red to cyan between two checkpoints; that one alone drifts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from export.errors import InputError
from pipeline.site.panels import Pictures, Table
from pipeline.studies.base.context import Context
from pipeline.studies.base.study import MissingInput, TooFew
from pipeline.studies.evolution import STUDY
from tests.pipeline.studies.study_cases import Folders, write_network

TURNED = 3


def stages(folder: Path, *turned: dict[int, str]) -> tuple[Path, ...]:
    """The network at as many checkpoints, with units turned to other colours."""
    paths = tuple(folder / f"epoch{k}.onnx" for k in range(len(turned)))
    for path, changes in zip(paths, turned, strict=True):
        write_network(path, turned=changes)
    return paths


def test_only_the_unit_that_is_known_to_be_turned_drifts(
    copied: Folders, context_of: Callable[..., Context], tmp_path: Path
) -> None:
    checkpoints = stages(tmp_path, {TURNED: "blue"}, {TURNED: "blue"}, {})  # yellow at last, the opposite of blue
    output = STUDY.run(context_of(copied, checkpoints=checkpoints, judge=None))
    rows = {unit: values for (layer, unit, _), values in output.rows.items() if layer == "fc"}
    assert len(rows) == 12
    drift = {unit: float(values["drift"]) for unit, values in rows.items()}  # type: ignore[arg-type]
    kept = {unit: float(values["kept"]) for unit, values in rows.items()}  # type: ignore[arg-type]
    assert drift.pop(TURNED) > 1.5, "the cosine distance of opposite colours is 2"
    assert max(abs(value) for value in drift.values()) < 0.05
    assert kept.pop(TURNED) < -0.5, "its old picture is what it now likes least"
    assert min(kept.values()) > 0.9


def test_the_film_shows_the_turn_and_the_tables_when_it_was_formed(
    copied: Folders, context_of: Callable[..., Context], tmp_path: Path
) -> None:
    checkpoints = stages(tmp_path, {TURNED: "blue"}, {TURNED: "blue"}, {})
    output = STUDY.run(context_of(copied, checkpoints=checkpoints, judge=None))
    film = output.blocks["fc", TURNED][0]
    assert isinstance(film, Pictures)
    assert [picture.alt for picture in film.pictures] == [f"unit 3 at checkpoint epoch{k}" for k in range(3)]
    steps, formed = next(f for f in output.findings if f.heading == "Classes").blocks
    assert isinstance(steps, Table)
    assert isinstance(formed, Table)
    assert [row[0] for row in steps.rows] == ["epoch0 to epoch1", "epoch1 to epoch2"]
    assert formed.rows[-1][2].startswith("1.00 [1.00, 1.00]")


def test_a_network_that_turns_altogether_drifts_beyond_its_null(
    copied: Folders, context_of: Callable[..., Context], tmp_path: Path
) -> None:
    """Every unit takes the colour of its opposite; the second step in training changes nothing."""
    opposite = {"red": "cyan", "green": "pink", "blue": "yellow", "cyan": "red", "pink": "green", "yellow": "blue"}
    names = ["red", "green", "blue", "yellow", "cyan", "pink"] * 2
    turned = {unit: opposite[name] for unit, name in enumerate(names)}
    output = STUDY.run(context_of(copied, checkpoints=stages(tmp_path, turned, {}, {}), judge=None))
    steps = next(f for f in output.findings if f.heading == "Classes").blocks[0]
    assert isinstance(steps, Table)
    first, second = steps.rows
    assert float(first[3].split()[0]) > 1.5
    assert float(first[4].removeprefix("< ")) < 0.01
    assert abs(float(second[3].split()[0])) < 0.05
    assert float(second[4].removeprefix("< ")) > 0.05 or second[3].startswith(("0.000", "-0.000"))


def test_the_second_run_climbs_no_further(
    copied: Folders, context_of: Callable[..., Context], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = stages(tmp_path, {TURNED: "blue"}, {})
    before = STUDY.run(context_of(copied, checkpoints=checkpoints, judge=None)).rows
    monkeypatch.setattr("pipeline.studies.base.more.make_shard", None)
    assert STUDY.run(context_of(copied, checkpoints=checkpoints, judge=None)).rows == before


def test_too_few_checkpoints_or_units_are_refused(
    copied: Folders, context_of: Callable[..., Context], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = stages(tmp_path, {}, {})
    with pytest.raises(MissingInput, match="two or more stages"):
        STUDY.run(context_of(copied, checkpoints=checkpoints[:1]))
    monkeypatch.setattr("pipeline.studies.evolution.NUM_UNITS", 5)
    with pytest.raises(TooFew, match="no layer has 6 units"):
        STUDY.run(context_of(copied, checkpoints=checkpoints, judge=None))


def test_another_network_is_no_checkpoint(copied: Folders, context_of: Callable[..., Context], tmp_path: Path) -> None:
    from tests.pipeline.models import write_network as write_other

    write_other(tmp_path / "other.onnx")
    with pytest.raises(InputError, match=r"has no layer 'map'|is another network"):
        STUDY.run(context_of(copied, checkpoints=(*stages(tmp_path, {}), tmp_path / "other.onnx")))


def test_the_share_of_activation_kept_is_what_is_known() -> None:
    """Two units, two checkpoints: unit 0 gives its old picture half of what it gives its new one."""
    from pipeline.studies.evolution import _share

    answers = np.zeros((2, 3, 3))
    answers[1] = np.diag([4.0, 1.0, 1.0])
    answers[0] = np.diag([2.0, 1.0, -1.0])
    np.testing.assert_allclose(_share(answers, 0, 1), [0.5, 1.0, -1.0])
