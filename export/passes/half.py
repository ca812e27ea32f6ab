"""Store weights as fp16: an initializer becomes fp16 and a Cast to fp32, which constant folding undoes on reading."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from export.errors import ModelError

HALF = ".fp16"
"""Suffix of a halved initializer."""


def store_as_half(model: ir.Model, smallest: int = 256) -> int:
    """Halve every float32 initializer of at least ``smallest`` elements.

    Ensures: the model computes in fp32 as before, with weights rounded to fp16.

    Returns:
        How many initializers were halved.

    Raises:
        ModelError: a weight is not finite or too large for fp16 (65504).
    """
    graph, count = model.graph, 0
    first = next(iter(graph))
    for name, value in list(graph.initializers.items()):
        if value.dtype != ir.DataType.FLOAT or value.const_value is None or value.const_value.size < smallest:
            continue
        array = value.const_value.numpy()
        if not np.isfinite(array).all() or np.abs(array).max() > np.finfo(np.float16).max:
            raise ModelError(f"weight {name!r} is not finite or too large to be stored as fp16")
        half = ir.Value(name=f"{name}{HALF}", const_value=ir.tensor(array.astype(np.float16), name=f"{name}{HALF}"))
        del graph.initializers[name]
        graph.register_initializer(half)
        cast = ir.node("Cast", [half], attributes={"to": int(ir.DataType.FLOAT)}, name=f"{name}/cast")
        graph.insert_before(first, cast)
        ir.convenience.replace_all_uses_with(value, cast.outputs[0])
        value.name, cast.outputs[0].name = None, name
        cast.outputs[0].dtype, cast.outputs[0].shape = ir.DataType.FLOAT, ir.Shape(array.shape)
        count += 1
    return count
