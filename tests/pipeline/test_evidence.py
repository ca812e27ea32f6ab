"""The commands that gather evidence, from configuration to files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from export.errors import AtlasError
from pipeline.build import build
from pipeline.config import load_config
from pipeline.dataset.passes import read_facts
from pipeline.evidence import Given, targets_of
from pipeline.plan import make_plan
from pipeline.progress import LineReporter
from pipeline.studies import studies
from pipeline.studies.base.context import Context, Inputs
from pipeline.workspace import Workspace, open_workspace
from tests.pipeline.commands import call
from tests.pipeline.dataset.pictures import write_pictures
from tests.pipeline.models import DEAD_BUT_REVIVED


@pytest.fixture
def built(tiny: Path, tmp_path: Path) -> Path:
    build(load_config(str(tiny)), tmp_path / "out", LineReporter([].append))
    return tmp_path / "out"


def test_the_pass_and_a_study_from_the_command_line(tiny: Path, built: Path, tmp_path: Path, capsys) -> None:
    images = write_pictures(tmp_path / "images", 110, side=16)
    (images / "ant" / "9999.png").write_bytes(b"broken")
    options = ["--out", built, "--images", images]
    code, out, err = call(capsys, "dataset-pass", tiny, *options)
    assert code == 0
    assert "110 of 111 pictures seen, 1 could not be read" in out
    assert out.splitlines()[-1] == str(built / "dataset")
    assert "note: not read: ant/9999.png" in err
    code, out, err = call(capsys, "study", tiny, "tuning", *options)
    assert (code, err) == (0, "")
    assert out.startswith("tuning: done; ")
    assert json.loads((built / "studies" / "tuning" / "findings.json").read_text())["title"] == "Tuning"
    code, out, _ = call(capsys, "study", tiny, *options)
    assert code == 0, "without names, what cannot be run is refused and the rest is run"
    assert {line.split(":")[0] for line in out.splitlines()} == set(studies())
    assert "recognisability: refused; it needs a judge network" in out
    assert "tuning: kept; nothing has changed" in out
    code, out, err = call(capsys, "study", tiny, "recognisability", *options)
    assert code == 1
    assert "refused: recognisability" in err


def test_layers_maximised_before_their_activation_are_measured_there_too(
    built: Path, open_tiny: Callable[..., Workspace]
) -> None:
    workspace = open_tiny()
    targets = targets_of(workspace, make_plan(workspace))
    assert [(t.layer, t.target) for t in targets] == [("relu1", "relu1"), ("relu1", "conv1"), ("fc", "fc")]


def test_what_is_only_alive_before_its_activation_is_compared_there(
    tiny: Path, built: Path, tmp_path: Path, capsys
) -> None:
    images = write_pictures(tmp_path / "images", 110, side=16)
    assert call(capsys, "dataset-pass", tiny, "--out", built, "--images", images)[0] == 0
    workspace = open_workspace(load_config(str(tiny)), built)
    context = Context(workspace, make_plan(workspace), Inputs(images=images))
    record = context.layer("relu1").alive[DEAD_BUT_REVIVED]
    assert record.target == "conv1"
    column = context.dataset.column("relu1", "conv1", DEAD_BUT_REVIVED)
    assert context.dataset.statistics.high[column] < -50, "its pre-activation, far below zero"


def test_paths_of_the_configuration_start_at_its_folder_and_the_command_line_wins(tiny: Path) -> None:
    text = (
        '[dataset]\nimages = "set"\npublish = ["open/*"]\n[studies]\njudge = "judge.onnx"\ntraining = ["a", "b.tar"]\n'
    )
    tiny.write_text(tiny.read_text().replace("[[layers]]", text + "[[layers]]", 1))
    config = load_config(str(tiny))
    inputs = Given().inputs(config)
    assert inputs.images == tiny.parent / "set"
    assert inputs.training == (tiny.parent / "a", tiny.parent / "b.tar")
    assert inputs.judge == tiny.parent / "judge.onnx"
    assert inputs.publish == ("open/*",)
    inputs = Given(images=Path("here"), publish=("x",)).inputs(config)
    assert (inputs.images, inputs.publish) == (Path("here"), ("x",))
    assert inputs.judge == tiny.parent / "judge.onnx"


def test_evidence_changes_no_recipe(tiny: Path, tmp_path: Path) -> None:
    before = make_plan(open_workspace(load_config(str(tiny)), tmp_path / "out"))
    tiny.write_text(tiny.read_text().replace("[[layers]]", '[dataset]\nimages = "set"\ntop = 3\n[[layers]]', 1))
    after = make_plan(open_workspace(load_config(str(tiny)), tmp_path / "out"))
    assert [s.recipe.key for x in before.layers for s in x.seeds] == [
        s.recipe.key for x in after.layers for s in x.seeds
    ]


def test_without_a_data_set_the_pass_says_what_to_give(tiny: Path, built: Path, capsys) -> None:
    code, _, err = call(capsys, "dataset-pass", tiny, "--out", built)
    assert code == 2
    assert "give a folder of pictures with --images" in err
    assert read_facts(built / "dataset") is None


def test_an_unfinished_atlas_is_not_studied(tiny: Path, tmp_path: Path) -> None:
    workspace = open_workspace(load_config(str(tiny)), tmp_path / "nothing")
    with pytest.raises(AtlasError, match="build the atlas first"):
        Context(workspace, make_plan(workspace), Inputs())
