"""Receptive fields, exactly and without running anything: what pixels a unit at a position can see.

The walk carries, from the layer back to the image, one interval of rows and one of columns per tensor; where paths join
the union is taken. An operator that mixes all positions makes the interval the whole tensor.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from export.manifest import Box
from export.passes.constants import constant_of
from export.passes.shapes import static_shape

Interval = tuple[int, int]  # ends inclusive
Spans = tuple[Interval, Interval]

_NAMES = """
Relu LeakyRelu PRelu Clip Sigmoid Tanh Exp Log Sqrt Reciprocal Pow Neg Abs Erf Gelu HardSigmoid HardSwish Softplus Elu
Selu Celu Mish ThresholdedRelu
Add Sub Mul Div Sum Where Min Max BatchNormalization LRN Identity Cast Dropout Concat Split
"""
_POINTWISE = frozenset(_NAMES.split())


def receptive_field(graph: ir.Graph, of: ir.Value, position: tuple[int, int] | None, image: ir.Value) -> Box:
    """What ``of[:, :, row, column]`` sees of ``image`` (N, C, H, W); everything for a vector layer.

    Requires: static shapes on every four-dimensional tensor of the path.
    """
    _, _, height, width = _shape(image)
    whole = ((0, height - 1), (0, width - 1))
    if position is None:
        return _box(whole)
    row, column = position
    spans: dict[ir.Value, Spans] = {of: ((row, row), (column, column))}
    for node in reversed(list(graph)):
        seen = [spans[v] for v in node.outputs if v in spans]
        if not seen:
            continue
        out = seen[0]
        for other in seen[1:]:
            out = _union(out, other)
        for value in node.inputs:
            if value is None or constant_of(value) is not None or value.shape is None or len(value.shape) != 4:
                if value is not None and constant_of(value) is None:
                    spans.setdefault(value, whole)  # a tensor without positions: everything before it is seen
                continue
            through = _through(node, value, out)
            spans[value] = _union(spans[value], through) if value in spans else through
    return _box(spans.get(image, whole))


def _through(node: ir.Node, value: ir.Value, out: Spans) -> Spans:
    _, _, height, width = _shape(value)
    sizes = (height, width)
    result = node.outputs[0].shape
    if node.op_type in _POINTWISE and result is not None and len(result) == 4:
        return tuple((0, 0) if size == 1 else span for size, span in zip(sizes, out, strict=True))  # type: ignore[return-value]
    map_axis = _WINDOWS.get(node.op_type)
    if map_axis is None or result is None or len(result) != 4:
        return ((0, height - 1), (0, width - 1))
    spans = []
    for axis, size in enumerate(sizes):
        low, high = map_axis(node, axis, out[axis])
        spans.append((max(0, min(low, size - 1)), min(size - 1, max(high, 0))))
    return spans[0], spans[1]


def _ints(node: ir.Node, name: str, default: list[int]) -> list[int]:
    return list(node.attributes[name].as_ints()) if name in node.attributes else default


def _window(node: ir.Node, axis: int, out: Interval) -> Interval:
    if "kernel_shape" in node.attributes:
        kernel = node.attributes["kernel_shape"].as_ints()[axis]
    else:
        kernel = _shape(node.inputs[1])[2 + axis]  # type: ignore[arg-type]
    stride = _ints(node, "strides", [1, 1])[axis]
    dilation = _ints(node, "dilations", [1, 1])[axis]
    pad = _ints(node, "pads", [0] * 4)[axis]
    auto = node.attributes["auto_pad"].as_string() if "auto_pad" in node.attributes else "NOTSET"
    if auto.startswith("SAME"):
        size, steps = _shape(node.inputs[0])[2 + axis], _shape(node.outputs[0])[2 + axis]  # type: ignore[arg-type]
        total = max(0, (steps - 1) * stride + (kernel - 1) * dilation + 1 - size)
        pad = total // 2 if auto == "SAME_UPPER" else total - total // 2
    return out[0] * stride - pad, out[1] * stride - pad + (kernel - 1) * dilation


def _transposed(node: ir.Node, axis: int, out: Interval) -> Interval:
    kernel = _shape(node.inputs[1])[2 + axis]  # type: ignore[arg-type]
    stride = _ints(node, "strides", [1, 1])[axis]
    dilation = _ints(node, "dilations", [1, 1])[axis]
    pad = _ints(node, "pads", [0] * 4)[axis]
    reach = (kernel - 1) * dilation
    return -((reach - out[0] - pad) // stride), (out[1] + pad) // stride


def _padded(node: ir.Node, axis: int, out: Interval) -> Interval:
    amounts = constant_of(node.inputs[1]) if len(node.inputs) > 1 else None
    if amounts is None or len(amounts) != 8:
        return 0, 1 << 30
    begin = int(amounts[2 + axis])
    return out[0] - begin, out[1] - begin


def _resized(node: ir.Node, axis: int, out: Interval) -> Interval:
    size, to = _shape(node.inputs[0])[2 + axis], _shape(node.outputs[0])[2 + axis]  # type: ignore[arg-type]
    mode = node.attributes["mode"].as_string() if "mode" in node.attributes else "nearest"
    reach = {"nearest": 1, "linear": 1, "cubic": 2}.get(mode, size)
    if mode == "nearest" and to % size == 0:
        return out[0] * size // to, out[1] * size // to
    return out[0] * size // to - reach, -(-(out[1] + 1) * size // to) + reach


_WINDOWS: dict[str, Callable[[ir.Node, int, Interval], Interval]] = {
    "Conv": _window,
    "MaxPool": _window,
    "AveragePool": _window,
    "LpPool": _window,
    "ConvTranspose": _transposed,
    "Pad": _padded,
    "Resize": _resized,
}


def _shape(value: ir.Value) -> tuple[int, ...]:
    shape = static_shape(value)
    assert shape is not None, f"{value.name} has no static shape"
    return shape


def _union(a: Spans, b: Spans) -> Spans:
    return tuple((min(x[0], y[0]), max(x[1], y[1])) for x, y in zip(a, b, strict=True))  # type: ignore[return-value]


def _box(spans: Spans) -> Box:
    (top, bottom), (left, right) = spans
    return Box(top, left, bottom + 1, right + 1)
