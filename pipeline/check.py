"""Finding out before any job is run whether every layer can be compiled."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from export.manifest import StepManifest
from export.network import LayerInfo
from export.upstream import upstream
from pipeline.plan import Plan
from pipeline.tuning import compiled
from pipeline.workspace import Workspace


def check_plan(workspace: Workspace, plan: Plan) -> list[StepManifest]:
    """Compile the deepest of the layers with work to do; what is wrong with an earlier one is wrong with them too.

    Returns:
        Their manifests, for a batch of 1. Of all layers of the plan these take most memory.

    Raises:
        MissingRuleError: operators without a vjp rule.
        ModelError: the generator's image does not fit the network, or a layer cannot be compiled.
    """
    layers = [layer.info for layer in plan.all_layers if layer.num_todo]
    chosen = deepest(workspace.network.model(1).graph, layers) if layers else []
    return [compiled(workspace, layer.name, 1).manifest for layer in chosen]


def deepest(graph: ir.Graph, layers: Sequence[LayerInfo]) -> list[LayerInfo]:
    """The layers that no other of ``layers`` is computed from."""
    values = {value.name: value for node in graph for value in node.outputs}
    inner: set[str | None] = set()
    for layer in layers:
        if layer.tensor not in inner and layer.tensor in values:
            inner |= {source.name for node in upstream(values[layer.tensor]) for source in node.inputs if source}
    return [layer for layer in layers if layer.tensor not in inner]
