"""Objectives: a network with one more vector, whose components are weighted sums of a layer's units.

The step graph maximises units of a layer, so an objective is made a unit: several units together, some of them
negative, at a position or under a mask, mixtures between two units. Nothing downstream knows the difference.
:func:`likeness` makes an objective of another kind: to look like a given picture, by which a start code for it is
found.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from export.errors import InputError
from export.network import LAYERS_KEY, LayerInfo, Network, load_network
from export.passes.shapes import infer_shapes, shape_of
from export.vjp.emit import Emitter

OBJECTIVE = "objective"
"""Name of the added layer."""


def with_objectives(
    network: Network,
    layer: str,
    weights: npt.NDArray[np.float32],
    out: Path,
    *,
    pre_activation: bool = False,
    mask: npt.NDArray[np.float32] | None = None,
) -> Network:
    """Write a network with the layer :data:`OBJECTIVE`: ``objective[k] = sum_c weights[k, c] sum_p mask[p] layer[c,
    p]``.

    Args:
        network: to extend.
        layer: of it.
        weights: (objectives, units); a negative weight lowers a unit.
        out: the ONNX file to write.
        pre_activation: use the tensor before the layer's saturating activation.
        mask: (H, W) weights of a feature map's positions; scaled to a sum of 1.

    Raises:
        InputError: weights, mask or layer do not fit.
        ModelError: the network has no such layer.
    """
    info = network.layer(layer)
    tensor = info.pre_activation if pre_activation else info.tensor
    if tensor is None:
        raise InputError(f"layer {layer!r} has no saturating activation, so there is nothing before it")
    if weights.ndim != 2 or weights.shape[1] != info.num_units:
        raise InputError(f"weights of shape {weights.shape} do not fit layer {layer!r} of {info.num_units} units")
    if not np.isfinite(weights).all() or not np.abs(weights).sum(axis=1).all():
        raise InputError("every objective needs a unit whose weight is finite and not 0")
    model = network.model(1)
    value = _tensor(model, tensor)
    e = Emitter(model.graph, prefix=OBJECTIVE)
    rows = np.ascontiguousarray(weights, np.float32)
    if len(info.shape) == 3:
        if mask is not None:
            value = _within(e, value, _share(info, mask))
        value = e.op("Conv", value, e.const(rows[:, :, None, None]))
    elif mask is not None:
        raise InputError(f"layer {layer!r} is a vector; a mask needs a feature map")
    else:
        value = e.op("MatMul", value, e.const(np.ascontiguousarray(rows.T)))
    return _written(model, value, network, out)


def likeness(network_side: tuple[int, int], picture: npt.NDArray[np.uint8], source: Network, out: Path) -> Network:
    """Write a network whose one unit is less the mean squared difference of its input to a picture, in [-1, 0].

    Args:
        network_side: (height, width) of the input.
        picture: (height, width, 3) uint8 RGB.
        source: whose card says how its input is normalised; the picture is compared after the same normalisation
            undone, in [0, 1].
        out: the ONNX file to write.
    """
    height, width = network_side
    graph = ir.Graph([], [], nodes=[], name="likeness", opset_imports={"": 20})
    image = ir.Value(name="image", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape((1, 3, height, width)))
    graph.inputs.append(image)
    model = ir.Model(graph, ir_version=10, producer_name="neuron-atlas")
    card = source.card.input
    e = Emitter(graph, prefix=OBJECTIVE)
    mean, std = (np.asarray(v, np.float32).reshape(1, 3, 1, 1) for v in (card.mean, card.std))
    target = picture.transpose(2, 0, 1)[None].astype(np.float32) / 255
    if card.channels == "BGR":
        target = target[:, ::-1]
    off = e.op("Add", e.op("Mul", image, e.const(std)), e.const(np.ascontiguousarray(mean - target)))
    squared = e.op("Mul", off, off)
    value = e.mul(e.sum(squared, (1, 2, 3), keepdims=False), -1 / (3 * height * width))
    return _written(model, e.reshape(value, (1, 1)), source, out)


def mask_at(shape: tuple[int, ...], row: int, column: int) -> npt.NDArray[np.float32]:
    """A mask that is 1 at one position of a layer of ``shape`` (C, H, W).

    Raises:
        InputError: there is no such position.
    """
    if len(shape) != 3:
        raise InputError("a vector layer has no positions; leave the position out")
    if not (0 <= row < shape[1] and 0 <= column < shape[2]):
        raise InputError(f"the layer has positions 0,0 to {shape[1] - 1},{shape[2] - 1}; there is no {row},{column}")
    mask = np.zeros(shape[1:], np.float32)
    mask[row, column] = 1
    return mask


def _within(e: Emitter, value: ir.Value, share: npt.NDArray[np.float32]) -> ir.Value:
    """(N, C, 1, 1): the sum over positions, each counted by its share."""
    used = np.argwhere(share)
    if len(used) > 1:
        return e.sum(e.op("Mul", value, e.const(share[None, None])), (2, 3))
    row, column = (int(i) for i in used[0])
    return e.slice(e.slice(value, 2, row, row + 1), 3, column, column + 1)


def _share(info: LayerInfo, mask: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    height, width = info.shape[1:]
    if mask.shape != (height, width):
        raise InputError(f"a mask of {mask.shape} does not fit layer {info.name!r} of {height} x {width} positions")
    total = float(mask.sum())
    if not np.isfinite(mask).all() or (mask < 0).any() or total <= 0:
        raise InputError("a mask needs values from 0 that are not all 0")
    return np.asarray(mask / total, np.float32)


def _tensor(model: ir.Model, name: str) -> ir.Value:
    return next(v for node in model.graph for v in node.outputs if v.name == name)


def _written(model: ir.Model, value: ir.Value, source: Network, out: Path) -> Network:
    value.name = OBJECTIVE
    model.graph.outputs.clear()
    model.graph.outputs.append(value)
    infer_shapes(model)
    assert shape_of(value)[0] == 1
    model.metadata_props[LAYERS_KEY] = json.dumps({OBJECTIVE: OBJECTIVE})
    out.parent.mkdir(parents=True, exist_ok=True)
    ir.save(model, out)
    return load_network(out, source.card.model_copy(update={"labels": None}))
