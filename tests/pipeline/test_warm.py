"""Warm starts: a changed network goes on from last night's codes, reproducibly; anything else starts anew."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
from onnx import numpy_helper

from export.errors import StoreError
from pipeline import registry, warm
from pipeline.build import BuildReport, build
from pipeline.changes import Side, compare
from pipeline.config import Overrides, load_config
from pipeline.plan import make_plan
from pipeline.progress import SilentReporter
from pipeline.store import Store
from pipeline.table import read_rows
from pipeline.versions import last_two
from pipeline.workspace import open_workspace
from tests.pipeline.test_build import shards_of


def build_here(config: Path, out: Path, **overrides: object) -> BuildReport:
    settings = Overrides(**overrides).apply(load_config(str(config)))  # type: ignore[arg-type]
    return build(settings, out, SilentReporter())


def nudge_network(folder: Path, amount: float = 0.02) -> None:
    """Train the network a little further, so to say."""
    path = folder / "network.onnx"
    model = onnx.load(path)
    rng = np.random.default_rng(5)
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32 and array.any():
            noise = (amount * array.std() * rng.normal(size=array.shape)).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array((array + noise).astype(np.float32), tensor.name))
    onnx.save(model, path)


def recipes(out: Path) -> list[dict]:
    store = Store(str(out / "store"))
    version = registry.current_version(store, "tiny")
    assert version is not None
    return [store.read_recipe(key) or {} for key in sorted(version.keys)]


def codes(out: Path, layer: str = "fc") -> dict[tuple[int, int], np.ndarray]:
    store = Store(str(out / "store"))
    rows = [row for row in read_rows((out / "units.parquet").read_bytes()) if row.layer == layer]
    return {(row.unit, row.seed): store.read_units(store.shards(row.recipe), [row.unit])[row.unit].code for row in rows}


FC = {"layers": ("fc",)}


def test_a_changed_network_starts_from_the_codes_published_last(tiny: Path, tmp_path: Path) -> None:
    warm_out, cold_out = tmp_path / "warm", tmp_path / "cold"
    build_here(tiny, warm_out, **FC)
    last = codes(warm_out)
    assert [recipe.get("start") for recipe in recipes(warm_out)] == [None, None]
    nudge_network(tiny.parent)
    assert build_here(tiny, warm_out, **FC).num_made == 10
    assert all(recipe["start"] for recipe in recipes(warm_out))
    store = Store(str(warm_out / "store"))
    for recipe in recipes(warm_out):
        start = warm.read_codes(store, recipe["start"])
        assert sorted(start) == [0, 1, 2, 3, 4]
        for unit, code in start.items():
            np.testing.assert_array_equal(code, last[unit, recipe["seed"]])
    build_here(tiny, cold_out, **FC)
    mean = {
        out: np.mean([row.activation for row in read_rows((out / "units.parquet").read_bytes())])
        for out in (warm_out, cold_out)
    }
    assert mean[warm_out] > mean[cold_out]


def test_the_nights_after_a_change_have_nothing_to_do(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build_here(tiny, out, **FC)
    nudge_network(tiny.parent)
    build_here(tiny, out, **FC)
    for _ in range(2):
        report = build_here(tiny, out, **FC)
        assert (report.num_made, report.published) == (0, False)


def test_a_warm_run_that_is_interrupted_goes_on_from_the_same_codes(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline import build as building

    whole, out = tmp_path / "whole", tmp_path / "out"
    for folder in (whole, out):
        build_here(tiny, folder, **FC)
    nudge_network(tiny.parent)
    build_here(tiny, whole, **FC)

    class Killed(BaseException):
        pass

    original, made = building.make_shard, list[object]()

    def mortal(*arguments, **options):
        if len(made) == 2:
            raise Killed
        made.append(arguments[1])
        return original(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(building, "make_shard", mortal)
        with pytest.raises(Killed):
            build_here(tiny, out, **FC)
    assert 0 < build_here(tiny, out, **FC).num_made < 10
    assert shards_of(out) == shards_of(whole)


def test_planning_a_warm_run_writes_nothing_and_foretells_its_recipes(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build_here(tiny, out, **FC)
    nudge_network(tiny.parent)
    config = Overrides(layers=("fc",)).apply(load_config(str(tiny)))
    before = {path for path in out.rglob("*") if path.is_file()}
    planned = {shard.key for shard in make_plan(open_workspace(config, out)).shards}
    assert {path for path in out.rglob("*") if path.is_file()} == before
    build_here(tiny, out, **FC)
    version = registry.current_version(Store(str(out / "store")), "tiny")
    assert version is not None
    assert version.keys == planned


@pytest.mark.parametrize(
    "change",
    [
        ("lr = 0.3", "lr = 0.2"),
        ("start_scale = 0.5", "start_scale = 0.4"),
        ("[run]", "[start]\nfrom_last = false\n\n[run]"),
    ],
    ids=["rate", "scale", "told not to"],
)
def test_other_changes_start_anew(tiny: Path, tmp_path: Path, change: tuple[str, str]) -> None:
    out = tmp_path / "out"
    build_here(tiny, out, **FC)
    nudge_network(tiny.parent)
    tiny.write_text(tiny.read_text().replace(*change))
    build_here(tiny, out, **FC)
    assert all("start" not in recipe for recipe in recipes(out))


def test_a_network_of_old_is_taken_from_the_store(tiny: Path, tmp_path: Path) -> None:
    out, network = tmp_path / "out", tiny.parent / "network.onnx"
    build_here(tiny, out, **FC)
    old, table = network.read_bytes(), (out / "units.parquet").read_bytes()
    nudge_network(tiny.parent)
    build_here(tiny, out, **FC)
    network.write_bytes(old)
    report = build_here(tiny, out, **FC)
    assert (report.num_made, report.published) == (0, True)
    assert (out / "units.parquet").read_bytes() == table


def test_a_changed_layer_list_touches_only_what_it_changes(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build_here(tiny, out, **FC)
    before = {path: path.stat().st_mtime_ns for path in (out / "store").glob("*/0*")}
    assert build_here(tiny, out).num_made == 6
    assert all(path.stat().st_mtime_ns == written for path, written in before.items())


def test_damaged_start_codes_are_refused(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build_here(tiny, out, **FC)
    nudge_network(tiny.parent)
    build_here(tiny, out, layers=("fc",), units="0:2")
    for path in (out / "store" / "starts").glob("*.codes"):
        path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(StoreError, match="gone or damaged"):
        build_here(tiny, out, **FC)


def test_damaged_shards_of_last_night_are_not_started_from(tiny: Path, tmp_path: Path) -> None:
    """What is whole is started from; the rest starts anew."""
    out = tmp_path / "out"
    build_here(tiny, out, layers=("fc",), seeds=1)
    first = sorted((out / "store").glob("*/000000*.parquet"))[0]
    first.write_bytes(first.read_bytes()[:-9])
    nudge_network(tiny.parent)
    build_here(tiny, out, layers=("fc",), seeds=1)
    (recipe,) = recipes(out)
    assert sorted(warm.read_codes(Store(str(out / "store")), recipe["start"])) == [2, 3, 4]


def test_changes_are_told_unit_by_unit(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build_here(tiny, out, layers=("relu1", "fc"), units="0:4", seeds=1)
    before = codes(out)
    nudge_network(tiny.parent)
    tiny.write_text(tiny.read_text())
    build_here(tiny, out, layers=("fc",), units="1:5", seeds=1)
    raw = json.loads((out / "site" / "changes.json").read_text())
    assert raw["counts"] == {"new": 1, "gone": 5, "changed": 3, "same": 0}
    assert raw["summary"] == "1 new, 5 gone, 3 changed, 0 the same"
    rows = {(row["layer"], row["unit"]): row for row in raw["units"]}
    assert rows["fc", 4]["kind"] == "new"
    assert {unit for (layer, unit), row in rows.items() if layer == "relu1" and row["kind"] == "gone"} == {0, 1, 2, 3}
    after = codes(out)
    for unit in (1, 2, 3):
        row = rows["fc", unit]
        assert row["kind"] == "changed"
        change = row["activation_after"] - row["activation_before"]
        assert row["activation_change"] == pytest.approx(change)
        moved = np.linalg.norm(after[unit, 0] - before[unit, 0]) / np.linalg.norm(before[unit, 0])
        assert row["code_distance"] == pytest.approx(float(moved))
        assert 0 < row["code_distance"] < 2
    assert compare(*last_two(out)).to_dict() == raw


def test_what_did_not_change_is_the_same_and_its_codes_are_not_read(tiny: Path, tmp_path: Path, monkeypatch) -> None:
    out = tmp_path / "out"
    build_here(tiny, out, **FC)
    table = (out / "units.parquet").read_bytes()
    store = Store(str(out / "store"))

    def refuse(*arguments: object) -> None:
        raise AssertionError("read")

    monkeypatch.setattr(Store, "read_shard", refuse)
    changes = compare(Side.of("a", table, store), Side.of("b", table, store))
    assert changes.counts == {"new": 0, "gone": 0, "changed": 0, "same": 10}
    assert {change.code_distance for change in changes.jobs} == {0.0}
    assert changes.to_dict()["units"] == []


def test_codes_of_another_generator_are_not_compared(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build_here(tiny, out, layers=("fc",), seeds=1)
    path = tiny.parent / "generator.codes.npz"
    arrays = dict(np.load(path))
    sink = io.BytesIO()
    np.savez(
        sink, **{name: array * np.float32(1.01) if name in ("high", "std") else array for name, array in arrays.items()}
    )
    path.write_bytes(sink.getvalue())
    build_here(tiny, out, layers=("fc",), seeds=1)
    units = json.loads((out / "current" / "changes.json").read_text())["units"]
    assert len(units) == 5
    assert {unit["code_distance"] for unit in units} == {None}
    assert all(unit["activation_change"] is not None for unit in units)


def test_the_table_can_be_read_back(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build_here(tiny, out)
    rows = read_rows((out / "units.parquet").read_bytes())
    assert [vars(row) for row in rows] == pq.read_table(out / "units.parquet").to_pylist()
    with pytest.raises(StoreError, match="table of units cannot be read"):
        read_rows(b"junk")
