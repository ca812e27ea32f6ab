"""One flat code: a generator's inputs, maps or several of them, become parts of one vector."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from export.errors import ModelError
from export.passes.shapes import static_shape

CODE = "code"


def flatten_code(model: ir.Model) -> tuple[int, ...]:
    """Replace the graph's inputs by one of shape (batch, code_dim), their concatenation in order.

    Requires: static shapes; every input's first dimension is the batch.
    Ensures: one float32 input of two dimensions; a model that has it already is left alone.

    Returns:
        How many components each input had.

    Raises:
        ModelError: an input that is not float32.
    """
    graph = model.graph
    inputs = [value for value in graph.inputs if value.name not in graph.initializers]
    shapes = [static_shape(value) for value in inputs]
    sizes = []
    for value, shape in zip(inputs, shapes, strict=True):
        if value.dtype != ir.DataType.FLOAT or shape is None or len(shape) < 2:
            kind = value.dtype.name.lower() if value.dtype is not None else "unknown"
            raise ModelError(
                f"the generator's input {value.name!r} is {kind} of shape {list(shape or ())}; a code is float32 "
                "(N, ...): export a generator that takes classes as embeddings or one-hot vectors"
            )
        sizes.append(math.prod(shape[1:]))
    if len(inputs) == 1 and shapes[0] is not None and len(shapes[0]) == 2:
        return tuple(sizes)
    batch = int((shapes[0] or (1,))[0])
    code = ir.Value(name=_free(graph, CODE), type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([batch, sum(sizes)]))
    nodes: list[ir.Node] = []
    start = 0
    for value, shape, size in zip(inputs, shapes, sizes, strict=True):
        part = code
        if len(inputs) > 1:
            ends = [_constant(graph, f"{value.name}/{k}", [v]) for k, v in (("start", start), ("end", start + size))]
            axis = _constant(graph, f"{value.name}/axis", [1])
            part = _node(nodes, "Slice", [code, *ends, axis], f"{value.name}/part", (batch, size))
        if len(shape or ()) != 2:
            target = _constant(graph, f"{value.name}/shape", list(shape or ()))
            part = _node(nodes, "Reshape", [part, target], f"{value.name}/map", shape or ())
        ir.convenience.replace_all_uses_with(value, part, replace_graph_outputs=True)
        start += size
    graph.inputs.clear()
    graph.inputs.append(code)
    first = next(iter(graph))
    graph.insert_before(first, nodes)
    return tuple(sizes)


def _free(graph: ir.Graph, name: str) -> str:
    taken = {v.name for node in graph for v in node.outputs} | set(graph.initializers)
    while name in taken:
        name += "_"
    return name


def _constant(graph: ir.Graph, name: str, numbers: list[int]) -> ir.Value:
    array = np.asarray(numbers, np.int64)
    value = ir.Value(name=_free(graph, name), const_value=ir.tensor(array))
    value.dtype, value.shape = ir.DataType.INT64, ir.Shape(array.shape)
    value.const_value.name = value.name  # type: ignore[union-attr]
    graph.register_initializer(value)
    return value


def _node(nodes: list[ir.Node], kind: str, inputs: list[ir.Value], name: str, shape: tuple[int, ...]) -> ir.Value:
    node = ir.node(kind, inputs, name=name, num_outputs=1)
    out = node.outputs[0]
    out.name, out.dtype, out.shape = name, ir.DataType.FLOAT, ir.Shape(shape)
    nodes.append(node)
    return out
