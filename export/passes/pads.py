"""Fold zero padding into the convolution after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from export.passes.constants import constant_of


def fold_pads(model: ir.Model) -> bool:
    """``Conv(Pad(x))`` with a constant, non-negative, spatial zero padding becomes one Conv.

    Ensures: those Pad nodes are gone unless something else uses them.

    Returns:
        Whether anything changed.
    """
    changed = False
    for conv in model.graph:
        if conv.op_type != "Conv" or conv.inputs[0] is None:
            continue
        pad = conv.inputs[0].producer()
        if pad is None or pad.op_type != "Pad" or _attribute(conv, "auto_pad", "NOTSET") != "NOTSET":
            continue
        pads = _zero_pads(pad)
        if pads is None:
            continue
        spatial = len(pads) // 2 - 2
        own: Sequence[int] = _attribute(conv, "pads", [0] * (2 * spatial))
        extra = pads[2 : 2 + spatial] + pads[4 + spatial :]
        conv.attributes["pads"] = ir.AttrInt64s("pads", [a + b for a, b in zip(own, extra, strict=True)])
        conv.replace_input_with(0, pad.inputs[0])
        changed = True
    RemoveUnusedNodesPass()(model)
    return changed


def _attribute(node: ir.Node, name: str, default: Any) -> Any:
    return node.attributes[name].value if name in node.attributes else default


def _zero_pads(pad: ir.Node) -> list[int] | None:
    if _attribute(pad, "mode", "constant") != "constant" or (len(pad.inputs) > 3 and pad.inputs[3] is not None):
        return None
    if len(pad.inputs) > 2 and pad.inputs[2] is not None:
        fill = constant_of(pad.inputs[2])
        if fill is None or float(fill) != 0.0:
            return None
    amounts = constant_of(pad.inputs[1]) if len(pad.inputs) > 1 else None
    if amounts is None or (amounts < 0).any():
        return None
    pads = [int(a) for a in amounts]
    half = len(pads) // 2
    return pads if not any(pads[:2] + pads[half : half + 2]) and half > 2 else None
