"""Forward graphs: pictures in, a few numbers per unit out. What the dataset pass and the studies run.

``image`` (batch, S, S, 3) uint8 RGB -> [scaling, channel order, normalisation] -> [bilinear resize] -> network ->
readouts
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from export.cards import NetworkInput
from export.errors import ModelError
from export.gradient import clean
from export.models import OPSET, model_at_opset
from export.network import Network
from export.passes.batchnorm import fold_batchnorm
from export.passes.merge import merge_into
from export.passes.shapes import infer_shapes, shape_of
from export.serialise import serialise
from export.view import resize_matrix
from export.vjp.emit import Emitter

Kind = Literal["values", "mean", "max", "centre", "at"]


@dataclass(frozen=True)
class Readout:
    """One output of a forward graph.

    Attributes:
        name: of the output.
        tensor: of the network; (N, C, H, W) or (N, C).
        kind: ``values``: as it is; of a feature map ``mean`` and ``max`` over its positions, ``centre``: at row H // 2
            and column W // 2; each (N, C), and what ``values`` is of a vector. ``at``: one number per picture, of the
            channel that the input ``unit`` (N,) int64 names, at the position ``place`` (N,) int64: row x W + column.
    """

    name: str
    tensor: str
    kind: Kind


def compile_forward(network: Network, readouts: Sequence[Readout], *, batch: int, image_px: int | None = None) -> bytes:
    """Compile a forward graph.

    Args:
        network: to run.
        readouts: what comes out, under different names.
        batch: number of pictures.
        image_px: side of the square pictures, resized in the graph as an ascent resizes the generator's; None for
            pictures of the network's own size (H, W).

    Returns:
        The model, serialised; inputs ``image`` and, for readouts ``at``, ``unit`` and ``place``.

    Raises:
        ModelError: a tensor the network lacks, or one that is neither a feature map nor a vector.
    """
    model, tensors = begin(network, [r.tensor for r in readouts], batch=batch, image_px=image_px)
    e = Emitter(model.graph, prefix="readout")
    chosen: dict[str, ir.Value] = {}
    if any(r.kind == "at" for r in readouts):
        chosen = {name: add_input(model.graph, name, ir.DataType.INT64, (batch,)) for name in ("unit", "place")}
    finish(model, {r.name: _read(e, tensors[r.tensor], r.kind, chosen) for r in readouts})
    return serialise(model)


def begin(
    network: Network, names: Sequence[str], *, batch: int, image_px: int | None = None
) -> tuple[ir.Model, dict[str, ir.Value]]:
    """A graph with the input ``image`` and the network's tensors of these names.

    Raises:
        ModelError: as :func:`compile_forward`.
    """
    body = model_at_opset(network, batch)
    found = {v.name: v for node in body.graph for v in node.outputs}
    if missing := [name for name in names if name not in found]:
        raise ModelError(f"the network has no tensor {missing[0]!r}")
    body.graph.outputs.clear()
    body.graph.outputs.extend(found[name] for name in dict.fromkeys(names))
    RemoveUnusedNodesPass()(body)
    fold_batchnorm(body)
    graph = ir.Graph([], [], nodes=[], name="forward", opset_imports={"": OPSET})
    model = ir.Model(graph, ir_version=10, producer_name="neuron-atlas")
    card = network.card.input
    size = (image_px, image_px) if image_px is not None else (card.height, card.width)
    image = add_input(graph, "image", ir.DataType.UINT8, (batch, *size, 3))
    seen = _seen(Emitter(graph, prefix="image"), image, card)
    tensors = merge_into(graph, body, "network", {str(body.graph.inputs[0].name): seen})
    infer_shapes(model)
    return model, tensors


def finish(model: ir.Model, outputs: dict[str, ir.Value]) -> None:
    """Name the outputs and clean up."""
    e = Emitter(model.graph, prefix="output")
    for name, value in outputs.items():
        out = e.op("Identity", value) if value.is_graph_input() or value.is_graph_output() else value
        out.name = name
        model.graph.outputs.append(out)
    clean(model)


def add_input(graph: ir.Graph, name: str, dtype: ir.DataType, shape: tuple[int, ...]) -> ir.Value:
    """A new input of a graph."""
    value = ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(shape))
    graph.inputs.append(value)
    return value


def flat(e: Emitter, value: ir.Value) -> ir.Value:
    """A feature map as (N, C, H W); a vector as (N, C, 1).

    Raises:
        ModelError: it is neither.
    """
    shape = shape_of(value)
    if len(shape) not in (2, 4):
        raise ModelError(f"{value.name} has the shape {shape}; only feature maps (N, C, H, W) and vectors can be read")
    return e.reshape(value, (*shape[:2], int(np.prod(shape[2:], dtype=np.int64))))


def centre_of(shape: tuple[int, ...]) -> int:
    """The flat position of a layer's units; ``shape`` is (C, H, W) or (C,)."""
    return shape[1] // 2 * shape[2] + shape[2] // 2 if len(shape) == 3 else 0


def at_centre(e: Emitter, value: ir.Value) -> ir.Value:
    """(N, C): the units' activations at the position at which the atlas maximises them."""
    shape = shape_of(value)
    place = centre_of(shape[1:])
    return e.reshape(e.slice(flat(e, value), 2, place, place + 1), shape[:2])


def _read(e: Emitter, value: ir.Value, kind: Kind, chosen: dict[str, ir.Value]) -> ir.Value:
    shape = shape_of(value)
    if kind == "values":
        return value
    if kind == "at":
        return _picked(e, flat(e, value), chosen)
    if kind == "centre":
        return at_centre(e, value)
    reduce = "ReduceMean" if kind == "mean" else "ReduceMax"
    return e.reshape(value, shape[:2]) if len(shape) == 2 else e.op(reduce, flat(e, value), e.ints(2), keepdims=0)


def _picked(e: Emitter, value: ir.Value, chosen: dict[str, ir.Value]) -> ir.Value:
    batch, channels, places = shape_of(value)
    index = e.op("Add", e.op("Mul", chosen["unit"], e.const(np.int64(places))), chosen["place"])
    rows = e.reshape(value, (batch, channels * places))
    return e.reshape(e.op("GatherElements", rows, e.reshape(index, (batch, 1)), axis=1), (batch,))


def _seen(e: Emitter, image: ir.Value, card: NetworkInput) -> ir.Value:
    """``(image / 255 - mean) / std`` in the network's channel order and size."""
    values = e.op("Transpose", e.op("Cast", image, to=int(ir.DataType.FLOAT)), perm=[0, 3, 1, 2])
    if card.channels == "BGR":
        values = e.op("Gather", values, e.const(np.asarray([2, 1, 0], np.int64)), axis=1)
    mean, std = (np.asarray(v, np.float64).reshape(1, 3, 1, 1) for v in (card.mean, card.std))
    values = e.op("Mul", values, e.const((1 / (255 * std)).astype(np.float32)))
    values = e.op("Add", values, e.const((-mean / std).astype(np.float32)))
    height, width = shape_of(values)[2:]
    if height != card.height:
        values = e.op("MatMul", e.const(resize_matrix(height, card.height)[None, None]), values)
    if width != card.width:
        values = e.op("MatMul", values, e.const(np.ascontiguousarray(resize_matrix(width, card.width).T)[None, None]))
    return values
