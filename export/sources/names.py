"""Names of layers: every module path of the PyTorch model becomes the name of the ONNX tensor it outputs.

A tensor that several modules output (a block and its last activation) is named by the deepest; the other paths become
entries of the layer table. A module that is called several times names the output of its last call.
"""

from __future__ import annotations

import ast

import onnx_ir as ir

from export.network import FLOATS

SCOPES = "pkg.torch.onnx.name_scopes"


def module_outputs(graph: ir.Graph) -> dict[str, ir.Value]:
    """Map every module path to the tensor its last node outputs, in the order of the forward pass.

    What torch asserts about shapes lies in a module's scope, too, behind its output; such nodes give no floats.
    """
    outputs: dict[str, ir.Value] = {}
    for node in graph:
        scopes = node.metadata_props.get(SCOPES)
        if scopes is None or node.op_type == "Constant" or node.outputs[0].dtype not in (None, *FLOATS):
            continue
        for path in ast.literal_eval(scopes)[1:-1]:  # the first is the model itself, the last the function
            outputs.pop(path, None)  # re-inserted, so that the order is that of the last call
            outputs[path] = node.outputs[0]
    return outputs


def name_layers(graph: ir.Graph) -> dict[str, str]:
    """Rename tensors to module paths; return the layer table, path -> tensor name, in forward order."""
    outputs = module_outputs(graph)
    deepest: dict[ir.Value, str] = {}
    for path, value in outputs.items():
        if value not in deepest or path.count(".") > deepest[value].count("."):
            deepest[value] = path
    taken = set(deepest.values())
    for node in graph:
        for value in node.outputs:
            if value in deepest:
                value.name = deepest[value]
            elif value.name in taken:
                value.name = f"{value.name}/inner"
    return {path: str(value.name) for path, value in outputs.items()}
