"""A job's bytes depend on no other slot, on no position, on no run and on no build."""

from __future__ import annotations

import numpy as np
import pytest

from export.manifest import StepGraph
from tests.conformance.conftest import Build
from tests.engine.graphs import Mlp, conv_graph

NUM_STEPS = 5
UNIT = 3

GRAPHS = {
    "mlp": lambda batch: Mlp.random(code_dim=64, num_units=10).graph(batch),
    "mlp, odd code": lambda batch: Mlp.random(code_dim=77, num_units=10, act="Relu").graph(batch),
    "conv": lambda batch: conv_graph(batch=batch, code_dim=64),
    "conv, wide code": lambda batch: conv_graph(batch=batch, code_dim=256, side=32, channels=32),
    "conv, odd sizes": lambda batch: conv_graph(batch=batch, code_dim=77, side=28, channels=5),
}


@pytest.fixture(params=GRAPHS)
def graph_of(request: pytest.FixtureRequest):
    return GRAPHS[request.param]


def job_bytes(runner, slot: int) -> tuple[bytes, ...]:
    """Everything a slot's job leaves."""
    scalars = runner.scalars()
    code = runner.best_codes([slot])
    names = ("activation", "gradient", "best_activation", "step")
    return (code.tobytes(), *(getattr(scalars, name)[slot].tobytes() for name in names))


class TestBatchInvariance:
    """Part of the conformance class; ``build`` is parametrised over every runtime and precision."""

    @pytest.mark.parametrize(("batch", "threads"), [(3, 1), (8, 2), (5, 2)])
    def test_position_and_companions(self, build: Build, graph_of, batch: int, threads: int) -> None:
        graph: StepGraph = graph_of(batch)
        rng = np.random.default_rng(batch)
        code_dim, num_units = graph.manifest.code_dim, graph.manifest.num_units
        job = rng.normal(size=code_dim).astype(np.float32)
        seen, images = set(), set()
        with build(graph, threads) as runner:
            for companions in ("random", "idle", "not a number", "huge"):
                for slot in range(batch):
                    codes = rng.normal(size=(batch, code_dim)).astype(np.float32)
                    codes *= {"random": 1.0, "idle": 0.0, "not a number": np.nan, "huge": 1e20}[companions]
                    units = rng.integers(0, num_units, batch)
                    codes[slot], units[slot] = job, UNIT
                    runner.fill(range(batch), units.tolist(), codes)
                    runner.step(NUM_STEPS)
                    seen.add(job_bytes(runner, slot))
                    images.add(runner.decode(codes)[slot].tobytes())
        assert len(seen) == 1
        assert len(images) == 1

    def test_ages_of_companions(self, build: Build, graph_of) -> None:
        batch = 4
        graph: StepGraph = graph_of(batch)
        rng = np.random.default_rng(0)
        codes = rng.normal(size=(batch, graph.manifest.code_dim)).astype(np.float32)
        seen = set()
        with build(graph) as runner:
            for late in range(4):
                runner.fill(range(batch), [0, 1, 2, 4], codes[::-1])
                runner.step(late)
                runner.fill([1], [UNIT], codes[:1])
                runner.step(NUM_STEPS)
                seen.add(job_bytes(runner, 1))
        assert len(seen) == 1

    def test_runs_and_builds(self, build: Build, graph_of) -> None:
        batch = 4
        graph: StepGraph = graph_of(batch)
        codes = np.random.default_rng(0).normal(size=(batch, graph.manifest.code_dim)).astype(np.float32)
        seen = set()
        for _ in range(2):
            with build(graph) as runner:
                for _ in range(2):
                    runner.fill(range(batch), [UNIT, 0, 1, 2], codes)
                    runner.step(NUM_STEPS)
                    seen.add(tuple(job_bytes(runner, slot) for slot in range(batch)))
                    seen.add(runner.decode(codes).tobytes())
        assert len(seen) == 2

    def test_lanes_and_threads(self, build: Build, graph_of) -> None:
        """A job's bytes are the same in every lane, and for every number of lanes and threads."""
        batch = 4
        graph: StepGraph = graph_of(batch)
        rng = np.random.default_rng(0)
        job = rng.normal(size=graph.manifest.code_dim).astype(np.float32)
        seen, images = set(), set()
        for threads, lanes in ((1, 1), (2, 1), (2, 2), (3, 3)):
            with build(graph, threads, lanes) as runner:
                for slot in range(0, runner.num_slots, 3):
                    codes = rng.normal(size=(runner.num_slots, len(job))).astype(np.float32)
                    codes[slot] = job
                    runner.fill(range(runner.num_slots), [UNIT] * runner.num_slots, codes)
                    runner.step(NUM_STEPS)
                    seen.add(job_bytes(runner, slot))
                    images.add(runner.decode(codes)[slot].tobytes())
        assert len(seen) == 1
        assert len(images) == 1
