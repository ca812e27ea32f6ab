"""How much arithmetic a graph holds: multiply-additions of its products, by node."""

from __future__ import annotations

import math
from collections.abc import Iterable

import onnx_ir as ir

from export.cone.regions import shape_of


def multiply_additions(nodes: Iterable[ir.Node]) -> int:
    """Of all convolutions and matrix products. Two floating-point operations each; everything else is left out.

    Requires: static shapes.
    """
    return sum(_count(node) for node in nodes)


def _count(node: ir.Node) -> int:
    if node.op_type == "Conv":
        out, weight = shape_of(node.outputs[0]), shape_of(node.inputs[1])
        return math.prod(out) * math.prod(weight[1:])
    if node.op_type == "ConvTranspose":
        x, weight = shape_of(node.inputs[0]), shape_of(node.inputs[1])
        return math.prod(x) * math.prod(weight[1:])
    if node.op_type == "MatMul":
        return math.prod(shape_of(node.outputs[0])) * shape_of(node.inputs[0])[-1]
    if node.op_type == "Gemm":
        a = shape_of(node.inputs[0])
        inner = a[0] if "transA" in node.attributes and node.attributes["transA"].as_int() else a[1]
        return math.prod(shape_of(node.outputs[0])) * inner
    return 0
