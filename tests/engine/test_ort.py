"""ONNX Runtime on CUDA: conformance through its bindings, on the real CPU and on a fake GPU; seeded faults."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

from engine.ort import CUDA_PROVIDER, OnnxRuntimeModel, OrtMemory, Place, cuda_place
from engine.runtimes.onnxruntime_cuda import OnnxRuntimeCudaBuilder
from export.errors import EngineError, InputError
from export.passes.precision import step_in
from export.passes.symmetric import with_symmetric_pads
from tests.conformance.test_batch_invariance import GRAPHS
from tests.conformance.test_batch_invariance import TestBatchInvariance as BatchInvariance
from tests.conformance.test_runtime import TestRuntime as Conformance
from tests.engine.fake_ort import FakeOrt
from tests.engine.graphs import Mlp, conv_graph
from tests.engine.reference import NumpyRunner
from tests.engine.seeding import Fault, assert_caught, loaded

BATCH, CODE_DIM, NUM_UNITS = 5, 48, 9
MLP = Mlp.random(code_dim=CODE_DIM, num_units=NUM_UNITS)
GRAPH = MLP.graph(BATCH)
GPU_PACKAGE = {"onnxruntime-gpu": "1.31.1"}


def on_cpu() -> OnnxRuntimeCudaBuilder:
    """The CUDA runtime with its device set to the CPU: the same bindings, memory and feedback, for real."""
    return OnnxRuntimeCudaBuilder(lambda graphs: Place(), installed=lambda: GPU_PACKAGE, no_gpu=lambda: "")


def on_fake(ort: FakeOrt) -> OnnxRuntimeCudaBuilder:
    return OnnxRuntimeCudaBuilder(load=lambda name: ort, installed=lambda: GPU_PACKAGE, no_gpu=lambda: "")


class OnBuilder:
    """Fixtures for the conformance classes."""

    @pytest.fixture(params=["fp32", "fp16"])
    def runtime(self, request: pytest.FixtureRequest) -> tuple[str, str]:
        return ("onnxruntime_cuda", request.param)

    @pytest.fixture
    def build(self, builder: OnnxRuntimeCudaBuilder, runtime: tuple[str, str]) -> Any:
        return lambda graph, threads=2, lanes=1: builder.build(
            graph, {"threads": threads, "precision": runtime[1], "lanes": lanes}
        )

    def test_refuses_options_it_cannot_follow(self, builder: OnnxRuntimeCudaBuilder) -> None:
        for options in ({"precision": "fp7"}, {"precision": "bf16"}, {"threads": -1}, {"threads": "two"}, {"lanes": 0}):
            with pytest.raises(InputError):
                builder.build(GRAPH, options)


class OnCpu(OnBuilder):
    @pytest.fixture
    def builder(self) -> OnnxRuntimeCudaBuilder:
        return on_cpu()


class OnFake(OnBuilder):
    @pytest.fixture
    def runtime(self) -> tuple[str, str]:
        return ("onnxruntime_cuda", "fp32")

    @pytest.fixture
    def builder(self) -> OnnxRuntimeCudaBuilder:
        return on_fake(FakeOrt())


class TestConformanceOnCpu(OnCpu, Conformance): ...


class TestConformanceOnFake(OnFake, Conformance): ...


class TestInvarianceOnCpu(OnCpu, BatchInvariance):
    @pytest.fixture
    def runtime(self) -> tuple[str, str]:
        return ("onnxruntime_cuda", "fp32")

    @pytest.fixture(params=["mlp", "conv, odd sizes"])
    def graph_of(self, request: pytest.FixtureRequest) -> Any:
        return GRAPHS[request.param]


def jobs(count: int, seed: int = 0) -> tuple[list[int], np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, NUM_UNITS, count).tolist(), rng.normal(size=(count, CODE_DIM)).astype(np.float32)


# What the code must do, as functions that raise where it does not: run on the code, and on seeded faults.


def follows_numpy(code: Any) -> None:
    """Steps, refills of odd and even age and decodes, with CUDA graphs and without."""
    for graphs in (True, False):
        units, codes = jobs(BATCH)
        new_units, new_codes = jobs(3, seed=1)
        reference = NumpyRunner(MLP.manifest(BATCH), MLP)
        with code.build(FakeOrt(), graphs) as runner:
            for engine in (runner, reference):
                engine.fill(range(BATCH), units, codes)
                engine.step(3)
                engine.fill([4, 0, 1], new_units, new_codes)
                engine.step(2)
            ours, theirs = runner.scalars(), reference.scalars()
            for name in ("activation", "gradient", "best_activation"):
                np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=2e-5, atol=2e-5)
            np.testing.assert_array_equal(ours.step, theirs.step)
            np.testing.assert_allclose(runner.best_codes([3, 0]), reference.best_codes([3, 0]), rtol=0, atol=1e-4)
            images = runner.decode(new_codes)
            expected = np.asarray([MLP.image(c) for c in new_codes], np.float32).reshape(images.shape)
            np.testing.assert_allclose(images, expected, rtol=0, atol=1e-5)


def starts_idle(code: Any) -> None:
    """Though device memory is not zero."""
    with code.build(FakeOrt(), True) as runner:
        scalars = runner.scalars()
        assert scalars.activation.tolist() == scalars.gradient.tolist() == [0] * BATCH
        assert scalars.step.tolist() == [0] * BATCH
        assert np.isneginf(scalars.best_activation).all()


def nothing_is_made_after_the_start(code: Any) -> None:
    """Fixed addresses: a run makes no tensor, and each binding is captured once."""
    ort = FakeOrt()
    with code.build(ort, True) as runner:
        before = len(ort.values)
        for seed in range(3):
            runner.fill(range(BATCH), *jobs(BATCH, seed))
            runner.step(3)
            runner.decode(jobs(2 * BATCH, seed)[1])
            runner.scalars()
        assert len(ort.values) == before
        assert [len(session.captured) for session in ort.sessions] == [2, 1]


def never_on_the_cpu(code: Any) -> None:
    """A missing provider and a missing kernel are errors with cause and remedy, with CUDA graphs and without."""
    for graphs in (True, False):
        ort = FakeOrt()
        ort.without_kernel = {"MatMul", "Gemm"}
        with pytest.raises(EngineError, match=r"step graph on the GPU: it has no kernel there for (Gemm|MatMul)"):
            code.build(ort, graphs)
        for heeds in (True, False):
            ort = FakeOrt()
            ort.provider_loads, ort.heeds = False, heeds
            with pytest.raises(
                EngineError, match=r"could not be loaded \(Failed to load libcublasLt.*neuron-atlas\[gpu"
            ):
                code.build(ort, graphs)


BATTERY = (follows_numpy, starts_idle, nothing_is_made_after_the_start, never_on_the_cpu)
MODULES = {"host": "engine.host", "ort": "engine.ort", "builder": "engine.runtimes.onnxruntime_cuda"}


def code(fault: Fault | None = None) -> Any:
    """Something that builds, with a fault or without."""
    made = loaded(MODULES, fault)["builder"]

    def build(ort: FakeOrt, graphs: bool) -> Any:
        kind = made.OnnxRuntimeCudaBuilder
        builder = kind(load=lambda name: ort, installed=lambda: GPU_PACKAGE, no_gpu=lambda: "")
        return builder.build(GRAPH, {"graphs": graphs})

    return SimpleNamespace(build=build)


@pytest.mark.parametrize("check", BATTERY, ids=lambda check: check.__name__)
def test_the_code(check: Any) -> None:
    check(code())


FAULTS = {
    "one graph for both directions": ("ort", "str(self._num_bound)", '"1"'),
    "graphs without a name": ("ort", "if self._place.graphs:", "if False:"),
    "no graphs at all": ("builder", 'options.get("graphs", True)', "False"),
    "what is written is lost": ("ort", "tensor.update_inplace(np.ascontiguousarray(content))", "pass"),
    "memory is taken as it comes": ("ort", "self.write(tensor, np.zeros(shape, dtype))", "pass"),
    "the CPU may help out": ("ort", 'settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")', "pass"),
    "nobody looks where it runs": (
        "ort",
        "if place.provider not in session.get_providers():\n            raise",
        "if False:\n            raise",
    ),
    "the cause is not looked for": ("ort", 'if place.provider != CPU_PROVIDER else ""\n            if', 'and ""\n            if'),
    "what the loader says is dropped": ("ort", 'if "Failed" in line', "if False"),
    "host memory is bound": ("builder", "memory=OrtMemory(library, place)", "memory=None"),
    "a changed row is not written back": ("host", "self._memory.write(tensor, array)", "pass"),
    "codes to decode are not written back": ("host", "self._memory.write(self._code, rows)", "pass"),
    "a refill writes the old side": (
        "host",
        "self._change(self._states[self._latest][field.name]",
        "self._change(self._states[1 - self._latest][field.name]",
    ),
    "missed feedback": ("host", "before, after = self._states[source], self._states[1 - source]",
                        "before, after = self._states[0], self._states[1]"),
    "the latest side is not flipped": ("host", "self._latest = 1 - self._latest", "pass"),
    "readings of the old side": ("host", "self._states[self._latest][field])", "self._states[1 - self._latest][field])"),
    "slots do not start idle": ("host", "self.fill(range(batch), [0] * batch", "(lambda *_: None)(range(batch), [0] * batch"),
    "units are not changed": ("host", "self._change(self._unit, rows, units)", "pass"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_seeded_fault_is_caught(name: str) -> None:
    assert_caught(BATTERY, code(FAULTS[name]))


class TestRealBindings:
    """What the fake takes for granted, of the real library on the CPU."""

    def test_tensors_stay_where_they_are(self, monkeypatch: pytest.MonkeyPatch) -> None:
        made: list[Any] = []
        zeros = OrtMemory.zeros
        monkeypatch.setattr(OrtMemory, "zeros", lambda *a: made.append(zeros(*a)) or made[-1])
        with on_cpu().build(GRAPH, {}) as runner:
            addresses = [tensor.data_ptr() for tensor in made]
            assert len(made) == 2 * len(GRAPH.manifest.state) + 5
            for seed in range(3):
                runner.fill(range(BATCH), *jobs(BATCH, seed))
                runner.step(3)
                runner.decode(jobs(3, seed)[1])
            assert [tensor.data_ptr() for tensor in made] == addresses
            assert {tensor.device_name() for tensor in made} == {"cpu"}

    def test_the_same_bytes_as_the_cpu_runtime(self) -> None:
        graph = conv_graph(batch=2, side=16, channels=4)
        rng = np.random.default_rng(0)
        codes = rng.normal(size=(2, graph.manifest.code_dim)).astype(np.float32)
        left = []
        from engine.runtimes.onnxruntime import BUILDER

        for builder in (on_cpu(), BUILDER):
            with builder.build(graph, {"threads": 1}) as runner:
                runner.fill([0, 1], [0, 1], codes)
                runner.step(5)
                left.append(runner.best_codes([0, 1]).tobytes() + runner.decode(codes).tobytes())
        assert left[0] == left[1]

    def test_options_are_those_that_the_library_has(self) -> None:
        options = onnxruntime.RunOptions()
        options.add_run_config_entry("gpu_graph_id", "3")
        assert options.get_run_config_entry("gpu_graph_id") == "3"
        assert cuda_place(graphs=True).settings == {
            "device_id": "0",
            "enable_cuda_graph": "1",
            "use_tf32": "0",
            "cudnn_conv_algo_search": "HEURISTIC",
            "arena_extend_strategy": "kSameAsRequested",
        }
        assert not cuda_place(graphs=False).graphs

    def test_the_library_tells_where_nodes_run(self) -> None:
        settings = onnxruntime.SessionOptions()
        settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        session = onnxruntime.InferenceSession(GRAPH.step, settings, providers=["CPUExecutionProvider"])
        parts = session.get_provider_graph_assignment_info()
        assert {part.ep_name for part in parts} == {"CPUExecutionProvider"}
        operators = [node.op_type for part in parts for node in part.get_nodes()]
        assert "MatMul" in operators
        assert all(isinstance(node.name, str) for part in parts for node in part.get_nodes())

    @pytest.mark.filterwarnings("ignore:Specified provider")
    def test_a_package_without_cuda_is_no_fallback(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The very thing: the package for the CPU, asked for CUDA, would run on the CPU and only warn."""
        assert CUDA_PROVIDER not in onnxruntime.get_available_providers()
        for graphs in (True, False):
            with pytest.raises(EngineError, match=r"its CUDA provider could not be loaded.*nvidia-smi"):
                OnnxRuntimeModel(GRAPH.step, "step", 1, cuda_place(graphs=graphs))


