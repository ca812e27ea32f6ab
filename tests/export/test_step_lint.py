"""The quick part of `make trt-check`: the lint over step graphs of every network it builds, and one build of each.

The networks are short and narrow ones of the same operators (tests/export/networks.py), but for the demo's, which is
itself. Building them needs TensorRT for RTX and no GPU.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from engine.plans import build_plan
from export.generator import Generator, load_generator, resolve_generator
from export.generators.deepsim import randomised, save_generator
from export.network import resolve_network
from export.passes.precision import step_in
from export.step import compile_decode, compile_step
from export.update import Ascent
from tests.bench.trt_check import NETWORKS, PRECISIONS, faults

BATCH = 2


@pytest.fixture(scope="module")
def generators(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Generator, bytes]]:
    """Generators and their decode graphs."""
    path: Path = tmp_path_factory.mktemp("fc6") / "fc6.onnx"
    save_generator(randomised(1 / 32), path)
    opened = {"bundled": resolve_generator("bundled:lite0-hybrid"), "fc6": load_generator(path)}
    return {kind: (generator, compile_decode(generator, BATCH)) for kind, generator in opened.items()}


@pytest.fixture(scope="module", params=NETWORKS)
def steps(
    request: pytest.FixtureRequest,
    generators: dict[str, tuple[Generator, bytes]],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, bytes]:
    """Step graphs of all layers through the bundled generator, and of the last one through fc6."""
    name = request.param
    source, layers = NETWORKS[name]
    if name != "lite0":
        source = f"python:tests.export.networks:{name}"
    network = resolve_network(source, cache=tmp_path_factory.mktemp(name))
    wanted = [("bundled", layer) for layer in layers] + [("fc6", layers[-1])]
    made = {}
    for kind, layer in wanted:
        ascent = Ascent(fit="crop" if kind == "fc6" else "resize", jitter_px=2)
        generator, decode = generators[kind]
        graph = compile_step(network, generator, layer, batch=BATCH, ascent=ascent, decode=decode)
        made[f"{kind} {layer}"] = graph.step
    return made


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_lint_has_nothing_against_it(steps: dict[str, bytes], precision: str) -> None:
    for what, step in steps.items():
        assert faults(step_in(step, precision)) == [], what


@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx is not installed")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_last_layer_builds(steps: dict[str, bytes], precision: str) -> None:
    import tensorrt_rtx as trt

    assert build_plan(trt, step_in(list(steps.values())[-1], precision), "step", target="SM89")
