"""What every operator needs for a part of its output. An operator without a rule computes everything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from export.cone.regions import Narrowing, Region, Rule, broadcast, shape_of, whole, widened
from export.passes.constants import constant_of
from export.windows import windows_of

RULES: dict[str, Rule] = {}

_ELEMENTWISE = """
Relu LeakyRelu PRelu Clip Sigmoid Tanh Exp Log Sqrt Reciprocal Pow Neg Abs Erf Gelu HardSigmoid HardSwish Softplus Elu
Selu Celu Mish ThresholdedRelu Softsign Sin Cos Floor Ceil Round Sign Swish
Add Sub Mul Div Sum Mean Where Min Max Identity Cast Equal Less Greater LessOrEqual GreaterOrEqual And Or Not
"""


def _rule(*ops: str) -> Callable[[Rule], Rule]:
    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(ops, function))
        return function

    return register


@_rule(*_ELEMENTWISE.split())
def elementwise(node: ir.Node, out: Region) -> Narrowing:
    """Every input gives the same region, broadcasting undone; bounds (of Clip) are scalars and stay."""
    needs = tuple(broadcast(out, shape_of(v)) if v is not None and shape_of(v) else None for v in node.inputs)
    return Narrowing((out,), needs)


@_rule("Dropout")
def dropout(node: ir.Node, out: Region) -> Narrowing | None:
    """The identity, unless its mask is used."""
    return None if len(node.outputs) > 1 else _first(node, out)


@_rule("BatchNormalization", "LRN")
def along_channels(node: ir.Node, out: Region) -> Narrowing:
    """Positions do not mix; channels may."""
    return _first(node, widened(out, shape_of(node.outputs[0]), [1]))


@_rule("LayerNormalization", "Softmax", "LogSoftmax", "LpNormalization")
def along_axis(node: ir.Node, out: Region) -> Narrowing:
    """What lies along the axis is mixed (from the axis on, for LayerNormalization)."""
    shape = shape_of(node.outputs[0])
    axis = _attribute(node, "axis", -1) % len(shape)
    last = len(shape) if node.op_type == "LayerNormalization" else axis + 1
    return _first(node, widened(out, shape, range(axis, last)))


def _first(node: ir.Node, region: Region) -> Narrowing:
    """The first input gives the region itself, the others stay."""
    return Narrowing((region,), (region, *[None] * (len(node.inputs) - 1)))


@_rule("Conv", "MaxPool", "AveragePool")
def window(node: ir.Node, out: Region) -> Narrowing | None:
    """Rows ``[a, b)`` read rows ``[a s - p, (b - 1) s - p + (k - 1) d + 1)``; what lies outside becomes padding."""
    if len(node.outputs) > 1:
        return None
    shape, out_shape, windows = shape_of(node.inputs[0]), shape_of(node.outputs[0]), windows_of(node)
    kernel, strides, begin, end = windows.kernel, windows.strides, windows.begin, windows.end
    region, need, before, after = [*whole(out_shape[:2])], [*whole(shape[:2])], [], []
    for i in range(len(kernel)):
        first, last = out[2 + i]
        low = first * strides[i] - begin[i]
        high = (last - 1) * strides[i] - begin[i] + (kernel[i] - 1) * windows.dilations[i] + 1
        beyond = node.op_type == "AveragePool" and _attribute(node, "count_include_pad", 0)
        if beyond and high > shape[2 + i] + end[i]:
            return None  # the last window of ceil_mode counts only the part inside the padding
        span = max(0, low), min(shape[2 + i], high)
        if span[0] >= span[1] or (max(span[0] - low, high - span[1]) >= max(2, kernel[i]) and node.op_type != "Conv"):
            return None
        region.append((first, last))
        need.append(span)
        before.append(span[0] - low)
        after.append(high - span[1])
    attributes: dict[str, Any] = {"pads": before + after, "auto_pad": None, "kernel_shape": kernel}
    if node.op_type != "Conv":
        attributes["ceil_mode"] = None
    rest = [None] * (len(node.inputs) - 1)
    return Narrowing((tuple(region),), (tuple(need), *rest), attributes)


@_rule("ConvTranspose")
def transposed(node: ir.Node, out: Region) -> Narrowing | None:
    """Row ``i`` writes rows ``[i s - p, i s - p + (k - 1) d]``; pads cut off what lies beyond the region."""
    if _attribute(node, "auto_pad", "NOTSET") != "NOTSET" or "output_shape" in node.attributes:
        return None
    shape, out_shape = shape_of(node.inputs[0]), shape_of(node.outputs[0])
    kernel = shape_of(node.inputs[1])[2:]
    rank = len(kernel)
    strides, dilations = (_attribute(node, name, [1] * rank) for name in ("strides", "dilations"))
    pads = _attribute(node, "pads", [0] * (2 * rank))
    region, need, before, after, extra = [*whole(out_shape[:2])], [*whole(shape[:2])], [], [], []
    for i in range(rank):
        (first, last), stride, pad = out[2 + i], strides[i], pads[i]
        reach = (kernel[i] - 1) * dilations[i]
        low = min(-((reach - first - pad) // stride), (first + pad) // stride)
        low = min(max(0, low), shape[2 + i] - 1)
        high = max(min(shape[2 + i], (last - 1 + pad) // stride + 1), low + 1)
        start, stop = low * stride - pad, (high - 1) * stride - pad + reach + 1
        if first < start or last - stop >= stride:
            return None
        region.append((first, last))
        need.append((low, high))
        before.append(first - start)
        after.append(max(0, stop - last))
        extra.append(max(0, last - stop))
    attributes = {"pads": before + after, "output_padding": extra, "kernel_shape": list(kernel)}
    return Narrowing((tuple(region),), (tuple(need), *[None] * (len(node.inputs) - 1)), attributes)


@_rule("Concat")
def concat(node: ir.Node, out: Region) -> Narrowing:
    """Whole along its axis."""
    axis = _attribute(node, "axis", 0)
    region = widened(out, shape_of(node.outputs[0]), [axis])
    return Narrowing((region,), tuple(widened(out, shape_of(v), [axis]) for v in node.inputs))


@_rule("Split")
def split(node: ir.Node, out: Region) -> Narrowing:
    """Whole along its axis; every part gets the same region otherwise."""
    axis = _attribute(node, "axis", 0)
    parts = tuple(widened(out, shape_of(v), [axis]) for v in node.outputs)
    need = widened(out, shape_of(node.inputs[0]), [axis])
    return Narrowing(parts, (need, *[None] * (len(node.inputs) - 1)))


@_rule("Transpose")
def transpose(node: ir.Node, out: Region) -> Narrowing:
    """The spans change places."""
    perm = _attribute(node, "perm", list(range(len(out)))[::-1])
    return Narrowing((out,), (tuple(out[list(perm).index(i)] for i in range(len(out))),))


@_rule("Gather")
def gather(node: ir.Node, out: Region) -> Narrowing | None:
    """Whole along its axis (channels put in another order)."""
    indices, shape = constant_of(node.inputs[1]), shape_of(node.inputs[0])
    if indices is None or indices.ndim != 1:
        return None
    axis = _attribute(node, "axis", 0) % len(shape)
    return Narrowing((widened(out, shape_of(node.outputs[0]), [axis]),), (widened(out, shape, [axis]), None))


@_rule("MatMul")
def matmul(node: ir.Node, out: Region) -> Narrowing | None:
    """``x @ W`` with a constant matrix: rows do not mix."""
    if constant_of(node.inputs[1]) is None or len(shape_of(node.inputs[1])) != 2 or len(out) < 2:
        return None
    return Narrowing(
        (widened(out, shape_of(node.outputs[0]), [-1]),), (widened(out, shape_of(node.inputs[0]), [-1]), None)
    )


@_rule("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceSumSquare", "ReduceL2")
def reduce(node: ir.Node, out: Region) -> Narrowing | None:
    """Whole along what is reduced, if the reduced axes are kept."""
    shape = shape_of(node.inputs[0])
    given = constant_of(node.inputs[1]) if len(node.inputs) > 1 else _attribute(node, "axes", None)
    if given is None or not _attribute(node, "keepdims", 1):
        return None
    return Narrowing((out,), (widened(out, shape, [int(a) for a in given]), *[None] * (len(node.inputs) - 1)))


@_rule("Reshape")
def reshape(node: ir.Node, out: Region) -> Narrowing | None:
    """Axes that the reshape leaves alone pass; those that it splits or joins are taken whole."""
    if constant_of(node.inputs[1]) is None:
        return None
    old, new = shape_of(node.inputs[0]), shape_of(node.outputs[0])
    kept = kept_axes(old, new)
    produced, need = [*whole(new)], [*whole(old)]
    for a, b in kept:
        need[a], produced[b] = out[b], out[b]
    target = [end - start for start, end in produced]
    return Narrowing((tuple(produced),), (tuple(need), None), {"allowzero": None}, {1: target})


def kept_axes(old: tuple[int, ...], new: tuple[int, ...]) -> list[tuple[int, int]]:
    """(axis of ``old``, axis of ``new``) that hold the same index."""
    kept, a, b, left, right = [], 0, 0, 1, 1
    while a < len(old) and b < len(new):
        if left == right and old[a] == new[b]:
            kept.append((a, b))
            a, b = a + 1, b + 1
        elif left * old[a] <= right * new[b]:
            left, a = left * old[a], a + 1
        else:
            right, b = right * new[b], b + 1
    return kept


@_rule("Pad")
def pad(node: ir.Node, out: Region) -> Narrowing | None:
    """The part of the region that lies inside; the rest stays padding."""
    amounts = constant_of(node.inputs[1]) if len(node.inputs) > 1 else None
    shape = shape_of(node.inputs[0])
    by_axes = len(node.inputs) > 3 and node.inputs[3] is not None
    if amounts is None or by_axes or _attribute(node, "mode", "constant") != "constant" or (amounts < 0).any():
        return None
    begin = amounts[: len(shape)]
    need, before, after = [], [], []
    for size, (first, last), b in zip(shape, out, begin, strict=True):
        low, high = max(0, first - int(b)), min(size, last - int(b))
        if low >= high:
            return None
        need.append((low, high))
        before.append(low - (first - int(b)))
        after.append(last - int(b) - high)
    return Narrowing((out,), (tuple(need), *[None] * (len(node.inputs) - 1)), None, {1: before + after})


@_rule("Resize")
def resize(node: ir.Node, out: Region) -> Narrowing | None:
    """A nearest enlargement by whole factors: blocks."""
    shape, out_shape = shape_of(node.inputs[0]), shape_of(node.outputs[0])
    factors = [o // s for o, s in zip(out_shape, shape, strict=True)]
    if any(o % s for o, s in zip(out_shape, shape, strict=True)) or not _repeats(node, max(factors)):
        return None
    need = tuple((first // f, -(-last // f)) for (first, last), f in zip(out, factors, strict=True))
    produced = tuple((low * f, high * f) for (low, high), f in zip(need, factors, strict=True))
    by_sizes = len(node.inputs) > 3 and node.inputs[3] is not None
    if by_sizes and "axes" in node.attributes:
        return None
    return Narrowing(
        (produced,),
        (need, *[None] * (len(node.inputs) - 1)),
        None,
        {3: [end - start for start, end in produced]} if by_sizes else None,
    )


def _repeats(node: ir.Node, factor: int) -> bool:
    """Whether a nearest resize by this factor repeats every position."""
    if _attribute(node, "mode", "nearest") != "nearest" or _attribute(node, "antialias", 0):
        return False
    scales = constant_of(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
    if scales is not None and not np.array_equal(scales, np.rint(scales)):
        return False
    kind = _attribute(node, "coordinate_transformation_mode", "half_pixel")
    rounding = _attribute(node, "nearest_mode", "round_prefer_floor")
    if kind == "asymmetric":
        return bool(rounding == "floor" or (factor == 2 and rounding == "round_prefer_floor"))
    return bool(kind in ("half_pixel", "pytorch_half_pixel") and rounding.startswith("round"))


def _attribute(node: ir.Node, name: str, default: Any) -> Any:
    if name not in node.attributes:
        return default
    value = node.attributes[name].value
    return list(value) if isinstance(value, tuple | list) else value
