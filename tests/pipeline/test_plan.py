"""Plans: what is asked for, what is done, what is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from export.errors import InputError, StoreError
from pipeline import plan as planning
from pipeline.config import Overrides, load_config
from pipeline.plan import Plan, make_plan, split
from pipeline.records import Record
from pipeline.workspace import Workspace, open_workspace
from tests.pipeline.models import write_tiny

Open = Callable[..., Workspace]
FACTS: dict = {"position": None, "receptive_field": {}, "image_px": 16, "num_units": 5, "code_dim": 8}


def store_units(workspace: Workspace, layer: str, seed: int, units: Sequence[int]) -> None:
    """Pretend that these units are done."""
    nothing = np.zeros(1, np.float32)
    records = [Record(unit, seed, 1.0, 10, "done", layer, nothing, nothing, b"") for unit in units]
    recipe = workspace.recipe(workspace.network.layer(layer), seed)
    workspace.store.write_shard(recipe.key, records, FACTS)


def test_an_empty_store_leaves_everything_to_do(open_tiny: Open) -> None:
    plan = make_plan(open_tiny())
    assert plan.to_dict() == {
        "jobs": 16,
        "done": 0,
        "todo": 16,
        "layers": {"relu1": {"jobs": 6, "done": 0, "todo": 6}, "fc": {"jobs": 10, "done": 0, "todo": 10}},
    }
    assert [(shard.layer, shard.seed, shard.units) for shard in plan.shards] == [
        ("relu1", 0, (0, 1)),
        ("relu1", 0, (2, 3)),
        ("relu1", 0, (4, 5)),
        ("fc", 0, (0, 1)),
        ("fc", 0, (2, 3)),
        ("fc", 0, (4,)),
        ("fc", 1, (0, 1)),
        ("fc", 1, (2, 3)),
        ("fc", 1, (4,)),
    ]


def test_what_is_stored_is_done_for_its_layer_and_seed_alone(open_tiny: Open) -> None:
    workspace = open_tiny(layers=("fc",))
    store_units(workspace, "fc", 1, [2, 3])
    plan = make_plan(workspace)
    assert (plan.num_jobs, plan.num_done) == (10, 2)
    assert [(shard.seed, shard.units) for shard in plan.shards] == [
        (0, (0, 1)),
        (0, (2, 3)),
        (0, (4,)),
        (1, (0, 1)),
        (1, (4,)),
    ]


def test_stored_units_that_were_not_asked_for_do_not_count(open_tiny: Open) -> None:
    workspace = open_tiny(layers=("fc",), units="1:3", seeds=1)
    store_units(workspace, "fc", 0, [2, 3, 4])
    plan = make_plan(workspace)
    assert (plan.num_jobs, plan.num_done, plan.num_todo) == (2, 1, 1)
    assert [shard.units for shard in plan.shards] == [(1,)]


def test_layers_go_from_early_to_late_whatever_was_asked_first(open_tiny: Open) -> None:
    plan = make_plan(open_tiny(layers=("fc", "conv1", "relu2")))
    assert [layer.info.name for layer in plan.layers] == ["conv1", "relu2", "fc"]


def test_a_damaged_shard_is_to_do_again(open_tiny: Open, caplog) -> None:
    workspace = open_tiny(layers=("fc",), seeds=1)
    store_units(workspace, "fc", 0, [0, 1])
    parquet = next(Path(workspace.store.url).rglob("*.parquet"))
    parquet.write_bytes(parquet.read_bytes()[:-1])
    assert make_plan(workspace).num_done == 0
    assert "made again" in caplog.text


def test_planning_compiles_nothing_and_leaves_no_file(open_tiny: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    import export.step

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("compiled")

    monkeypatch.setattr(export.step, "compile_step", refuse)
    workspace = open_tiny()
    make_plan(workspace)
    assert [path for path in workspace.out.rglob("*") if path.is_file()] == []
    assert not hasattr(planning, "compile_step")


def test_interrupted_parts_are_the_same_parts_again() -> None:
    units = list(range(3, 26))
    parts = split(units, 4)
    assert sum(parts, ()) == tuple(units)
    rng = np.random.default_rng(0)
    for _ in range(20):
        done = {index for index in range(len(parts)) if rng.random() < 0.5}
        missing = [unit for index, part in enumerate(parts) if index not in done for unit in part]
        assert split(missing, 4) == [part for index, part in enumerate(parts) if index not in done]


@pytest.mark.parametrize(
    ("overrides", "messages"),
    [
        ({"layers": ("rellu1",)}, ["has no layer 'rellu1'; did you mean relu1"]),
        ({"layers": ("fc", "fc")}, ["layer fc is asked for twice"]),
        ({"units": "0:6"}, ["layer fc has units 0 to 4; there is no unit 5"]),
        ({"layers": ("fc",), "units": ("bear",)}, ["layer fc has no class 'bear'"]),
        ({"units": ("bee",)}, ["units of layer relu1 have no names"]),
        (
            {"layers": ("x", "relu1", "fc"), "units": "9"},
            ["3 layers are wrong:", "'x'", "relu1 has units", "fc has units"],
        ),
        ({"runtime": "onnxruntme"}, ["there is no runtime 'onnxruntme'; did you mean onnxruntime"]),
    ],
)
def test_wrong_requests_are_refused_and_all_are_listed(open_tiny: Open, overrides: dict, messages: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        make_plan(open_tiny(**overrides))
    for message in messages:
        assert message in str(caught.value)
    assert caught.value.exit_code == 2


def test_class_names_select_units_of_the_layer_that_has_them(open_tiny: Open) -> None:
    plan = make_plan(open_tiny(layers=("fc",), units=("dog", "bee")))
    assert plan.layers[0].units == (1, 3)


def test_labels_of_the_configuration_replace_the_cards(tmp_path: Path) -> None:
    path = write_tiny(tmp_path)
    (tmp_path / "names.txt").write_text("one\ntwo\nthree\nfour\nfive\n")
    text = path.read_text().replace('source = "network.onnx"', 'source = "network.onnx"\nlabels = "names.txt"')
    path.write_text(text)
    assert _plan(path, tmp_path, layers=("fc",), units=("three",)).layers[0].units == (2,)
    path.write_text(text.replace("names.txt", "nosuch.txt"))
    with pytest.raises(InputError, match=r"network\.labels: .*nosuch\.txt cannot be read"):
        _plan(path, tmp_path)


def test_a_precision_the_runtime_lacks_is_refused(tmp_path: Path) -> None:
    path = write_tiny(tmp_path)
    path.write_text(path.read_text().replace("[run]", '[run]\nprecision = "fp16"'))
    with pytest.raises(InputError, match="cannot run fp16 here"):
        _plan(path, tmp_path)


def test_a_store_that_cannot_be_written_is_refused(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="choose another folder with --out"):
        _plan(tiny, tmp_path / "file")


def _plan(path: Path, out: Path, **overrides: object) -> Plan:
    config = Overrides(**overrides).apply(load_config(str(path)))  # type: ignore[arg-type]
    return make_plan(open_workspace(config, out))
