"""Constant folding: nodes whose inputs are all known are computed once, here."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator
from onnx_ir.passes.common import LiftConstantsToInitializersPass, RemoveUnusedNodesPass

from export.passes.shapes import infer_node, static_shape

MAX_BYTES = 1 << 28
_RANDOM = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"}


def constant_of(value: ir.Value | None) -> npt.NDArray[Any] | None:
    """The value's array when it is an initializer that is not a graph input, else None."""
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return value.const_value.numpy()


def fold_constants(model: ir.Model) -> bool:
    """Replace every node of constants by initializers; Shape of a static tensor counts as constant.

    In one sweep: the outputs of every node that stays get their dtype and shape, unless they have them, from its inputs
    first, so that a shape computed from a shape computed from a shape is a constant as well.

    Ensures: no Constant and no CastLike nodes, no node whose inputs are all initializers; unused nodes are gone; shapes
        are known where they follow from those of the graph's inputs.

    Returns:
        Whether anything changed.
    """
    changed = bool(LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model).modified)
    opset = model.graph.opset_imports.get("", 20)
    for node in list(model.graph):
        changed |= _spelt_out(node)
        arrays = _evaluate(node, opset)
        if arrays is None:
            _infer(node, opset)
            continue
        for output, array in zip(node.outputs, arrays, strict=True):
            if not output.name:
                continue
            value = ir.Value(name=f"{output.name}", const_value=ir.tensor(array, name=output.name))
            value.shape, value.dtype = ir.Shape(array.shape), ir.DataType.from_numpy(array.dtype)
            ir.convenience.replace_all_uses_with(output, value, replace_graph_outputs=True)
            output.name = None
            model.graph.register_initializer(value)
        model.graph.remove(node, safe=True)
        changed = True
    RemoveUnusedNodesPass()(model)
    return changed


def _spelt_out(node: ir.Node) -> bool:
    """CastLike says its type by example; make it a Cast."""
    if node.op_type != "CastLike" or node.inputs[1] is None or node.inputs[1].dtype is None:
        return False
    to = node.inputs[1].dtype
    node.op_type = "Cast"
    node.resize_inputs(1)
    node.attributes["to"] = ir.AttrInt64("to", int(to))
    return True


def _infer(node: ir.Node, opset: int) -> None:
    if all(value.dtype is not None and static_shape(value) is not None for value in node.outputs):
        return
    known = all(v is None or v.dtype is not None for v in node.inputs)
    graphs = any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values())
    if known and not graphs and node.domain in ("", "ai.onnx"):
        with contextlib.suppress(
            onnx.shape_inference.InferenceError, onnx.defs.SchemaError, onnx.checker.ValidationError
        ):
            infer_node(node, opset)


def _evaluate(node: ir.Node, opset: int) -> list[npt.NDArray[Any]] | None:
    if node.op_type in _RANDOM or node.domain not in ("", "ai.onnx"):
        return None
    if any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values()):
        return None
    if node.op_type == "Shape" and node.inputs[0] is not None:
        shape = static_shape(node.inputs[0])
        if shape is None:
            return None
        start = node.attributes["start"].as_int() if "start" in node.attributes else 0
        end = node.attributes["end"].as_int() if "end" in node.attributes else len(shape)
        return [np.asarray(shape[start:end], np.int64)]
    feeds: dict[str, npt.NDArray[Any]] = {}
    names: list[str] = []
    for index, value in enumerate(node.inputs):
        array = constant_of(value)
        if value is not None and (array is None or array.nbytes > MAX_BYTES):
            return None
        names.append(f"x{index}" if value is not None else "")
        if array is not None:
            feeds[f"x{index}"] = array
    if not feeds and node.op_type != "ConstantOfShape":
        return None
    if node.op_type == "Cast":
        to = ir.DataType(node.attributes["to"].as_int())
        return [feeds["x0"].astype(to.numpy())]
    outputs = [f"y{i}" for i in range(len(node.outputs))]
    proto = onnx.helper.make_node(node.op_type, names, outputs)
    proto.attribute.extend(ir.to_proto(a) for a in node.attributes.values())
    graph = onnx.helper.make_graph(
        [proto],
        "constant",
        [
            onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in feeds.items()
        ],
        [onnx.helper.make_empty_tensor_value_info(o) for o in outputs],
    )
    single = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    return [np.asarray(a) for a in ReferenceEvaluator(single).run(None, feeds)]
