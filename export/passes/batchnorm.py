"""Fold inference BatchNormalization into the convolution before it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from export.passes.constants import constant_of


def fold_batchnorm(model: ir.Model) -> bool:
    """``BN(Conv(x, W, b)) = Conv(x, W s, (b - mean) s + bias)`` with ``s = scale / sqrt(var + epsilon)``.

    Requires: constant weights and statistics, and a convolution that nothing else uses.
    Ensures: those BatchNormalization nodes are gone; output names are kept.

    Returns:
        Whether anything changed.
    """
    graph, changed = model.graph, False
    for node in list(graph):
        if node.op_type != "BatchNormalization" or node.inputs[0] is None:
            continue
        conv = node.inputs[0].producer()
        if (
            conv is None
            or conv.op_type != "Conv"
            or len(node.inputs[0].uses()) != 1
            or node.inputs[0].is_graph_output()
        ):
            continue
        arrays = [constant_of(v) for v in (conv.inputs[1], *node.inputs[1:5])]
        bias = constant_of(conv.inputs[2]) if len(conv.inputs) > 2 and conv.inputs[2] is not None else 0.0
        if any(a is None for a in arrays) or bias is None:
            continue
        weight, scale, shift, mean, var = (np.asarray(a) for a in arrays)
        epsilon = node.attributes["epsilon"].as_float() if "epsilon" in node.attributes else 1e-5
        factor = scale.astype(np.float64) / np.sqrt(var.astype(np.float64) + epsilon)
        folded = (weight * factor.reshape(-1, *[1] * (weight.ndim - 1))).astype(weight.dtype)
        offset = ((bias - mean) * factor + shift).astype(weight.dtype)
        out = node.outputs[0]
        name = out.name
        inputs = [
            conv.inputs[0],
            _initializer(graph, f"{name}/weight", folded),
            _initializer(graph, f"{name}/bias", offset),
        ]
        merged = ir.node("Conv", inputs, attributes=dict(conv.attributes), name=f"{name}/conv")
        graph.insert_before(node, merged)
        merged.outputs[0].shape, merged.outputs[0].type = out.shape, out.type
        ir.convenience.replace_all_uses_with(out, merged.outputs[0], replace_graph_outputs=True)
        out.name, merged.outputs[0].name = None, name
        graph.remove(node, safe=True)
        changed = True
    RemoveUnusedNodesPass()(model)
    return changed


def _initializer(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
    value.shape, value.dtype = ir.Shape(array.shape), ir.DataType.from_numpy(array.dtype)
    graph.register_initializer(value)
    return value
