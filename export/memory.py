"""How much memory a graph takes: its weights, and the largest set of tensors alive at once."""

from __future__ import annotations

import math
from collections.abc import Iterator

import onnx_ir as ir

from export.passes.shapes import static_shape

VIEWS = {"Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten"}
"""Operators whose output is their first input's memory."""


def weight_bytes(graph: ir.Graph) -> int:
    """Of all initializers."""
    return sum(_bytes(value) for value in graph.initializers.values())


def live_bytes(graph: ir.Graph) -> int:
    """The largest sum over time of the tensors that are alive, the graph's inputs and outputs included, weights not.

    A tensor lives from the node that makes it to the last that reads it, in the order of the graph's nodes; a runtime
    that orders them otherwise, or pads what it keeps, needs another amount.

    Requires: nodes in an order in which they can run, static shapes; a tensor of unknown shape counts nothing.
    """
    nodes = list(graph)
    owner: dict[ir.Value, ir.Value] = {}
    for node in nodes:
        first = node.inputs[0] if node.inputs else None
        if node.op_type in VIEWS and first is not None and not first.is_initializer():
            owner[node.outputs[0]] = owner.get(first, first)
    last: dict[ir.Value, int] = {}
    for index, node in enumerate(nodes):
        last |= {owner.get(value, value): index for value in _read(node)}
    last |= {owner.get(value, value): len(nodes) for value in (*graph.inputs, *graph.outputs)}
    ending: dict[int, list[ir.Value]] = {}
    for value, index in last.items():
        ending.setdefault(index, []).append(value)
    alive = sum(_bytes(value) for value in graph.inputs)
    peak = alive
    for index, node in enumerate(nodes):
        alive += sum(_bytes(value) for value in node.outputs if value not in owner)
        peak = max(peak, alive)
        alive -= sum(_bytes(value) for value in ending.get(index, ()))
        alive -= sum(_bytes(value) for value in node.outputs if value not in owner and value not in last)
    return peak


def _read(node: ir.Node) -> Iterator[ir.Value]:
    return (value for value in node.inputs if value is not None and not value.is_initializer())


def _bytes(value: ir.Value) -> int:
    if value.const_value is not None:
        return int(value.const_value.nbytes)
    shape = static_shape(value)
    if shape is None:
        return 0
    return math.ceil(math.prod(shape) * (value.dtype.bitwidth / 8 if value.dtype is not None else 4))
