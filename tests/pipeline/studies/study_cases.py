"""A tiny atlas whose network answers by colour, and pictures of known colour: for cases with a known answer.

The network's vector ``fc`` has one unit per class; unit k is highest for pictures of colour k. Its generator draws any
flat colour, so the best synthetic picture of unit k is known: colour k at full strength.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from export.priors.box import BoxPrior

IMAGE_PX = 16
COLOURS = {
    "red": (1, 0, 0),
    "green": (0, 1, 0),
    "blue": (0, 0, 1),
    "yellow": (1, 1, 0),
    "cyan": (0, 1, 1),
    "pink": (1, 0, 1),
}
LABELS = tuple(COLOURS) + tuple(f"{name} too" for name in COLOURS)
"""Twelve classes: each colour twice, so that a unit has a twin."""
HIDDEN = 12


@dataclass(frozen=True)
class Folders:
    """Where a case's files lie."""

    config: Path
    images: Path
    judge: Path
    out: Path


def directions(turned: Mapping[int, str] | None = None) -> np.ndarray:
    """(12, 3) one direction per class, of unit length, from grey; ``turned`` gives classes another colour."""
    colours = [*COLOURS.values(), *COLOURS.values()]
    for unit, name in (turned or {}).items():
        colours[unit] = COLOURS[name]
    rows = np.asarray(colours, np.float64) - 0.5
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def write_network(
    path: Path,
    *,
    labels: Sequence[str] = LABELS,
    gain: Sequence[float] | None = None,
    turned: Mapping[int, str] | None = None,
) -> None:
    """image (N, 3, 16, 16) -> map (12 @ 4): direction . mean colour of each 4 px cell -> pool -> fc (12).

    Args:
        path: of the ONNX file.
        labels: of the classes.
        gain: (12,) factor of every class; 1 by default.
        turned: classes that answer to another colour.
    """
    rows = directions(turned)
    kernel = np.repeat(np.repeat(rows[:, :, None, None], 4, axis=2), 4, axis=3) / 16
    fc = np.diag(gain if gain is not None else np.ones(len(rows)))
    weights = {"w1": kernel.astype(np.float32), "w2": fc.astype(np.float32)}
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["map"], name="map", strides=[4, 4]),
        helper.make_node("GlobalAveragePool", ["map"], ["pool"], name="pool"),
        helper.make_node("Flatten", ["pool"], ["flat"], name="flat"),
        helper.make_node("MatMul", ["flat", "w2"], ["fc"], name="fc"),
    ]
    card = {
        "title": "Colours",
        "input": {"height": IMAGE_PX, "width": IMAGE_PX, "channels": "RGB", "mean": [0.5] * 3, "std": [0.5] * 3},
        "labels": list(labels),
    }
    _save(path, nodes, weights, ("image", ("N", 3, IMAGE_PX, IMAGE_PX)), ("fc", ("N", len(labels))), card)


def write_generator(path: Path, *, encoder: str | None = None, images_seen: int = 1000) -> None:
    """code (N, 3) -> a flat colour, sigmoid(code).

    Args:
        path: of the ONNX file.
        encoder: digest of the network that its card says it was trained to invert.
        images_seen: in that training.
    """
    spread = np.repeat(np.eye(3, dtype=np.float32), IMAGE_PX * IMAGE_PX, axis=1)
    weights = {"w": spread, "shape": np.asarray([-1, 3, IMAGE_PX, IMAGE_PX], np.int64)}
    nodes = [
        helper.make_node("MatMul", ["code", "w"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], ["map"]),
        helper.make_node("Sigmoid", ["map"], ["image"]),
    ]
    card: dict[str, Any] = {"title": "Colour generator"}
    if encoder is not None:
        card |= {"encoder_layers": {"digest": encoder}, "training_images_seen": images_seen}
    _save(path, nodes, weights, ("code", ("N", 3)), ("image", ("N", 3, IMAGE_PX, IMAGE_PX)), card)
    ones = np.ones(3, np.float32)
    BoxPrior(0 * ones, ones, -4 * ones, 4 * ones, ones).save(path.with_suffix(".codes.npz"))


def write_pictures(folder: Path, per_class: int, *, strength: float = 0.5, noise: int = 12, seed: int = 0) -> Path:
    """Pictures of the six colours, at most ``strength`` away from grey (1: pure colours), in folders of their names."""
    rng = np.random.default_rng(seed)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(per_class):
            level = strength * rng.uniform(0.3, 1.0)
            flat = 127.5 + 255 * (np.asarray(colour) - 0.5) * level
            texture = rng.normal(0, noise, (IMAGE_PX, IMAGE_PX, 3))
            pixels = np.clip(flat + texture, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index:03d}.png")
    return folder


def write_textures(folder: Path, count: int, *, seed: int, side: int = 32) -> Path:
    """Smooth pictures of random layout; no two alike."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{index:04d}.png")
    return folder


CONFIG = """
name = "colours"

[network]
source = "network.onnx"

[generator]
source = "generator.onnx"

[ascent]
steps = 20
lr = 0.5
warmup = 0
start_scale = 0.5

[run]
batch = 6
poll_every = 5
shard_size = 12
threads = 1

[dataset]
sample = 100
batch = 8
bins = 32
top = 6

[[layers]]
name = "map"

[[layers]]
name = "fc"
title = "Classes"
"""


def _save(path: Path, nodes: list, weights: dict, source: tuple, sink: tuple, card: dict) -> None:
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (source, sink)]
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "case", infos[:1], infos[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    entry = model.metadata_props.add()
    entry.key, entry.value = "neuron_atlas", json.dumps(card)
    onnx.checker.check_model(model, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString(deterministic=True))
