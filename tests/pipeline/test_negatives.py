"""Negatives: what lowers each unit most, made beside everything else and changing nothing of it."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.build import BuildReport, build
from pipeline.config import Overrides, load_config
from pipeline.plan import Plan, make_plan
from pipeline.progress import SilentReporter
from pipeline.retention import prune
from pipeline.workspace import Workspace, open_workspace
from tests.pipeline.models import DEAD, DEAD_BUT_REVIVED

SETTINGS = Overrides(layers=("relu1", "fc"), units="0:4")


def ask_for_negatives(config: Path) -> None:
    text = config.read_text()
    config.write_text(text.replace("[ascent]\n", "[ascent]\nnegative = true\n"))


def run(config: Path, out: Path) -> BuildReport:
    return build(SETTINGS.apply(load_config(str(config))), out, SilentReporter())


def planned(config: Path, out: Path) -> tuple[Workspace, Plan]:
    workspace = open_workspace(SETTINGS.apply(load_config(str(config))), out)
    return workspace, make_plan(workspace)


@pytest.fixture
def built(tiny: Path, tmp_path: Path) -> Path:
    """Without negatives first, then with."""
    run(tiny, tmp_path / "out")
    ask_for_negatives(tiny)
    return tmp_path / "out"


def test_only_the_negatives_are_made_where_the_rest_is_there(tiny: Path, built: Path) -> None:
    before = {path: path.read_bytes() for path in (built / "store").glob("*/*.parquet")}
    table = (built / "units.parquet").read_bytes()
    _, plan = planned(tiny, built)
    assert [layer.info.name for layer in plan.layers] == ["relu1", "fc"]
    assert [(layer.info.name, layer.num_todo) for layer in plan.negatives] == [("-relu1", 4), ("-fc", 4)]
    assert plan.num_todo == 8
    assert run(tiny, built).num_made == 8
    assert all(path.read_bytes() == content for path, content in before.items())
    assert (built / "units.parquet").read_bytes() == table, "negatives are no further seeds"
    assert run(tiny, built).num_made == 0


def test_the_site_shows_what_lowers_a_unit_with_its_own_activation(tiny: Path, built: Path) -> None:
    assert "lowers it most" not in (built / "site" / "layer" / "fc" / "2.html").read_text()
    run(tiny, built)
    folder = built / "site" / "layer" / "fc"
    facts = json.loads((folder / "2.json").read_text())
    assert facts["values"]["lowest"] == facts["negative"]["activation"] < facts["values"]["activation"]
    assert facts["negative"]["curve"][-1] <= facts["negative"]["curve"][0]
    assert facts["negative"]["target"] == "fc"
    assert "What lowers it most" in (folder / "2.html").read_text()
    assert (folder / facts["negative"]["image"]).is_file()
    rows = pq.read_table(built / "site" / "units.parquet", filters=[("layer", "==", "fc"), ("unit", "==", 2)])
    assert rows.column("lowest").to_pylist() == pytest.approx([facts["values"]["lowest"]] * 2)


def test_behind_a_relu_the_tensor_before_it_is_lowered(tiny: Path, built: Path) -> None:
    run(tiny, built)
    folder = built / "site" / "layer" / "relu1"
    facts = json.loads((folder / f"{DEAD_BUT_REVIVED}.json").read_text())
    assert facts["negative"]["target"] == "conv1"
    assert facts["negative"]["activation"] < -100
    assert "before the activation function" in (folder / f"{DEAD_BUT_REVIVED}.html").read_text()


def test_a_unit_that_nothing_lowers_has_no_negative(tiny: Path, tmp_path: Path) -> None:
    ask_for_negatives(tiny)
    settings = Overrides(layers=("relu1",), units=f"{DEAD}:{DEAD + 1}")
    report = build(settings.apply(load_config(str(tiny))), tmp_path / "out", SilentReporter())
    facts = json.loads((report.index.parent / "layer" / "relu1" / f"{DEAD}.json").read_text())
    assert "negative" not in facts


def test_retention_protects_negatives_that_are_shown(tiny: Path, built: Path) -> None:
    run(tiny, built)
    workspace, plan = planned(tiny, built)
    keys = {layer.seeds[0].recipe.key for layer in plan.negatives}
    shown = json.loads((built / "store" / "atlases" / "tiny" / "current.json").read_text())
    assert keys <= {key for found in shown["recipes"].values() for key in found}
    assert prune(workspace.store, 1, dry_run=True).recipes == ()


def test_another_network_makes_other_negatives_from_the_last_ones(tiny: Path, built: Path) -> None:
    run(tiny, built)
    network = tiny.parent / "network.onnx"
    network.write_bytes(network.read_bytes().replace(b"Tiny", b"Tinz"))
    _, plan = planned(tiny, built)
    assert [layer.num_todo for layer in plan.negatives] == [4, 4]
    assert all(layer.seeds[0].recipe.start for layer in plan.negatives)
