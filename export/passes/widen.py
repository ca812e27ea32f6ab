"""Compute in float64 what a model computes in float32: for finite differences and for checks at 1e-9."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass

_NARROW = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16})
_FLOAT_ONLY = {("Resize", 2), ("Upsample", 1)}
"""Inputs that the standard wants as float32: scales."""


def widen(model: ir.Model) -> None:
    """Make every floating-point tensor float64.

    Ensures: inputs, outputs, weights, constants and casts are float64; the weights keep their float32 values.
    """
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    graph = model.graph
    kept = {
        node.inputs[index]
        for node in graph
        for op, index in _FLOAT_ONLY
        if node.op_type == op and len(node.inputs) > index
    }
    for value in graph.initializers.values():
        if value.dtype in _NARROW and value not in kept and value.const_value is not None:
            value.const_value = ir.tensor(value.const_value.numpy().astype(np.float64), name=value.name)
            value.type = ir.TensorType(ir.DataType.DOUBLE)
    for node in graph:
        for name, attribute in node.attributes.items():
            if attribute.type == ir.AttributeType.INT and name == "to" and attribute.as_int() in _NARROW:
                node.attributes[name] = ir.AttrInt64(name, int(ir.DataType.DOUBLE))
            elif attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().dtype in _NARROW:
                tensor = ir.tensor(attribute.as_tensor().numpy().astype(np.float64))
                node.attributes[name] = ir.AttrTensor(name, tensor)
    for value in (*graph.inputs, *(v for node in graph for v in node.outputs)):
        if value.dtype in _NARROW:
            value.type = ir.TensorType(ir.DataType.DOUBLE)  # a new one: values and clones of a model share theirs
