"""Every runtime computes what the reference computes, on step graphs of the real network and generator."""

from __future__ import annotations

from functools import cache

import pytest

from engine.parity import compare
from engine.runtimes import get_builder
from export.generator import resolve_generator
from export.manifest import StepGraph
from export.models import ASSETS
from export.network import load_network
from export.step import compile_step
from export.update import Ascent
from pipeline.engines import REFERENCE, TOLERANCE
from tests.conformance.conftest import Build

GENERATOR = "bundled:lite0-hybrid"


@cache
def demo_graph(layer: str) -> StepGraph:
    """Its generator's layers of the code, and what they pass to the gradient, share their weights."""
    network, generator = load_network(ASSETS / "lite0.onnx"), resolve_generator(GENERATOR)
    return compile_step(network, generator, layer, batch=2, ascent=Ascent(jitter_px=4))


class TestParity:
    """Part of the conformance class; ``build`` is parametrised over every runtime and precision."""

    @pytest.mark.parametrize("layer", ["_blocks.4", "_fc"])
    def test_the_demo(self, build: Build, runtime: tuple[str, str], layer: str) -> None:
        graph = demo_graph(layer)
        with build(graph, lanes=2) as runner:
            lanes = runner.num_slots // graph.manifest.batch
            with get_builder(REFERENCE).build(graph, {"threads": 2, "lanes": lanes}) as other:
                report = compare(runner, other, resolve_generator(GENERATOR).prior)
        assert report.ok(*TOLERANCE[runtime[1]]), report
        assert report.num_moved == report.num_codes
