from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import pipeline.tuning
from engine.protocol import Runner
from engine.tuning import Setting, Tuned
from export.errors import EngineError
from pipeline.engines import Engines
from pipeline.memory import resident_bytes
from pipeline.plan import make_plan
from pipeline.tuning import FOLDER, compiled, fitting_lanes, tuned_engine
from pipeline.workspace import Workspace

Open = Callable[..., Workspace]

GIB = 1 << 30


class Measurements:
    """Stands in for :func:`engine.tuning.fastest`; ``choice`` is what it finds, and whose engine it keeps."""

    def __init__(self, choice: Setting) -> None:
        self.choice, self.asked = choice, list[tuple[list[int], list[int]]]()
        self.kept: list[Runner] = []

    def __call__(self, build, batches, lanes, fits) -> Tuned:
        self.asked.append((list(batches), list(lanes)))
        assert fits(self.choice)
        runner = build(self.choice).__enter__()
        assert runner.num_slots == self.choice.num_slots
        assert runner.manifest.batch == self.choice.batch
        self.kept.append(runner)
        return Tuned(self.choice, {self.choice: 1.0}, runner)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Callable[[Setting], Measurements]:
    def measures(choice: Setting) -> Measurements:
        made = Measurements(choice)
        monkeypatch.setattr(pipeline.tuning, "fastest", made)
        return made

    return measures


def test_lanes_are_measured_once_per_network(workspace_of: Open, engine_cache: Path, measured) -> None:
    workspace = workspace_of(threads=2, shard_size=64)
    batch = workspace.config.run.batch
    measurements = measured(Setting(batch, 2))
    with Engines(workspace) as engines:
        assert engines.runner("relu1", pre_activation=False) is measurements.kept[0]
        assert engines.runner("fc", pre_activation=False).num_slots == 2 * batch
    with pytest.raises(EngineError, match="closed"):
        measurements.kept[0].scalars()
    assert measurements.asked == [([batch], [1, 2])]
    assert len(list(engine_cache.glob("tuning-*.json"))) == 1


def test_given_lanes_and_batch_are_taken(workspace_of: Open, measured) -> None:
    measurements = measured(Setting(1, 1))
    workspace = workspace_of(threads=2, lanes=2)
    with Engines(workspace) as engines:
        assert engines.runner("fc", pre_activation=False).num_slots == 2 * workspace.config.run.batch
    assert measurements.asked == []


def test_an_open_batch_is_measured_on_the_deepest_layer_and_kept_in_the_store(
    workspace_of: Open, measured, monkeypatch
) -> None:
    measurements = measured(Setting(8, 1))
    compiled_layers: list[str] = []
    real = pipeline.tuning.compiled
    monkeypatch.setattr(
        pipeline.tuning,
        "compiled",
        lambda ws, layer, *args, **kw: compiled_layers.append(layer) or real(ws, layer, *args, **kw),
    )
    workspace = workspace_of(threads=2, batch=0, shard_size=64)
    assert workspace.batch == 8
    assert measurements.asked == [([4, 8, 16, 32], [1, 2])]
    assert set(compiled_layers) == {"fc"}
    keys = {shard.key for shard in make_plan(workspace).shards}

    measured(Setting(32, 1))
    other = workspace_of(threads=1, batch=0, memory=100 * GIB, shard_size=64)  # another machine of the same store
    assert other.batch == 8
    assert {shard.key for shard in make_plan(other).shards} == keys
    (entry,) = workspace.store.blobs.entries(FOLDER)
    workspace.store.blobs.write(f"{FOLDER}/{entry.name}", b"not JSON")
    assert workspace_of(threads=1, batch=0, shard_size=64).batch == 32


def test_the_real_measurement_chooses_something_that_runs(workspace_of: Open) -> None:
    workspace = workspace_of(threads=2, batch=0, shard_size=16)
    assert workspace.batch in pipeline.tuning.BATCHES["cpu"]
    with Engines(workspace) as engines:
        runner = engines.runner("fc", pre_activation=False)
    assert runner.num_slots <= workspace.config.run.shard_size
    (entry,) = workspace.store.blobs.entries(FOLDER)
    kept = json.loads(workspace.store.blobs.read(f"{FOLDER}/{entry.name}") or b"")
    assert all(speed > 0 for speed in kept["image_steps_per_s"].values())


def test_a_budget_takes_lanes_away(workspace_of: Open, measured, monkeypatch) -> None:
    monkeypatch.setattr(pipeline.tuning, "engine_bytes", lambda manifest, setting: setting.num_slots * GIB)
    batch = workspace_of().config.run.batch
    measured(Setting(batch, 2))
    enough = workspace_of(threads=2, shard_size=64, memory=2 * batch * GIB + 2 * resident_bytes())
    graph = compiled(enough, "fc", batch)

    def lanes(workspace: Workspace) -> int:
        with tuned_engine(workspace, graph, fitting_lanes(workspace, graph.manifest)) as runner:
            return runner.num_slots // batch

    assert lanes(enough) == 2
    assert lanes(workspace_of(threads=2, shard_size=batch)) == 1  # a second lane would idle
    tight = workspace_of(threads=2, shard_size=64, memory=batch * GIB + 2 * resident_bytes())
    assert lanes(tight) == 1
    with pytest.raises(
        EngineError, match=rf"fc needs about .* in a batch of {batch}, .*--memory or a smaller run.batch"
    ):
        fitting_lanes(workspace_of(threads=2, memory=GIB), graph.manifest)
    with pytest.raises(EngineError, match=r"batch of 4, and the budget is 1\.07 GB; allow more with --memory$"):
        _ = workspace_of(threads=2, memory=GIB, batch=0).batch
