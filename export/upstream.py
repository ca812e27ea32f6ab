"""What a tensor is computed from."""

from __future__ import annotations

import onnx_ir as ir


def upstream(value: ir.Value) -> list[ir.Node]:
    """Every node that ``value`` is computed from, its own first, each once."""
    found: dict[ir.Node, None] = {}
    stack = [value]
    while stack:
        node = stack.pop().producer()
        if node is not None and node not in found:
            found[node] = None
            stack += [source for source in node.inputs if source is not None]
    return list(found)
