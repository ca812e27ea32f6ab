"""The graphs the other tests stand on compute the gradient they claim."""

from __future__ import annotations

import numpy as np
import pytest

from tests.engine.graphs import Mlp, conv_graph, learning_rates


def test_the_conv_graphs_gradient_is_its_activations(build_with) -> None:
    graph = conv_graph(batch=4, side=16, channels=4)
    code_dim, unit, eps = graph.manifest.code_dim, 2, 1e-3
    code = np.random.default_rng(0).normal(size=code_dim).astype(np.float32)
    with build_with("onnxruntime", graph) as runner:
        runner.fill([0], [unit], code[None])
        runner.step(1)
        size = runner.scalars().gradient[0]
        runner.step(1)
        gradient = (runner.best_codes([0])[0] - code) / learning_rates(graph.manifest.steps)[0] * size
        numeric = np.zeros(code_dim)
        for index, basis in enumerate(np.eye(code_dim, dtype=np.float32) * np.float32(eps)):
            runner.fill([0, 1], [unit, unit], np.stack([code + basis, code - basis]))
            runner.step(1)
            high, low = runner.scalars().activation[:2]
            numeric[index] = (high - low) / (2 * eps)
    assert np.linalg.norm(gradient - numeric) < 0.01 * np.linalg.norm(numeric)


@pytest.mark.parametrize("act", ["Tanh", "Relu"])
def test_the_mlps_gradient_is_its_activations(act: str) -> None:
    mlp = Mlp.random(code_dim=12, num_units=3, act=act)
    code = np.random.default_rng(1).normal(size=12)
    _, gradient = mlp.ascent(code, 1)
    numeric = [(mlp.ascent(code + e, 1)[0] - mlp.ascent(code - e, 1)[0]) / 2e-5 for e in np.eye(12) * 1e-5]
    np.testing.assert_allclose(gradient, numeric, rtol=1e-4, atol=1e-6)
