"""Shapes: of one node, and of a whole model without copying the weights."""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

SMALL = 64
"""Constants up to this length are shown to shape inference (axes, shapes, slice bounds, scales)."""


def infer_shapes(model: ir.Model) -> None:
    """Ensures: every tensor that ONNX can infer carries its dtype and shape."""
    infer = ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)
    infer(model)
    for node in model.graph:  # ONNX has no inference of its own for this one
        if node.op_type == "GroupNormalization" and node.outputs[0].shape is None and node.inputs[0] is not None:
            node.outputs[0].shape, node.outputs[0].type = node.inputs[0].shape, node.inputs[0].type
            infer(model)


def infer_node(node: ir.Node, opset: int) -> None:
    """Give a node's outputs the dtype and shape that follow from its inputs.

    Requires: a node of the standard domain whose inputs have known dtypes.

    Raises:
        onnx.shape_inference.InferenceError: the inputs do not fit the operator.
    """
    if node.op_type == "GroupNormalization":  # ONNX has no inference of its own for this one
        node.outputs[0].shape, node.outputs[0].type = node.inputs[0].shape, node.inputs[0].type  # type: ignore[union-attr]
        return
    schema = onnx.defs.get_schema(node.op_type, opset, "")
    types, data = {}, {}
    for value in node.inputs:
        if value is None:
            continue
        assert value.dtype is not None, f"{value.name} has no dtype"
        dims = None if value.shape is None else [d if isinstance(d, int) else None for d in value.shape]
        types[str(value.name)] = onnx.helper.make_tensor_type_proto(int(value.dtype), dims)
        tensor = value.const_value if not value.is_graph_input() else None
        if tensor is not None and _is_small(tensor) and tensor.dtype != ir.DataType.STRING:
            array = tensor.numpy()
            if array.dtype.kind in "if":
                data[str(value.name)] = onnx.numpy_helper.from_array(array)
    inferred = onnx.shape_inference.infer_node_outputs(schema, ir.serde.serialize_node(node), types, data)
    for output in node.outputs:
        if output.name not in inferred or not inferred[str(output.name)].HasField("tensor_type"):
            continue  # a sequence has no dtype
        tensor_type = inferred[str(output.name)].tensor_type
        output.dtype = ir.DataType(tensor_type.elem_type)
        if tensor_type.HasField("shape"):
            known = [d.dim_value if d.HasField("dim_value") else None for d in tensor_type.shape.dim]
            output.shape = ir.Shape(known)


def _is_small(tensor: ir.TensorProtocol) -> bool:
    dims = tensor.shape.dims
    return not dims or (len(dims) == 1 and isinstance(dims[0], int) and dims[0] <= SMALL)


def static_shape(value: ir.Value) -> tuple[int, ...] | None:
    """The static shape of a value, or None when any dimension is free or unknown."""
    if value.shape is None or not value.shape.is_static():
        return None
    return tuple(int(d) for d in value.shape)  # type: ignore[arg-type]


def shape_of(value: ir.Value | None) -> tuple[int, ...]:
    """The static shape of a value that has one; callers have made sure."""
    shape = static_shape(value) if value is not None else None
    assert shape is not None, f"{value.name if value else None} has no static shape"
    return shape
