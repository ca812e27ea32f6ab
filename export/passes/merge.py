"""Move one model's nodes and weights into another graph under a name prefix."""

from __future__ import annotations

import onnx_ir as ir

from export.errors import ModelError


def merge_into(graph: ir.Graph, other: ir.Model, prefix: str, feeds: dict[str, ir.Value]) -> dict[str, ir.Value]:
    """Append ``other``'s nodes to ``graph``, its inputs replaced by ``feeds``.

    Requires: static shapes; the same opset of the standard domain, or one that ONNX can convert beforehand.
    Ensures: every moved value, node and initializer is named ``prefix/...``; ``other`` is empty afterwards.

    Returns:
        Every tensor of ``other`` by its old name.

    Raises:
        ModelError: an input has no feed.
    """
    source = other.graph
    values: dict[str, ir.Value] = {}
    for value in source.inputs:
        if value.name not in feeds and value.name not in source.initializers:
            raise ModelError(
                f"the model has an input {value.name!r} that nothing feeds; it must take exactly one input"
            )
    for name, value in list(source.initializers.items()):
        if name in feeds:
            continue
        del source.initializers[name]
        value.name = f"{prefix}/{name}"
        graph.register_initializer(value)
    for value in source.inputs:
        if value.name in feeds:
            values[value.name] = feeds[value.name]
            ir.convenience.replace_all_uses_with(value, feeds[value.name], replace_graph_outputs=True)
    source.outputs.clear()
    nodes = list(source)
    for node in nodes:
        for value in node.outputs:
            if value.name:
                values[value.name] = value
                value.name = f"{prefix}/{value.name}"
        node.name = f"{prefix}/{node.name or node.outputs[0].name}"
    source.remove(nodes)
    graph.extend(nodes)
    return values
