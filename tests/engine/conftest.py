"""A prior for the small step graphs, and a guard for tests that need real runtimes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from engine.protocol import Runner
from engine.runtimes import builders
from export.manifest import StepGraph
from export.prior import CodePrior
from export.priors.box import BoxPrior


def make_prior(code_dim: int, bound: float = 4.0) -> CodePrior:
    ones = np.ones(code_dim, np.float32)
    return BoxPrior(mean=0 * ones, std=ones, low=-bound * ones, high=bound * ones, decay=ones)


@pytest.fixture(scope="session")
def build_with() -> Callable[..., Runner]:
    """``build_with(runtime, graph, lanes)``; skips where the runtime cannot run."""

    def build(name: str, graph: StepGraph, lanes: int = 1) -> Runner:
        state = builders()[name].availability()
        if not state.ok:
            pytest.skip(f"{name}: {state.detail}")
        return builders()[name].build(graph, {"threads": 2, "lanes": lanes})

    return build
