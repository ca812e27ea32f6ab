"""Windows of a convolution or a pool, as ONNX says where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from export.passes.shapes import shape_of


@dataclass(frozen=True)
class Windows:
    """Along each spatial axis window ``i`` begins at ``i stride - begin`` and takes every ``dilation``-th position.

    Attributes:
        kernel: positions that a window takes.
        strides: from one window to the next.
        dilations: from one position of a window to the next.
        begin: padding before the first position.
        end: padding after the last.
    """

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    begin: list[int]
    end: list[int]


def windows_of(node: ir.Node) -> Windows:
    """The windows of a Conv, MaxPool, AveragePool or LpPool, ``auto_pad`` resolved.

    ``SAME`` pads so that there are ``ceil(size / stride)`` windows, the odd one at the end (``SAME_UPPER``) or at the
    beginning (``SAME_LOWER``): ONNX operators, Conv.

    Requires: static shapes.
    """
    is_conv = node.op_type == "Conv"
    kernel = _integers(node, "kernel_shape", shape_of(node.inputs[1])[2:] if is_conv else ())
    rank = len(kernel)
    strides, dilations = (_integers(node, name, [1] * rank) for name in ("strides", "dilations"))
    auto = node.attributes["auto_pad"].as_string() if "auto_pad" in node.attributes else "NOTSET"
    if auto == "NOTSET":
        pads = _integers(node, "pads", [0] * (2 * rank))
        return Windows(kernel, strides, dilations, pads[:rank], pads[rank:])
    begin, end = [0] * rank, [0] * rank
    if auto.startswith("SAME"):
        sizes = zip(shape_of(node.inputs[0])[2:], shape_of(node.outputs[0])[2:], strict=True)
        for axis, (size, num_windows) in enumerate(sizes):
            reach = (kernel[axis] - 1) * dilations[axis] + 1
            total = max(0, (num_windows - 1) * strides[axis] + reach - size)
            small, large = total // 2, total - total // 2
            begin[axis], end[axis] = (small, large) if auto == "SAME_UPPER" else (large, small)
    return Windows(kernel, strides, dilations, begin, end)


def _integers(node: ir.Node, name: str, default: Sequence[int]) -> list[int]:
    value: Any = node.attributes[name].value if name in node.attributes else default
    return [int(number) for number in value]
