"""Every runtime in every precision it offers; each conformance test runs once per pair."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from engine.protocol import Runner
from engine.runtimes import builders
from export.manifest import StepGraph

PAIRS = [(name, precision) for name, builder in builders().items() for precision in builder.precisions()]

Build = Callable[..., Runner]


@pytest.fixture(params=PAIRS, ids="-".join)
def runtime(request: pytest.FixtureRequest) -> tuple[str, str]:
    """(runtime, precision); skips where the runtime cannot run."""
    name, _ = request.param
    state = builders()[name].availability()
    if not state.ok:
        pytest.skip(f"{name}: {state.detail}")
    return request.param


@pytest.fixture
def build(runtime: tuple[str, str]) -> Build:
    """Builds a step graph with the runtime."""
    name, precision = runtime

    def make(graph: StepGraph, threads: int = 2, lanes: int = 1) -> Runner:
        return builders()[name].build(graph, {"threads": threads, "precision": precision, "lanes": lanes})

    return make
