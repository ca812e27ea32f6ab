"""Convolutions and pools; padding is PyTorch's own, so that it does not depend on how we read it."""

from __future__ import annotations

import onnx_ir as ir
import torch
from torch.nn import functional as F

from export.sources.operators.table import Tensor, attribute, operator


def _padded(node: ir.Node, x: Tensor, kernel: list[int], fill: float) -> tuple[Tensor, list[int]]:
    """x padded as the node says, and how many were added at the ends of each axis."""
    n = len(kernel)
    pads = attribute(node, "pads", [0] * (2 * n))
    auto = attribute(node, "auto_pad", "NOTSET")
    if auto.startswith("SAME"):
        strides, dilations = attribute(node, "strides", [1] * n), attribute(node, "dilations", [1] * n)
        pads = [0] * (2 * n)
        for i, (size, k, s, d) in enumerate(zip(x.shape[2:], kernel, strides, dilations, strict=True)):
            total = max(0, (-(-size // s) - 1) * s + (k - 1) * d + 1 - size)
            pads[i], pads[n + i] = (total // 2, total - total // 2)[:: 1 if auto == "SAME_UPPER" else -1]
    amounts = [a for i in reversed(range(n)) for a in (pads[i], pads[n + i])]
    return F.pad(x, amounts, value=fill), pads


@operator("Conv")
def _conv(node: ir.Node, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    n = w.ndim - 2
    pads = attribute(node, "pads", [0] * (2 * n))
    if attribute(node, "auto_pad", "NOTSET") == "NOTSET" and pads[:n] == pads[n:]:
        around = pads[:n]  # the convolution pads: no copy
    else:
        x, _ = _padded(node, x, list(w.shape[2:]), 0.0)
        around = [0] * n
    convolve = (F.conv1d, F.conv2d, F.conv3d)[n - 1]
    strides, dilations = attribute(node, "strides", [1] * n), attribute(node, "dilations", [1] * n)
    group = attribute(node, "group", 1)
    if group == x.shape[1] > 1 and max(strides) > 1 and torch.is_autocast_enabled(x.device.type):
        # in bf16 on a CPU the derivative of a strided depthwise convolution takes ten times as long as this
        y = convolve(x, w, b, 1, around, dilations, group)
        for axis, stride in enumerate(strides, start=2):
            y = y[(slice(None),) * axis + (slice(None, None, stride),)]
        return y
    return convolve(x, w, b, strides, around, dilations, group)


@operator("ConvTranspose")
def _conv_transpose(node: ir.Node, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    n = w.ndim - 2
    pads, extra = attribute(node, "pads", [0] * (2 * n)), attribute(node, "output_padding", [0] * n)
    convolve = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[n - 1]
    y = convolve(
        x,
        w,
        None,
        attribute(node, "strides", [1] * n),
        0,
        0,
        attribute(node, "group", 1),
        attribute(node, "dilations", [1] * n),
    )
    amounts = [a for i in reversed(range(n)) for a in (-pads[i], extra[i] - pads[n + i])]
    y = F.pad(y, amounts)
    return y if b is None else y + b.reshape(-1, *[1] * n)


@operator("MaxPool", "AveragePool")
def _pool(node: ir.Node, x: Tensor) -> Tensor:
    kernel = attribute(node, "kernel_shape", [])
    n = len(kernel)
    strides, ceil = attribute(node, "strides", [1] * n), bool(attribute(node, "ceil_mode", 0))
    largest = node.op_type == "MaxPool"
    padded, _ = _padded(node, x, kernel, -float("inf") if largest else 0.0)
    sizes = padded.shape[2:]
    dilations = attribute(node, "dilations", [1] * n)
    beyond = []
    for size, k, s, d in zip(sizes, kernel, strides, dilations, strict=True):
        reach = (k - 1) * d + 1
        steps = -(-(size - reach) // s) if ceil else (size - reach) // s
        beyond.append(max(0, steps * s + reach - size))
    amounts = [a for extra in reversed(beyond) for a in (0, extra)]
    wide = F.pad(padded, amounts, value=-float("inf") if largest else 0.0)
    if largest:
        return (F.max_pool1d, F.max_pool2d, F.max_pool3d)[n - 1](wide, kernel, strides, 0, dilations)
    average = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[n - 1]
    ones = torch.ones_like(padded[:1, :1]) if attribute(node, "count_include_pad", 0) else None
    if ones is None:
        ones, _ = _padded(node, torch.ones_like(x[:1, :1]), kernel, 0.0)
    return average(wide, kernel, strides) / average(F.pad(ones, amounts), kernel, strides)
