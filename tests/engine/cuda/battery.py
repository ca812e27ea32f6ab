"""What a CUDA runner must do, as functions that raise where it does not: run on the runner, and on seeded faults."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from engine.cuda.buffers import Scratch, Stream
from engine.cuda.device import Cuda
from engine.cuda.engine import CudaEngine
from export.errors import EngineError
from tests.engine.cuda.fake_cuda import Error, FakeCuda
from tests.engine.cuda.fake_tensorrt import FakeTensorRt
from tests.engine.graphs import Mlp
from tests.engine.reference import NumpyRunner

BATCH, CODE_DIM, NUM_UNITS = 5, 48, 9
MLP = Mlp.random(code_dim=CODE_DIM, num_units=NUM_UNITS)
GRAPH = MLP.graph(BATCH)
OTHER = Mlp.random(code_dim=CODE_DIM, num_units=NUM_UNITS, seed=1)
OTHER_GRAPH = OTHER.graph(BATCH)

Code = Any
"""The modules under test by name: ``runner``, ``buffers``, ``graphs``, ``engine``, ``device``."""


class Bench:
    """A fake machine and runners made by the code under test."""

    def __init__(self, code: Code, scratch_bytes: int = 4096, **settings: Any) -> None:
        self.code, self.cuda = code, FakeCuda(**settings)
        self.trt = FakeTensorRt(self.cuda, scratch_bytes)

    def scratch(self) -> Scratch:
        return self.code.buffers.Scratch(self.code.buffers.Stream(self.code.device.Cuda(self.cuda)))

    def runner(self, graph: Any = GRAPH, scratch: Any = None, graphs: bool = True) -> Any:
        runtime = self.trt.Runtime(None)
        engines = [
            self.code.engine.CudaEngine(self.trt, runtime.deserialize_cuda_engine(plan), runtime)
            for plan in (graph.step, graph.decode)
        ]
        make = self.code.runner.CudaRunner
        return make("tensorrt", graph.manifest, *engines, scratch or self.scratch(), graphs=graphs)


def jobs(count: int, seed: int = 0) -> tuple[list[int], np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, NUM_UNITS, count).tolist(), rng.normal(size=(count, CODE_DIM)).astype(np.float32)


def assert_same(runner: Any, reference: NumpyRunner) -> None:
    ours, theirs = runner.scalars(), reference.scalars()
    for name in ("activation", "gradient", "best_activation"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=2e-5, atol=2e-5)
    np.testing.assert_array_equal(ours.step, theirs.step)
    slots = [3, 0, 1, 4]
    np.testing.assert_allclose(runner.best_codes(slots), reference.best_codes(slots), rtol=0, atol=1e-4)


def follows_numpy(code: Code) -> None:
    """Steps, refills of odd and even age, and decodes between them, with and without graphs."""
    for graphs in (True, False):
        units, codes = jobs(BATCH)
        new_units, new_codes = jobs(3, seed=1)
        reference = NumpyRunner(MLP.manifest(BATCH), MLP)
        with Bench(code).runner(graphs=graphs) as runner:
            for engine in (runner, reference):
                engine.fill(range(BATCH), units, codes)
                engine.step(3)
            assert_same(runner, reference)
            for engine in (runner, reference):
                engine.fill([4, 0, 1], new_units, new_codes)
                engine.step(2)
                engine.step(3)
                engine.step(3)
            assert_same(runner, reference)
            images = runner.decode(new_codes)
            expected = np.asarray([MLP.image(c) for c in new_codes], np.float32).reshape(images.shape)
            np.testing.assert_allclose(images, expected, rtol=0, atol=1e-5)
            many = jobs(2 * BATCH + 1, seed=2)[1]
            np.testing.assert_array_equal(runner.decode(many)[-1], runner.decode(many[-1:])[0])
            for engine in (runner, reference):
                engine.fill([2], units[:1], codes[:1])
                engine.step(1)
                engine.fill([2, 1], new_units[:2], new_codes[:2])  # at once, while that step may be under way
            assert_same(runner, reference)


def graphs_are_used(code: Code) -> None:
    """Steps of a known count are one launch, whatever the count; nothing is captured again."""
    bench = Bench(code)
    units, codes = jobs(BATCH)
    with bench.runner() as runner:
        runner.fill(range(BATCH), units, codes)
        for _ in range(4):
            runner.step(5)
            runner.scalars()
        assert bench.cuda.calls.count("cudaGraphLaunch") == 4
        assert bench.cuda.calls.count("cudaStreamBeginCapture") == 2
        runner.step(150)
        runner.scalars()
        assert bench.cuda.calls.count("cudaGraphLaunch") == 7
    assert bench.trt.engines[0].runs == 2 + 20 + 150


def works_without_capture(code: Code) -> None:
    """Where a capture fails, steps are enqueued one by one and the results are the same."""
    units, codes = jobs(BATCH)
    found = []
    for works in (True, False):
        bench = Bench(code)
        bench.cuda.capture_works = works
        with bench.runner() as runner:
            runner.fill(range(BATCH), units, codes)
            runner.step(4)
            runner.step(3)
            found.append(runner.best_codes(range(BATCH)).tobytes())
        assert ("cudaGraphLaunch" in bench.cuda.calls) == works
        assert ("cudaGetLastError" in bench.cuda.calls) != works
    assert found[0] == found[1]


def a_refusal_ends_its_capture(code: Code) -> None:
    """A run that is refused while it is captured leaves no open capture, no graph, and says so when it is repeated."""
    bench = Bench(code)
    with bench.runner() as runner:
        for context in bench.trt.engines[0].contexts[1:]:
            context.refuses = True
        with pytest.raises(EngineError, match="could not enqueue"):
            runner.step(2)
        assert not bench.cuda.capturing
    assert bench.cuda.allocations() == (0, 0, 0, 0)


def layers_share_scratch(code: Code) -> None:
    """A second, larger engine on the same scratch: the first goes on, though its scratch has moved."""
    bench = Bench(code)
    scratch = bench.scratch()
    units, codes = jobs(BATCH)
    references = [NumpyRunner(m.manifest(BATCH), m) for m in (MLP, OTHER)]
    first = bench.runner(scratch=scratch)
    for engine in (first, references[0]):
        engine.fill(range(BATCH), units, codes)
        engine.step(2)
    bench.trt.scratch_bytes = 1 << 16
    second = bench.runner(OTHER_GRAPH, scratch=scratch)
    for engine in (second, references[1]):
        engine.fill(range(BATCH), units, codes)
    for _ in range(2):
        for ours, reference in zip((first, second), references, strict=True):
            ours.step(2)
            reference.step(2)
    for ours, reference in zip((first, second), references, strict=True):
        assert_same(ours, reference)
    first.__exit__()
    second.step(1)
    references[1].step(1)
    assert_same(second, references[1])
    second.__exit__()
    assert bench.cuda.allocations() == (0, 0, 0, 0)


def everything_is_freed(code: Code) -> None:
    """After closing nothing is left, also after a failed construction."""
    bench = Bench(code)
    with bench.runner() as runner:
        runner.step(3)
    assert bench.cuda.allocations() == (0, 0, 0, 0)
    with pytest.raises(EngineError, match="closed"):
        runner.step(1)
    small = Bench(code, memory_bytes=3000)
    with pytest.raises(EngineError, match=r"cudaMalloc.*out of memory.*smaller batch"):
        small.runner()
    assert small.cuda.allocations() == (0, 0, 0, 0)


def errors_are_seen(code: Code) -> None:
    """Whatever call fails, an EngineError names it."""
    use: list[tuple[str, Callable[[Any], object]]] = [
        ("cudaGraphLaunch", lambda r: r.step(2)),
        ("cudaStreamSynchronize", lambda r: r.scalars()),
        ("cudaMemcpyAsync", lambda r: r.scalars()),
        ("cudaMemcpyAsync", lambda r: r.fill([1], [0], np.zeros((1, CODE_DIM), np.float32))),
        ("cudaMemcpyAsync", lambda r: r.best_codes([2])),
        ("cudaGraphInstantiate", lambda r: r.step(2)),
        ("cudaStreamBeginCapture", lambda r: r.step(2)),
        ("cudaMemcpyAsync", lambda r: r.decode(np.zeros((1, CODE_DIM), np.float32))),
    ]
    for function, act in use:
        bench = Bench(code)
        runner = bench.runner()
        bench.cuda.failing[function] = Error.cudaErrorIllegalAddress
        with pytest.raises(EngineError, match=f"{function}.*cudaErrorIllegalAddress"):
            act(runner)
    bench = Bench(code)
    runner = bench.runner(graphs=False)
    for context in bench.trt.engines[0].contexts:
        context.refuses = True
    with pytest.raises(EngineError, match="could not enqueue"):
        runner.step(1)


def slots_start_idle(code: Code) -> None:
    """An empty engine is at unit 0, zero code, step 0, though malloc gives garbage."""
    with Bench(code).runner() as runner:
        scalars = runner.scalars()
        assert scalars.step.tolist() == [0] * BATCH
        assert scalars.activation.tolist() == scalars.gradient.tolist() == [0] * BATCH
        assert np.isneginf(scalars.best_activation).all()
        runner.step(1)
        assert np.isfinite(runner.scalars().activation).all()
        np.testing.assert_array_equal(runner.best_codes([0, 4]), 0)


def others_can_look(code: Code) -> None:
    """The array interface gives the address, shape and type of the latest state."""
    bench = Bench(code)
    units, codes = jobs(BATCH)
    with bench.runner() as runner:
        for count in (1, 2):
            runner.fill(range(BATCH), units, codes)
            runner.step(count)
            state, steps = runner.device_state(), runner.scalars().step
            seen = state["step"].__cuda_array_interface__
            assert (seen["shape"], seen["typestr"], seen["version"]) == ((BATCH,), "<i8", 3)
            memory = bench.cuda.view(seen["data"][0], BATCH * 8).view(np.int64)
            np.testing.assert_array_equal(memory, steps)


BATTERY = (
    follows_numpy,
    graphs_are_used,
    works_without_capture,
    a_refusal_ends_its_capture,
    layers_share_scratch,
    everything_is_freed,
    errors_are_seen,
    slots_start_idle,
    others_can_look,
)
__all__ = ["BATTERY", "Cuda", "CudaEngine", "Scratch", "Stream"]
