"""Shape inference without copying the weights."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass


def infer_shapes(model: ir.Model) -> None:
    """Ensures: every tensor that ONNX can infer carries its dtype and shape."""
    infer = ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)
    infer(model)
    for node in model.graph:  # ONNX has no inference of its own for this one
        if node.op_type == "GroupNormalization" and node.outputs[0].shape is None and node.inputs[0] is not None:
            node.outputs[0].shape, node.outputs[0].type = node.inputs[0].shape, node.inputs[0].type
            infer(model)


def static_shape(value: ir.Value) -> tuple[int, ...] | None:
    """The static shape of a value, or None when any dimension is free or unknown."""
    if value.shape is None or not value.shape.is_static():
        return None
    return tuple(int(d) for d in value.shape)  # type: ignore[arg-type]
