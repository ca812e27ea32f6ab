"""Finding out before any job is run whether every layer can be compiled."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from export.network import LayerInfo
from pipeline.tuning import compiled
from pipeline.workspace import Workspace


def check_layers(workspace: Workspace, layers: Sequence[LayerInfo]) -> None:
    """Compile the deepest of ``layers``; what is wrong with an earlier one is wrong with them too.

    Raises:
        MissingRuleError: operators without a vjp rule.
        ModelError: the generator's image does not fit the network, or a layer cannot be compiled.
    """
    for layer in deepest(workspace.network.model(1).graph, layers):
        compiled(workspace, layer.name, 1)


def deepest(graph: ir.Graph, layers: Sequence[LayerInfo]) -> list[LayerInfo]:
    """The layers that no other of ``layers`` is computed from."""
    values = {value.name: value for node in graph for value in node.outputs}
    wanted = {layer.tensor for layer in layers}
    inner: set[str] = set()
    for layer in layers:
        if layer.tensor not in inner and layer.tensor in values:
            inner |= _upstream(values[layer.tensor]) & wanted
    return [layer for layer in layers if layer.tensor not in inner]


def _upstream(value: ir.Value) -> set[str]:
    """Names of every tensor that ``value`` is computed from."""
    seen: set[str] = set()
    stack = [value]
    while stack:
        node = stack.pop().producer()
        if node is None:
            continue
        for source in node.inputs:
            if source is not None and source.name is not None and source.name not in seen:
                seen.add(source.name)
                stack.append(source)
    return seen
