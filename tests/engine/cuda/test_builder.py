"""The TensorRT builder on fakes: precision, cache, messages; and the conformance class on the fake GPU."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest

from engine.cuda.builder import TensorRtBuilder
from engine.cuda.device import Cuda
from engine.protocol import Runner
from engine.runtimes import builders
from export.errors import EngineError, InputError
from export.manifest import StepGraph
from tests.conformance.test_batch_invariance import GRAPHS
from tests.conformance.test_batch_invariance import TestBatchInvariance as BatchInvariance
from tests.conformance.test_parity import TestParity as Parity
from tests.conformance.test_runtime import TestRuntime as Conformance
from tests.engine.cuda.fake_cuda import FakeCuda
from tests.engine.cuda.fake_tensorrt import FakeTensorRt
from tests.engine.graphs import Mlp

GRAPH = Mlp.random(code_dim=8, num_units=2).graph(2)


class Machine:
    """A builder on a fake machine; ``build`` has a cache of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.cuda = folder, FakeCuda()
        self.trt = FakeTensorRt(self.cuda)
        self.builder = TensorRtBuilder(
            "tensorrt", "tensorrt", 0, lambda name: self.trt, lambda: Cuda(self.cuda), lambda: ""
        )

    def build(self, graph: StepGraph = GRAPH, **options: object) -> Runner:
        return self.builder.build(graph, {"precision": "fp32", "engine_cache": str(self.folder), **options})


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    installed = metadata.version
    fakes = {"tensorrt": "11.4.0.106"}
    monkeypatch.setattr(metadata, "version", lambda package: fakes.get(package) or installed(package))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    return Machine(tmp_path / "engines")


class OnFakes:
    """The builder's fixtures for the conformance classes, executed by ONNX Runtime: lower precisions are rounded to."""

    @pytest.fixture(params=["fp32", "fp16", "bf16"])
    def runtime(self, request: pytest.FixtureRequest) -> tuple[str, str]:
        return ("tensorrt", request.param)

    @pytest.fixture
    def build(self, machine: Machine, runtime: tuple[str, str]) -> Any:
        return lambda graph, threads=2, lanes=1: machine.build(graph, threads=threads, precision=runtime[1])


class TestConformance(OnFakes, Conformance):
    """On a GPU the same class runs on the real thing; see tests/conformance."""

    def test_refuses_options_it_cannot_follow(self, machine: Machine) -> None:  # type: ignore[override]
        for options in ({"precision": "fp7"}, {"threads": -1}, {"threads": "two"}):
            with pytest.raises(InputError):
                machine.build(**options)


class TestInvariance(OnFakes, BatchInvariance):
    @pytest.fixture(params=["mlp", "conv, odd sizes"])
    def graph_of(self, request: pytest.FixtureRequest) -> Any:
        return GRAPHS[request.param]


class TestDemo(OnFakes, Parity):
    """What rounding alone does to the demo, by the limits that every build keeps to."""


