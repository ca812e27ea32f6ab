"""Ask ONNX whether a graph is valid, without copying its weights."""

from __future__ import annotations

import onnx
import onnx_ir as ir


def check(model: ir.Model) -> None:
    """Run ONNX's checker on the graph; initializers count as inputs, so that no weight is serialised.

    Raises:
        onnx.checker.ValidationError: the graph is not valid.
    """
    graph = onnx.GraphProto(name=model.graph.name or "graph")
    graph.node.extend(ir.serde.serialize_node(node) for node in model.graph)
    inputs = {v.name: v for v in (*model.graph.inputs, *model.graph.initializers.values())}
    graph.input.extend(ir.serde.serialize_value(v) for v in inputs.values())
    graph.output.extend(ir.to_proto(v) for v in model.graph.outputs)
    opsets = [onnx.helper.make_opsetid(domain, number) for domain, number in model.opset_imports.items()]
    proto = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=model.ir_version)
    proto.functions.extend(ir.to_proto(f) for f in model.functions.values())
    onnx.checker.check_model(proto)
