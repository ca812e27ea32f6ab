"""Objectives: weighted sums of units, positions, masks and likeness, against plain NumPy; the cone is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from export.errors import InputError
from export.generator import load_generator
from export.network import Network, load_network
from export.objective import OBJECTIVE, likeness, mask_at, with_objectives
from export.step import compile_step
from export.update import Ascent
from tests.pipeline.models import IMAGE_PX, write_generator, write_network


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    path = tmp_path_factory.mktemp("network") / "network.onnx"
    write_network(path)
    return load_network(path)


def outputs(path: Path, image: np.ndarray, *names: str) -> list[np.ndarray]:
    model = onnx.load(path)
    known = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(n) for n in names if n not in known)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(list(names), {session.get_inputs()[0].name: image})


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(1, 3, IMAGE_PX, IMAGE_PX)).astype(np.float32)


def test_a_vector_layer_is_weighted(network: Network, image: np.ndarray, tmp_path: Path) -> None:
    weights = np.random.default_rng(1).normal(size=(3, 5)).astype(np.float32)
    made = with_objectives(network, "fc", weights, tmp_path / "o.onnx")
    found, layer = outputs(made.path, image, OBJECTIVE, "fc")
    np.testing.assert_allclose(found, layer @ weights.T, rtol=1e-5, atol=1e-6)
    assert [info.name for info in made.layers] == [OBJECTIVE]
    assert made.layer(OBJECTIVE).num_units == 3


@pytest.mark.parametrize("where", ["centre", "corner", "mask"])
def test_a_feature_map_is_weighted_where_it_is_asked(
    network: Network, image: np.ndarray, tmp_path: Path, where: str
) -> None:
    weights = np.random.default_rng(1).normal(size=(2, 7)).astype(np.float32)
    uneven = np.random.default_rng(2).uniform(size=(4, 4)).astype(np.float32)
    mask = {"centre": None, "corner": mask_at((7, 4, 4), 0, 3), "mask": uneven}[where]
    made = with_objectives(network, "conv2", weights, tmp_path / "o.onnx", mask=mask)
    found, layer = outputs(made.path, image, OBJECTIVE, "conv2")
    share = {"centre": mask_at((7, 4, 4), 2, 2), "corner": mask, "mask": uneven / uneven.sum()}[where]
    if mask is None:
        assert found.shape == (1, 2, 4, 4)
        found = found[:, :, 2, 2]
    np.testing.assert_allclose(
        found.reshape(1, 2), np.einsum("nchw,hw,kc->nk", layer, share, weights), rtol=1e-4, atol=1e-5
    )


def test_the_pre_activation_can_be_asked_for(network: Network, image: np.ndarray, tmp_path: Path) -> None:
    weights = np.eye(6, dtype=np.float32)[[3]]  # dead behind its ReLU
    made = with_objectives(network, "relu1", weights, tmp_path / "o.onnx", pre_activation=True)
    found, layer = outputs(made.path, image, OBJECTIVE, "conv1")
    np.testing.assert_allclose(found[0, 0], layer[0, 3], rtol=1e-5)
    assert found.max() < -50


def test_one_unit_climbs_exactly_as_it_does_without(network: Network, tmp_path: Path) -> None:
    """The step graph of a one-hot objective gives the unit's own activation and gradient, and is narrowed as far."""
    write_generator(tmp_path / "generator.onnx")
    generator = load_generator(tmp_path / "generator.onnx")
    made = with_objectives(network, "conv2", np.eye(7, dtype=np.float32)[[5]], tmp_path / "o.onnx")
    code = np.random.default_rng(3).normal(size=(1, 8)).astype(np.float32)
    results, boxes = [], []
    for source, layer, unit in ((network, "conv2", 5), (made, OBJECTIVE, 0)):
        graph = compile_step(source, generator, layer, batch=1, ascent=Ascent(steps=10))
        session = onnxruntime.InferenceSession(graph.step, providers=["CPUExecutionProvider"])
        feeds = {
            field.name: np.full((1, *field.shape), field.initial or 0, field.dtype) for field in graph.manifest.state
        }
        feeds |= {"code": code, "unit": np.asarray([unit], np.int64)}
        results.append(session.run(["activation", "gradient", "code.next"], feeds))
        boxes.append(graph.manifest.receptive_field)
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    assert boxes[0] == boxes[1]


def test_likeness_is_less_the_mean_squared_difference(network: Network, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (2, IMAGE_PX, IMAGE_PX, 3), dtype=np.uint8)
    made = likeness((IMAGE_PX, IMAGE_PX), pictures[0], network, tmp_path / "l.onnx")
    for picture in pictures:
        prepared = ((picture / 255.0 - 0.5) / 0.25).transpose(2, 0, 1)[None].astype(np.float32)
        (found,) = outputs(made.path, prepared, OBJECTIVE)
        wanted = -np.mean((picture / 255.0 - pictures[0] / 255.0) ** 2)
        assert found.reshape(()) == pytest.approx(wanted, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": "fc", "weights": np.ones((1, 4), np.float32)}, "do not fit layer 'fc' of 5 units"),
        ({"layer": "fc", "weights": np.zeros((1, 5), np.float32)}, "every objective needs a unit"),
        ({"layer": "fc", "weights": np.ones((1, 5), np.float32), "mask": np.ones((4, 4), np.float32)}, "is a vector"),
        ({"layer": "conv2", "weights": np.ones((1, 7), np.float32), "mask": np.ones((3, 3), np.float32)}, "4 x 4"),
        ({"layer": "conv2", "weights": np.ones((1, 7), np.float32), "mask": np.zeros((4, 4), np.float32)}, "not all 0"),
        ({"layer": "fc", "weights": np.ones((1, 5), np.float32), "pre_activation": True}, "nothing before it"),
        ({"layer": "fd", "weights": np.ones((1, 5), np.float32)}, "has no layer 'fd'"),
    ],
)
def test_what_does_not_fit_is_refused(network: Network, tmp_path: Path, arguments, message: str) -> None:
    with pytest.raises(InputError, match=message):
        with_objectives(network, arguments.pop("layer"), arguments.pop("weights"), tmp_path / "o.onnx", **arguments)


def test_a_position_outside_is_refused() -> None:
    with pytest.raises(InputError, match="no 4,0"):
        mask_at((7, 4, 4), 4, 0)
