"""Convolutions and what is made of them: the derivative with respect to the input.

The backward gets weights of its own: OpenVINO computes wrong results when a Conv and a ConvTranspose share one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from export.vjp.emit import Emitter, shape_of
from export.vjp.registry import Site, rule
from export.windows import Windows, windows_of


def zero_stuffed(e: Emitter, g: ir.Value, strides: list[int]) -> ir.Value:
    """Put ``stride - 1`` zeros between neighbours: side ``(n - 1) stride + 1``."""
    if all(stride == 1 for stride in strides):
        return g
    shape = shape_of(g)
    spread: list[int] = [*shape[:2]]
    after = [0, 0]
    for size, stride in zip(shape[2:], strides, strict=True):
        spread += [size, 1]
        after += [0, stride - 1]
    g = e.pad(e.reshape(g, tuple(spread)), [0] * len(spread), after)
    g = e.reshape(g, (*shape[:2], *(size * stride for size, stride in zip(shape[2:], strides, strict=True))))
    return e.pad(g, [0] * len(shape), [0, 0, *(1 - stride for stride in strides)])


def conv_input_vjp(
    e: Emitter,
    g: ir.Value,
    weight: ir.Value | npt.NDArray[Any],
    size: tuple[int, ...],
    windows: Windows,
    group: int,
) -> ir.Value:
    """``dx = g zero-stuffed by the stride, convolved with W flipped and its channels exchanged``.

    Args:
        e: emitter.
        g: (N, O, *out) cotangent.
        weight: (O, I / group, *kernel); a constant gets an initializer of its own.
        size: spatial shape of x.
        windows: of the forward convolution; their end follows from the sizes.
        group: of the forward convolution.
    """
    kernel, strides, begin, dilations = windows.kernel, windows.strides, windows.begin, windows.dilations
    out = list(shape_of(g)[2:])
    reach = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
    strided = any(stride > 1 for stride in strides)
    left_over = [n - ((o - 1) * s + r + 1 - b) for n, o, s, r, b in zip(size, out, strides, reach, begin, strict=True)]
    if strided and all(d == 1 for d in dilations):
        return _transposed(e, g, weight, strides, begin, left_over, group)
    flipped = _exchanged(e, weight, group)
    g = zero_stuffed(e, g, strides)
    before = [r - b for r, b in zip(reach, begin, strict=True)]
    after = [n - have - b + r for n, have, b, r in zip(size, shape_of(g)[2:], before, reach, strict=True)]
    crop = [0, 0, *(min(0, b) for b in before)], [0, 0, *(min(0, a) for a in after)]
    g = e.pad(g, *crop)
    pads = [max(0, b) for b in before] + [max(0, a) for a in after]
    return e.op("Conv", g, flipped, pads=pads, dilations=dilations, group=group, kernel_shape=kernel)


def _transposed(
    e: Emitter,
    g: ir.Value,
    weight: ir.Value | npt.NDArray[Any],
    strides: list[int],
    begin: list[int],
    left_over: list[int],
    group: int,
) -> ir.Value:
    """ConvTranspose with its own copy of the weight; ``left_over`` is what the input has beyond the last window."""
    own = _copied(e, weight, "ConvTranspose")
    end = [max(0, -rest) for rest in left_over]
    extra = [min(max(0, rest), stride - 1) for rest, stride in zip(left_over, strides, strict=True)]
    missing = [rest - x for rest, x in zip([max(0, r) for r in left_over], extra, strict=True)]
    dx = e.op(
        "ConvTranspose",
        g,
        own,
        strides=strides,
        pads=begin + end,
        output_padding=extra,
        group=group,
        kernel_shape=list(_shape(weight)[2:]),
    )
    return e.pad(dx, [0] * len(shape_of(dx)), [0, 0, *missing])


def _exchanged(e: Emitter, weight: ir.Value | npt.NDArray[Any], group: int) -> ir.Value:
    """(O, I/g, *k) -> (I, O/g, *k), kernels flipped."""
    o, i, *kernel = _shape(weight)
    split, swap = (group, o // group, i, *kernel), (0, 2, 1, *range(3, 3 + len(kernel)))

    def turned(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        array = array.reshape(split).transpose(swap).reshape(group * i, o // group, *kernel)
        return np.ascontiguousarray(np.flip(array, tuple(range(2, 2 + len(kernel)))))

    if not isinstance(weight, ir.Value):
        return e.const(turned(weight), owner="Conv")
    made = e.derived(weight, f"exchanged in {group} groups", turned)
    if made is not None:
        return made
    value = e.reshape(e.op("Transpose", e.reshape(weight, split), perm=list(swap)), (group * i, o // group, *kernel))
    for axis, size in enumerate(kernel, start=2):
        value = e.op("Slice", value, e.ints(size - 1), e.ints(-size - 1), e.ints(axis), e.ints(-1))
    return value


def _copied(e: Emitter, weight: ir.Value | npt.NDArray[Any], owner: str) -> ir.Value:
    if not isinstance(weight, ir.Value):
        return e.const(weight, owner=owner)
    made = e.derived(weight, f"copied for {owner}", lambda array: array)
    return weight if made is None else made


def _shape(weight: ir.Value | npt.NDArray[Any]) -> tuple[int, ...]:
    return shape_of(weight) if isinstance(weight, ir.Value) else weight.shape


@rule("Conv")
def conv(s: Site) -> Mapping[int, ir.Value]:
    """``y = W * x + b``:  ``dx = W^T * g``."""
    s.only_input(0)
    return {0: conv_input_vjp(s.e, s.g, s.input(1), s.shape()[2:], windows_of(s.node), s.attribute("group", 1))}


@rule("ConvTranspose")
def conv_transpose(s: Site) -> Mapping[int, ir.Value]:
    """``y = W^T * x + b``:  ``dx = W * g``, a strided convolution; W is (I, O/g, *k), which is what Conv wants here."""
    s.only_input(0)
    weight = s.input(1)
    kernel = list(shape_of(weight)[2:])
    n = len(kernel)
    strides, dilations = s.attribute("strides", [1] * n), s.attribute("dilations", [1] * n)
    extra = s.attribute("output_padding", [0] * n)
    out, size = shape_of(s.y)[2:], s.shape()[2:]
    total = [
        st * (i - 1) + x + (k - 1) * d + 1 - o
        for st, i, x, k, d, o in zip(strides, size, extra, kernel, dilations, out, strict=True)
    ]
    auto = s.attribute("auto_pad", "NOTSET")
    if auto == "NOTSET" and "output_shape" not in s.node.attributes:
        begin = s.attribute("pads", [0] * (2 * n))[:n]
    elif auto == "SAME_UPPER":
        begin = [t // 2 for t in total]
    else:
        begin = [t - t // 2 for t in total]
    # Conv over g with these windows must give exactly ``size`` outputs
    need = [(i - 1) * st + (k - 1) * d + 1 for i, st, k, d in zip(size, strides, kernel, dilations, strict=True)]
    end = [want - o - b for want, o, b in zip(need, out, begin, strict=True)]
    g = s.e.pad(s.g, [0, 0, *(min(0, b) for b in begin)], [0, 0, *(min(0, x) for x in end)])
    pads = [max(0, b) for b in begin] + [max(0, x) for x in end]
    own = _copied(s.e, weight, "Conv")
    group = s.attribute("group", 1)
    return {
        0: s.e.op("Conv", g, own, strides=strides, dilations=dilations, pads=pads, group=group, kernel_shape=kernel)
    }
