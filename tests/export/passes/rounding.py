"""fp16 on a CPU, honestly: every fp16 tensor of a lowered graph is rounded to fp16, the arithmetic between is fp32.

That is what a GPU does with fp16 tensors and fp32 accumulation. ONNX Runtime's own fp16 on a CPU is no check: it runs
chains of fp16 operators in fp32 without rounding between them, so nothing ever overflows.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import IdentityEliminationPass

HALVES, FLOAT = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16), ir.DataType.FLOAT


def rounding(lowered: bytes) -> bytes:
    """The same graph in fp32 operators with a Cast to fp16 (or bf16) and back after everything that was fp16 (bf16)."""
    model = ir.from_proto(onnx.load_from_string(lowered))
    graph = model.graph
    for value in graph.initializers.values():
        if value.dtype in HALVES:
            value.const_value = ir.tensor(value.const_value.numpy().astype(np.float32), name=value.name)
            value.type = ir.TensorType(FLOAT)
    for node in list(graph):
        if node.op_type == "Cast" and node.attributes["to"].as_int() in HALVES:
            node.attributes["to"] = ir.AttrInt64("to", int(FLOAT))
        for value in node.outputs:
            half = value.dtype
            if half in HALVES:
                value.type = ir.TensorType(FLOAT)
                _round(graph, node, value, half)
    IdentityEliminationPass()(model)
    return ir.to_proto(model).SerializeToString()


def _round(graph: ir.Graph, node: ir.Node, value: ir.Value, half: ir.DataType) -> None:
    uses = list(value.uses())
    down = ir.node("Cast", [value], attributes={"to": int(half)}, name=f"{value.name}/down")
    up = ir.node("Cast", [down.outputs[0]], attributes={"to": int(FLOAT)}, name=f"{value.name}/up")
    for made, kind in ((down, half), (up, FLOAT)):
        made.outputs[0].name, made.outputs[0].dtype, made.outputs[0].shape = str(made.name), kind, value.shape
    for use in uses:
        use.node.replace_input_with(use.idx, up.outputs[0])
    graph.insert_after(node, [down, up])
