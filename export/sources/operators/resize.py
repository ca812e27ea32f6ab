"""Interpolation."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx.reference import ReferenceEvaluator

from export.sources.operators.table import Tensor, attribute, operator


@operator("Resize")
def _resize(
    node: ir.Node, x: Tensor, roi: Tensor | None = None, scales: Tensor | None = None, sizes: Tensor | None = None
) -> Tensor:
    """Separable and linear: one matrix per axis, the action of ONNX's reference on unit vectors."""
    axes = attribute(node, "axes", list(range(x.ndim)))
    for i, axis in enumerate(axes):
        size = x.shape[axis]
        attributes = {
            n: attribute(node, n, None) for n in node.attributes if n not in ("axes", "keep_aspect_ratio_policy")
        }
        if sizes is not None:
            names, target = ["x", "", "", "t"], np.asarray([size, sizes.detach().numpy()[i]], np.int64)
        else:
            assert scales is not None
            names, target = ["x", "", "t"], np.asarray([1, scales.detach().numpy()[i]], np.float32)
        if (sizes is not None and target[1] == size) or (sizes is None and target[1] == 1):
            continue
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node("Resize", names, ["y"], **attributes)],
            "resize",
            [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.DOUBLE, [size, size])],
            [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.DOUBLE, None)],
            [onnx.numpy_helper.from_array(target, "t")],
        )
        proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 19)])
        outputs: Any = ReferenceEvaluator(proto).run(None, {"x": np.eye(size)})
        matrix = torch.from_numpy(np.asarray(outputs[0])).to(x.dtype)  # (in, out)
        x = torch.tensordot(x, matrix, ([axis % x.ndim], [0])).movedim(-1, axis % x.ndim)
    return x