class TestAvailability:
    @pytest.mark.parametrize(
        ("installed", "gpu", "says"),
        [
            ({}, "", "onnxruntime-gpu is not installed; run `pip install neuron-atlas[gpu]`"),
            ({"onnxruntime": "1.32"}, "", "is the one for the CPU; uninstall it, then run `pip install neuron-atlas[gp"),
            ({"onnxruntime": "1.32", "onnxruntime-gpu": "1.31"}, "", "overwrite each other"),
            (GPU_PACKAGE, "no GPU is visible; check nvidia-smi", "no GPU is visible"),
        ],
    )  # fmt: skip
    def test_says_what_is_missing(self, installed: dict[str, str], gpu: str, says: str) -> None:
        builder = OnnxRuntimeCudaBuilder(installed=lambda: installed, no_gpu=lambda: gpu)
        assert not builder.availability().ok
        assert says in builder.availability().detail
        with pytest.raises(EngineError, match="onnxruntime_cuda cannot start"):
            builder.build(GRAPH, {})

    def test_the_version_comes_first(self) -> None:
        state = on_cpu().availability()
        assert state.ok
        assert state.detail == "1.31.1, GPU (fp32, fp16)"


class TestPrecision:
    def test_only_the_step_is_lowered(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loaded: list[bytes] = []
        ort = FakeOrt()
        make = ort.InferenceSession
        monkeypatch.setattr(
            ort, "InferenceSession", lambda model, *a, **k: loaded.append(model) or make(model, *a, **k)
        )
        on_fake(ort).build(GRAPH, {"precision": "fp16"}).__exit__()
        assert loaded == [with_symmetric_pads(step_in(GRAPH.step, "fp16")), GRAPH.decode]
        assert loaded[0] != GRAPH.step

    def test_a_graph_that_cannot_be_read(self) -> None:
        with pytest.raises(EngineError, match="step graph cannot be read"):
            on_cpu().build(dataclasses.replace(GRAPH, step=b"nothing"), {"precision": "fp16"})


@pytest.fixture(autouse=True)
def _quiet(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """ONNX Runtime writes its refusals to standard error as well."""
    yield
    capfd.readouterr()
