"""A tiny network and generator as ONNX files, and a configuration for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.priors.box import BoxPrior

IMAGE_PX = 16
CODE_DIM = 8
LABELS = ("ant", "bee", "cat", "dog", "elk")
DEAD_BUT_REVIVED = 3
"""Unit of ``relu1`` that is dead for every image, and alive before the activation."""
DEAD = 5
"""Unit of ``relu1`` whose weights are zero: dead before the activation too."""

CONFIG = """
name = "tiny"
title = "A tiny network"

[network]
source = "network.onnx"

[generator]
source = "generator.onnx"

[ascent]
steps = {steps}
lr = 0.3
start_scale = 0.5

[run]
batch = 3
poll_every = 5
shard_size = {shard_size}
threads = 1

[[layers]]
name = "relu1"

[[layers]]
name = "fc"
title = "Classes"
seeds = 2
"""


def write_tiny(
    folder: Path, *, steps: int = 10, shard_size: int = 2, extra_ops: Sequence[str] = (), height: int = IMAGE_PX
) -> Path:
    """Write network, generator and configuration into ``folder``; return the configuration.

    Args:
        folder: made if it is not there.
        steps: of ascent.
        shard_size: units of a shard.
        extra_ops: operators of one input put before the network's last layer.
        height: what the network's card says of its input; only IMAGE_PX is true.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_network(folder / "network.onnx", extra_ops=extra_ops, height=height)
    write_generator(folder / "generator.onnx")
    path = folder / "tiny.toml"
    path.write_text(CONFIG.format(steps=steps, shard_size=shard_size))
    return path


def write_network(path: Path, *, extra_ops: Sequence[str] = (), height: int = IMAGE_PX) -> None:
    """image (N, 3, 16, 16) -> conv1 6@8 -> relu1 -> conv2 7@4 -> relu2 -> pool -> fc 5."""
    rng = np.random.default_rng(1)
    conv1 = rng.normal(size=(6, 3, 3, 3), scale=0.4).astype(np.float32)
    bias1 = rng.normal(size=6, scale=0.1).astype(np.float32)
    bias1[DEAD_BUT_REVIVED] = -100.0
    conv1[DEAD], bias1[DEAD] = 0.0, -1.0
    weights = {
        "w1": conv1,
        "b1": bias1,
        "w2": rng.normal(size=(7, 6, 3, 3), scale=0.3).astype(np.float32),
        "b2": rng.normal(size=7, scale=0.1).astype(np.float32),
        "w3": rng.normal(size=(5, 7), scale=0.5).astype(np.float32),
        "b3": np.zeros(5, np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["conv1"], name="conv1", strides=[2, 2], pads=[1] * 4),
        helper.make_node("Relu", ["conv1"], ["relu1"], name="relu1"),
        helper.make_node("Conv", ["relu1", "w2", "b2"], ["conv2"], name="conv2", strides=[2, 2], pads=[1] * 4),
        helper.make_node("Relu", ["conv2"], ["relu2"], name="relu2"),
        helper.make_node("GlobalAveragePool", ["relu2"], ["pool"], name="pool"),
        helper.make_node("Flatten", ["pool"], ["flat"], name="flat"),
    ]
    last = "flat"
    for index, op in enumerate(extra_ops):
        nodes.append(helper.make_node(op, [last], [f"extra{index}"], name=f"extra{index}"))
        last = f"extra{index}"
    nodes.append(helper.make_node("Gemm", [last, "w3", "b3"], ["fc"], name="fc", transB=1))
    image = ("N", 3, IMAGE_PX, IMAGE_PX)
    card = {
        "title": "Tiny",
        "input": {"height": height, "width": IMAGE_PX, "channels": "RGB", "mean": [0.5] * 3, "std": [0.25] * 3},
        "labels": LABELS,
    }
    _save(path, nodes, weights, ("image", image), ("fc", ("N", 5)), card)


def write_generator(path: Path) -> None:
    """code (N, 8) -> 4@4 -> 4@8 -> image 3@16, and its code statistics."""
    rng = np.random.default_rng(2)
    weights = {
        "w1": rng.normal(size=(64, CODE_DIM), scale=0.5).astype(np.float32),
        "b1": rng.normal(size=64, scale=0.1).astype(np.float32),
        "shape": np.asarray([-1, 4, 4, 4], np.int64),
        "w2": rng.normal(size=(4, 4, 4, 4), scale=0.3).astype(np.float32),
        "w3": rng.normal(size=(4, 3, 4, 4), scale=0.3).astype(np.float32),
    }
    up = {"strides": [2, 2], "pads": [1] * 4}
    nodes = [
        helper.make_node("Gemm", ["code", "w1", "b1"], ["flat"], transB=1),
        helper.make_node("Reshape", ["flat", "shape"], ["map"]),
        helper.make_node("ConvTranspose", ["map", "w2"], ["up1"], **up),
        helper.make_node("LeakyRelu", ["up1"], ["act1"], alpha=0.2),
        helper.make_node("ConvTranspose", ["act1", "w3"], ["up2"], **up),
        helper.make_node("Sigmoid", ["up2"], ["image"]),
    ]
    card = {"title": "Tiny generator", "output": {"scale": 1.0, "offset": 0.0, "channels": "RGB"}}
    _save(path, nodes, weights, ("code", ("N", CODE_DIM)), ("image", ("N", 3, IMAGE_PX, IMAGE_PX)), card)
    ones = np.ones(CODE_DIM, np.float32)
    BoxPrior(0 * ones, ones, -3 * ones, 3 * ones, 0.99 * ones).save(path.with_suffix(".codes.npz"))


def _save(path: Path, nodes: list, weights: dict, source: tuple, sink: tuple, card: dict) -> None:
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (source, sink)]
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "tiny", infos[:1], infos[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    entry = model.metadata_props.add()
    entry.key, entry.value = "neuron_atlas", json.dumps(card)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))
