"""Fix the batch dimension: every graph input's first dimension becomes ``batch``."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from export.errors import ModelError
from export.passes.constants import constant_of, fold_constants
from export.passes.shapes import infer_shapes, static_shape


def set_batch(model: ir.Model, batch: int) -> None:
    """Give the model a static batch and static shapes throughout.

    Requires: one graph input whose first dimension is the batch, free or fixed.
    Ensures: every tensor whose shape can be inferred has a static one; Reshape and Expand targets that spelled the old
        batch out spell the new one.

    Raises:
        ModelError: shapes stay unknown.
    """
    graph = model.graph
    old = None
    for value in graph.inputs:
        if value.shape is None or len(value.shape) == 0:
            raise ModelError(f"input {value.name!r} has no batch dimension")
        first = value.shape[0]
        old = first if isinstance(first, int) else None
        value.shape = ir.Shape([batch, *value.shape.dims[1:]])
    for value in graph.inputs:
        if not value.shape.is_static():  # type: ignore[union-attr]
            raise ModelError(
                f"input {value.name!r} has free dimensions {value.shape}; export it with a fixed image size"
            )
    for node in graph:
        for output in node.outputs:
            output.shape = None
    for output in graph.outputs:
        output.shape = None
    if old is not None and old != batch:
        _respell(graph, old, batch)
    fold_constants(model)
    if any(static_shape(value) is None for node in graph for value in node.outputs):
        infer_shapes(model)


def _respell(graph: ir.Graph, old: int, batch: int) -> None:
    for node in graph:
        if node.op_type not in ("Reshape", "Expand"):
            continue
        target = constant_of(node.inputs[1])
        if target is None or target.ndim != 1 or target.size < 1 or target[0] != old:
            continue
        fixed = target.copy()
        fixed[0] = batch
        name = f"{node.inputs[1].name}/batch_{batch}/{node.outputs[0].name}"  # type: ignore[union-attr]
        value = ir.Value(name=name, const_value=ir.tensor(fixed.astype(np.int64), name=name))
        graph.register_initializer(value)
        node.replace_input_with(1, value)
