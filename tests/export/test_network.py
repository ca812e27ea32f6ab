from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from export.cards import CARD_KEY
from export.errors import ModelError
from export.models import read_model
from export.network import LAYERS_KEY, load_network, resolve_network
from tests.export.pairs import Pair


def test_layers_carry_module_paths_and_shapes(pair: Pair) -> None:
    shapes = {layer.name: layer.shape for layer in pair.network.layers}
    assert shapes["stem.0"] == shapes["stem.1"] == shapes["stem"] == (8, 10, 10)
    assert shapes["pool"] == (8, 5, 5)
    assert shapes["body.1"] == (12, 3, 3)
    assert shapes["head"] == (10,)
    assert pair.network.layer("stem").pre_activation == "stem.1"
    assert pair.network.layer("head").pre_activation is None


def test_a_minus_names_the_negative_of_a_layer(pair: Pair) -> None:
    stem, head = pair.network.layer("-stem"), pair.network.layer("-head")
    assert (stem.name, stem.tensor, stem.pre_activation, stem.sign) == ("-stem", "stem.1", None, -1)
    assert (head.tensor, head.shape, head.sign) == (pair.network.layer("head").tensor, (10,), -1)
    assert pair.network.layer("head").sign == 1
    with pytest.raises(ModelError, match="no layer '-hed'"):
        pair.network.layer("-hed")


def test_a_layer_that_really_begins_with_a_minus_comes_first(pair: Pair, tmp_path: Path) -> None:
    proto = onnx.load(pair.network.path)
    layers = next(entry for entry in proto.metadata_props if entry.key == LAYERS_KEY)
    layers.value = json.dumps({**json.loads(layers.value), "-head": json.loads(layers.value)["pool"]})
    onnx.save(proto, tmp_path / "odd.onnx")
    assert load_network(tmp_path / "odd.onnx").layer("-head").sign == 1


def test_unknown_layer(pair: Pair) -> None:
    with pytest.raises(ModelError, match=r"no layer 'hed'; did you mean head"):
        pair.network.layer("hed")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "not found"),
        (b"", "holds no graph"),
        (b"not an onnx file at all", "not a readable ONNX file"),
    ],
)
def test_missing_and_corrupt_files(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "net.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=message):
        load_network(path)


def test_a_truncated_file_is_refused(pair: Pair, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(pair.network.path.read_bytes()[:2000])
    with pytest.raises(ModelError, match="not a"):
        load_network(path)


def test_a_plain_onnx_file_names_layers_by_tensor(pair: Pair, tmp_path: Path) -> None:
    proto = onnx.load(pair.network.path)
    del proto.metadata_props[:]
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    path = tmp_path / "plain.onnx"
    onnx.save(proto, path)
    network = load_network(path)
    assert network.card.input.height == 20
    assert network.layer("body.1").shape == (12, 3, 3)  # the tensor's name


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ("{", "not JSON"),
        (json.dumps({"title": "x", "input": {"height": "tall", "width": 3}}), r"wrong at 'input\.height'"),
    ],
)
def test_a_wrong_card_is_named(pair: Pair, tmp_path: Path, card: str, message: str) -> None:
    model = read_model(pair.network.path)
    model.metadata_props[CARD_KEY] = card
    import onnx_ir as ir

    ir.save(model, tmp_path / "net.onnx")
    with pytest.raises(ModelError, match=message):
        load_network(tmp_path / "net.onnx")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("bundled:nothing", "no bundled network 'nothing'; bundled are lite0"),
        ("resnet50", "unknown network 'resnet50'"),
        ("torchvision:resnet5", "did you mean resnet50"),
        ("python:no.such:module", "cannot import"),
    ],
)
def test_unknown_sources(tmp_path: Path, source: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        resolve_network(source, cache=tmp_path)


def test_the_bundled_network_has_a_thousand_names(tmp_path: Path) -> None:
    network = resolve_network("bundled:lite0", cache=tmp_path)
    assert network.labels is not None
    assert len(set(network.labels)) == 1000
    assert network.layer("_fc").shape == (1000,)
    assert network.layer("_blocks.4").shape == (40, 16, 16)