class TestAvailability:
    @pytest.mark.parametrize("name", ["tensorrt", "tensorrt_rtx"])
    def test_says_what_is_missing(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def absent(package: str) -> str:
            raise metadata.PackageNotFoundError(package)

        builder: Any = builders()[name]
        monkeypatch.setattr(metadata, "version", absent)
        assert "pip install neuron-atlas[" in builder.availability().detail
        with pytest.raises(EngineError, match="not installed"):
            builder.build(GRAPH, {})

    def test_no_driver_is_found_before_tensorrt_is_loaded(self, machine: Machine) -> None:
        def load(name: str) -> Any:
            raise AssertionError("loading it without a driver can crash the process")

        reason = "CUDA failed in cudaGetDeviceCount: no driver"
        builder = TensorRtBuilder("tensorrt", "tensorrt", 0, load, lambda: Cuda(machine.cuda), lambda: reason)
        assert builder.availability().detail == reason
        with pytest.raises(EngineError, match="no driver"):
            builder.build(GRAPH, {})

    def test_the_version_comes_first(self, machine: Machine) -> None:
        assert machine.builder.availability().detail.partition(",")[0] == "11.4.0.106"


class TestPrecision:
    def test_the_step_is_lowered_and_the_decoder_is_not(
        self, machine: Machine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        built: list[bytes] = []

        def build_plan(trt: Any, model: bytes, what: str, **_: Any) -> bytes:
            built.append(model)
            return GRAPH.step if what == "step" else model  # the fake engine has no fp16

        monkeypatch.setattr("engine.cuda.builder.build_plan", build_plan)
        kinds = []
        for precision in ("fp16", "bf16", "fp32"):
            built.clear()
            machine.build(precision=precision, engine_cache=str(machine.folder / precision))
            kinds.append([half_tensors(model) for model in built])
        assert kinds[0][0] > 0
        assert kinds[1][0] > 0
        assert kinds[2] == [0, 0]
        assert kinds[0][1] == kinds[1][1] == 0

    def test_refuses_another(self, machine: Machine) -> None:
        with pytest.raises(InputError, match="fp8 here; choose one of: fp32, fp16, bf16"):
            machine.build(precision="fp8")


def half_tensors(model: bytes) -> int:
    half = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
    return sum(i.data_type in half for i in onnx.load_from_string(model).graph.initializer)


class TestCache:
    def test_a_second_build_builds_nothing(self, machine: Machine) -> None:
        for _ in range(2):
            with machine.build() as runner:
                runner.step(1)
        assert len(machine.trt.builds) == 2  # step and decode, once

    @pytest.mark.parametrize("what", ["version", "device", "graph", "batch"])
    def test_what_a_plan_depends_on_is_in_its_key(self, machine: Machine, what: str) -> None:
        machine.build().__exit__()
        before = len(machine.trt.builds)
        graph = GRAPH
        if what == "version":
            machine.trt.__version__ = "11.4.0.107"  # type: ignore[misc]
        elif what == "device":
            machine.cuda.cudaGetDeviceProperties = lambda device: (0, named("Fake H100"))  # type: ignore[method-assign]
        elif what == "graph":
            graph = Mlp.random(code_dim=8, num_units=2, seed=5).graph(2)
        else:
            graph = Mlp.random(code_dim=8, num_units=2).graph(3)
        machine.build(graph).__exit__()
        assert len(machine.trt.builds) == before + 2

    def test_a_damaged_plan_is_built_again(self, machine: Machine) -> None:
        machine.build().__exit__()
        for plan in machine.folder.glob("*.plan"):
            plan.write_bytes(plan.read_bytes()[:-1])
        machine.build().__exit__()
        assert len(machine.trt.builds) == 4

    def test_a_plan_without_its_sidecar_counts_for_nothing(self, machine: Machine) -> None:
        machine.build().__exit__()
        for sidecar in machine.folder.glob("*.json"):
            sidecar.unlink()
        machine.build().__exit__()
        assert len(machine.trt.builds) == 4

    def test_a_plan_that_does_not_load_is_dropped_and_built_again(self, machine: Machine) -> None:
        machine.build().__exit__()
        for path in machine.folder.glob("*.plan"):
            sidecar = json.loads(path.with_suffix(".json").read_text())
            path.write_bytes(b"foreign")
            sidecar["sha256"] = hashlib.sha256(b"foreign").hexdigest()
            path.with_suffix(".json").write_text(json.dumps(sidecar))
        machine.trt.foreign = {b"foreign"}
        with machine.build() as runner:
            runner.step(1)
        assert len(machine.trt.builds) == 4
        machine.build().__exit__()
        assert len(machine.trt.builds) == 4

    def test_the_sidecar_says_what_it_is(self, machine: Machine) -> None:
        machine.build().__exit__()
        sidecars = [json.loads(path.read_text()) for path in machine.folder.glob("*.json")]
        assert {s["target"] for s in sidecars} == {"SM89 Fake L4"}
        assert {s["version"] for s in sidecars} == {"11.4.0.106"}
        assert any("step of fc, fp32" in s["about"] for s in sidecars)

    def test_timings_are_kept(self, machine: Machine) -> None:
        machine.build().__exit__()
        assert (machine.folder / "timing.cache").read_bytes() == b"+measured+measured"
        for seed, foreign in enumerate((b"other version", b"mismatch: of another GPU")):
            (machine.folder / "timing.cache").write_bytes(foreign)
            machine.build(Mlp.random(code_dim=8, num_units=3, seed=seed).graph(2)).__exit__()
            assert (machine.folder / "timing.cache").read_bytes() == b"+measured+measured"


def named(name: str) -> Any:
    return SimpleNamespace(major=9, minor=0, name=name.encode())


class TestSharing:
    def test_engines_beside_each_other_share_stream_and_scratch(self, machine: Machine) -> None:
        other = Mlp.random(code_dim=8, num_units=2, seed=5).graph(2)
        with machine.build() as first:
            machine.trt.scratch_bytes *= 4
            with machine.build(other, beside=first) as second:
                assert machine.cuda.allocations()[2] == 1  # streams
                assert second.scratch is first.scratch  # type: ignore[attr-defined]
                first.step(2)
                second.step(2)
                assert first.scalars().step.tolist() == second.scalars().step.tolist() == [2, 2]
            first.step(1)
            assert first.scalars().step.tolist() == [3, 3]
        assert machine.cuda.allocations() == (0, 0, 0, 0)

    def test_a_closed_engine_has_nothing_to_share(self, machine: Machine) -> None:
        with machine.build() as first:
            pass
        with machine.build(beside=first) as second:
            second.step(1)

    def test_what_does_not_fit_leaves_nothing_behind(self, machine: Machine) -> None:
        manifest = dataclasses.replace(GRAPH.manifest, code_dim=9)
        with pytest.raises(EngineError, match="do not match its manifest"):
            machine.build(dataclasses.replace(GRAPH, manifest=manifest))
        assert machine.cuda.allocations() == (0, 0, 0, 0)


class TestMessages:
    @pytest.mark.parametrize(
        ("log", "remedy"),
        [
            ("[virtualMemoryBuffer.cpp] Cuda error: out of memory", "smaller batch"),
            ("CUDA initialization failure with error: 35", "nvidia-smi"),
            ("Could not find any implementation for node {Conv_3}", "another precision"),
            ("something nobody has seen", "compile the layer again"),
        ],
    )
    def test_a_failed_build_says_cause_and_remedy(self, machine: Machine, log: str, remedy: str) -> None:
        machine.trt.broken = log
        with pytest.raises(EngineError) as error:
            machine.build()
        assert "could not build the step graph" in str(error.value)
        assert log in str(error.value)
        assert remedy in str(error.value)
        assert "a warning that is no cause" not in str(error.value)

    def test_an_engine_that_does_not_load(self, machine: Machine) -> None:
        machine.trt.foreign = {GRAPH.step}
        with pytest.raises(EngineError, match="cannot load the step engine it has just built"):
            machine.build()

    def test_a_run_that_is_refused_says_what_tensorrt_logged(self, machine: Machine) -> None:
        with machine.build(graphs=False) as runner:
            for context in machine.trt.engines[0].contexts:
                context.refuses = True
            with pytest.raises(EngineError, match=r"could not enqueue a run: Error Code 1: Cask \(refused\)"):
                runner.step(1)

    def test_an_engine_of_another_graph(self, machine: Machine) -> None:
        manifest = dataclasses.replace(GRAPH.manifest, code_dim=9)
        with pytest.raises(EngineError, match="do not match its manifest"):
            machine.build(dataclasses.replace(GRAPH, manifest=manifest))
