"""An If whose condition is a constant becomes the nodes of the branch it takes."""

from __future__ import annotations

import onnx_ir as ir

from export.passes.constants import constant_of


def decide_branches(model: ir.Model) -> bool:
    """Replace every If of the main graph whose condition is a constant by its branch.

    PyTorch's older exporter writes such an If wherever a shape decides something (``squeeze``).

    Requires: constants folded; an If inside the branch that is taken is decided by the next call.
    Ensures: those If nodes are gone; their outputs keep their names.

    Returns:
        Whether anything changed.
    """
    graph, changed = model.graph, False
    for node in list(graph):
        if node.op_type != "If" or node.domain not in ("", "ai.onnx"):
            continue
        condition = constant_of(node.inputs[0])
        if condition is None or condition.size != 1:
            continue
        _inline(graph, node, node.attributes["then_branch" if condition.item() else "else_branch"].as_graph())
        changed = True
    return changed


def _inline(graph: ir.Graph, node: ir.Node, branch: ir.Graph) -> None:
    prefix = node.outputs[0].name
    results = list(branch.outputs)
    branch.outputs.clear()
    moved = list(branch)
    for value in list(branch.initializers.values()):
        name = f"{prefix}/{value.name}"
        outer = ir.Value(name=name, const_value=value.const_value, type=value.type, shape=value.shape)
        graph.register_initializer(outer)
        ir.convenience.replace_all_uses_with(value, outer)
        results = [outer if result is value else result for result in results]
    branch.remove(moved)
    for inner in moved:  # names are unique within a branch, but the other branch may use them too
        inner.name = f"{prefix}/{inner.name}" if inner.name else None
        for output in inner.outputs:
            output.name = f"{prefix}/{output.name}" if output.name else output.name
    graph.insert_before(node, moved)
    for output, result in zip(node.outputs, results, strict=True):
        name = str(output.name)
        made = ir.node("Identity", [result], name=f"{name}/taken")
        graph.insert_before(node, made)
        made.outputs[0].shape, made.outputs[0].type = result.shape, result.type
        ir.convenience.replace_all_uses_with(output, made.outputs[0], replace_graph_outputs=True)
        output.name, made.outputs[0].name = None, name
    graph.remove(node, safe=True)
