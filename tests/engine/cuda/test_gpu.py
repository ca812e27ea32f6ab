"""What only a GPU can show. Not yet run on one: `make gpu-check` on the first that there is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.parity import compare, probe
from engine.runtimes import builders
from tests.engine.conftest import make_prior
from tests.engine.graphs import conv_graph

GRAPH = conv_graph(batch=4, code_dim=64, side=32)
TOLERANCE = {"fp32": 1e-3, "fp16": 5e-2, "bf16": 2e-1}

pytestmark = pytest.mark.gpu


@pytest.fixture(params=["tensorrt", "tensorrt_rtx"])
def name(request: pytest.FixtureRequest) -> str:
    state = builders()[request.param].availability()
    if not state.ok:
        pytest.skip(f"{request.param}: {state.detail}")
    return request.param


@pytest.mark.parametrize("precision", TOLERANCE)
def test_parity_with_the_cpu(name: str, precision: str, tmp_path: Path) -> None:
    options = {"precision": precision, "engine_cache": str(tmp_path)}
    with builders()[name].build(GRAPH, options) as runner, builders()["onnxruntime"].build(GRAPH, {}) as reference:
        report = compare(probe(runner, make_prior(64), 32), probe(reference, make_prior(64), 32))
    print(f"{name} {precision}: {report}")
    assert report.ok(TOLERANCE[precision], 10 * TOLERANCE[precision])


def test_capture_equals_no_capture(name: str, tmp_path: Path) -> None:
    codes = np.random.default_rng(0).normal(size=(4, 64)).astype(np.float32)
    found = []
    for graphs in (True, False):
        with builders()[name].build(GRAPH, {"engine_cache": str(tmp_path), "graphs": graphs}) as runner:
            runner.fill(range(4), [0, 1, 2, 3], codes)
            for count in (1, 5, 5, 2):
                runner.step(count)
            found.append(runner.best_codes(range(4)).tobytes())
    assert found[0] == found[1]
