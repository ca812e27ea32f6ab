from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

import engine.runtimes
import pipeline.engines
import pipeline.tuning
from engine.protocol import Runner
from engine.runtimes import builders, onnxruntime, openvino
from export.errors import EngineError
from export.manifest import StepGraph
from pipeline.engines import Engines
from pipeline.workspace import Workspace

Open = Callable[..., Workspace]


class Wrong(openvino.OpenVinoBuilder):
    """Computes something else: one weight of the step graph is 10% too large."""

    name = "wrong"
    rank = 1
    num_built = 0

    def build(self, graph: StepGraph, options: Mapping[str, object]) -> Runner:
        model = onnx.load_from_string(graph.step)
        weight = next(t for t in model.graph.initializer if len(t.dims) == 4)
        weight.CopyFrom(numpy_helper.from_array(1.1 * numpy_helper.to_array(weight), weight.name))
        self.num_built += 1
        return super().build(dataclasses.replace(graph, step=model.SerializeToString()), options)


def test_a_wrong_engine_is_refused_with_the_figures(workspace_of: Open) -> None:
    workspace = workspace_of(Wrong())
    with Engines(workspace) as engines, pytest.raises(EngineError, match=r"relu1 wrongly.*activation \d.*onnxruntime"):
        engines.runner("relu1", pre_activation=False)


def test_an_engine_is_compared_once_and_the_figures_are_kept(
    workspace_of: Open, engine_cache: Path, monkeypatch
) -> None:
    workspace = workspace_of("openvino")
    calls: list[object] = []
    real = pipeline.engines.compare
    monkeypatch.setattr(pipeline.engines, "compare", lambda *args: calls.append(args) or real(*args))
    for _ in range(2):
        with Engines(workspace) as engines:
            engines.runner("fc", pre_activation=False)
    assert len(calls) == 1
    (file,) = engine_cache.glob("parity-*.json")
    kept = json.loads(file.read_text())
    assert kept["ok"]
    assert kept["layer"] == "fc"
    assert kept["activation"] < 1e-4
    file.write_text("not JSON")
    with Engines(workspace) as engines:
        engines.runner("fc", pre_activation=False)
    assert len(calls) == 2


def test_the_reference_is_not_compared_with_itself(workspace_of: Open, monkeypatch) -> None:
    workspace = workspace_of("onnxruntime")
    monkeypatch.setattr(pipeline.engines, "compare", lambda *args: pytest.fail("compared"))
    with Engines(workspace) as engines:
        engines.runner("fc", pre_activation=False)


class OneBatch(onnxruntime.OnnxRuntimeBuilder):
    """A GPU: whatever number of lanes is asked for, it has one batch."""

    name, device = "one_batch", "gpu"
    num_built = 0

    def build(self, graph: StepGraph, options: Mapping[str, object]) -> Runner:
        self.num_built += 1
        return super().build(graph, {**options, "lanes": 1})


@pytest.mark.parametrize("lanes", [0, 2])
def test_a_gpu_is_built_once_and_compared_batch_by_batch(workspace_of: Open, lanes: int) -> None:
    """Nothing is tuned, and the reference has as many slots as it has, not as many as were asked for."""
    builder = OneBatch()
    with Engines(workspace_of(builder, threads=2, lanes=lanes)) as engines:
        runner = engines.runner("fc", pre_activation=False)
        assert runner.num_slots == runner.manifest.batch
    assert builder.num_built == 1


def test_a_folder_that_cannot_be_written_costs_the_measurement_only(
    workspace_of: Open, tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(pipeline.tuning, "CACHE", tmp_path / "file" / "engines")
    workspace = workspace_of("openvino")
    with Engines(workspace) as engines:
        engines.runner("fc", pre_activation=False)


def test_auto_is_the_runtime_of_the_lowest_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    assert engine.runtimes.get_builder("auto").name == "openvino"
    everything = {**builders(), "wrong": Wrong()}
    monkeypatch.setattr(engine.runtimes, "builders", lambda: everything)
    assert engine.runtimes.get_builder("auto").name == "wrong"
