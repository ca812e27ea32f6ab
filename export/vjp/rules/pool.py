"""Pooling. TensorRT refuses MaxPool's Indices, so the maximum is found again among strided slices."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np
import onnx_ir as ir

from export.vjp.emit import Emitter, shape_of
from export.vjp.registry import Site, rule
from export.vjp.rules.conv import conv_input_vjp, zero_stuffed
from export.windows import Windows, windows_of

LOWEST = -1e30
LOWEST_HALF = -6e4


@rule("MaxPool")
def max_pool(s: Site) -> Mapping[int, ir.Value]:
    """``y = max over the window``:  g goes to the first maximum in row-major order, as PyTorch does."""
    e = s.e
    if len(s.cotangents) > 1 and s.cotangents[1] is not None:
        raise s.refuse("its indices are used")
    windows = windows_of(s.node)
    kernel, strides, begin, dilations = windows.kernel, windows.strides, windows.begin, windows.dilations
    size, out = s.shape()[2:], shape_of(s.y)[2:]
    _check_last_window(s, windows)
    need = [(o - 1) * st + (k - 1) * d + 1 for o, st, k, d in zip(out, strides, kernel, dilations, strict=True)]
    end = [n - i - b for n, i, b in zip(need, size, begin, strict=True)]
    lowest = LOWEST_HALF if s.x.dtype == ir.DataType.FLOAT16 else LOWEST
    padded = e.pad(s.x, [0, 0, *begin], [0, 0, *end], fill=lowest)
    claimed: ir.Value | None = None
    parts: dict[tuple[int, ...], ir.Value] = {}
    offsets = list(product(*(range(k) for k in kernel)))
    for offset in offsets:
        hit = e.op("Equal", _strided(e, padded, offset, strides, dilations, out), s.y)
        if claimed is None:
            first, claimed = hit, hit
        else:
            first = e.op("And", hit, e.op("Not", claimed))
            if offset != offsets[-1]:
                claimed = e.op("Or", claimed, hit)
        parts[tuple(o * d for o, d in zip(offset, dilations, strict=True))] = e.masked(s.g, first)
    whole = _placed(e, parts, strides, need)
    return {0: e.pad(whole, [0, 0, *(-b for b in begin)], [0, 0, *(-x for x in end)])}


def _check_last_window(s: Site, windows: Windows) -> None:
    for n, o, stride, b in zip(s.shape()[2:], shape_of(s.y)[2:], windows.strides, windows.begin, strict=True):
        if (o - 1) * stride >= n + b:
            raise s.refuse("its last window begins beyond the input, where runtimes drop it; set ceil_mode to 0")


def _strided(
    e: Emitter, x: ir.Value, offset: tuple[int, ...], strides: list[int], dilations: list[int], out: tuple[int, ...]
) -> ir.Value:
    starts = [o * d for o, d in zip(offset, dilations, strict=True)]
    ends = [b + (n - 1) * st + 1 for b, n, st in zip(starts, out, strides, strict=True)]
    axes = range(2, 2 + len(out))
    return e.op("Slice", x, e.ints(*starts), e.ints(*ends), e.ints(*axes), e.ints(*strides))


def _placed(e: Emitter, parts: dict[tuple[int, ...], ir.Value], strides: list[int], need: list[int]) -> ir.Value:
    """Sum of parts, each zero-stuffed by the strides and moved by its offset, in a tensor of spatial size ``need``.

    Offsets of one residue modulo the stride add up on the coarse grid; the residues are interleaved at the end, once.
    """
    coarse = [-(-n // st) for n, st in zip(need, strides, strict=True)]
    phases: dict[tuple[int, ...], ir.Value] = {}
    for offset, part in parts.items():
        residue = tuple(o % st for o, st in zip(offset, strides, strict=True))
        move = [o // st for o, st in zip(offset, strides, strict=True)]
        rest = [c - m - n for c, m, n in zip(coarse, move, shape_of(part)[2:], strict=True)]
        moved = e.pad(part, [0, 0, *move], [0, 0, *rest])
        phases[residue] = e.op("Add", phases[residue], moved) if residue in phases else moved
    if all(st == 1 for st in strides):
        return phases[(0,) * len(strides)]
    any_phase = next(iter(phases.values()))
    if len(strides) == 2 and strides[0] == strides[1]:
        block = strides[0]
        order = [phases.get(r) or e.zeros_like(any_phase) for r in product(range(block), range(block))]
        whole = e.op("DepthToSpace", e.op("Concat", *order, axis=1), blocksize=block, mode="DCR")
    else:
        total: ir.Value | None = None
        full = [c * st for c, st in zip(coarse, strides, strict=True)]
        for residue, phase in phases.items():
            stuffed = zero_stuffed(e, phase, strides)
            rest = [f - r - n for f, r, n in zip(full, residue, shape_of(stuffed)[2:], strict=True)]
            moved = e.pad(stuffed, [0, 0, *residue], [0, 0, *rest])
            total = moved if total is None else e.op("Add", total, moved)
        assert total is not None
        whole = total
    return e.pad(
        whole, [0] * len(shape_of(whole)), [0, 0, *(n - c * st for n, c, st in zip(need, coarse, strides, strict=True))]
    )


@rule("AveragePool")
def average_pool(s: Site) -> Mapping[int, ir.Value]:
    """``y = sum over the window / count``:  g / count spread over the window: a depthwise convolution with ones."""
    e = s.e
    windows = windows_of(s.node)
    kernel, size, out, channels = windows.kernel, s.shape()[2:], shape_of(s.y)[2:], s.shape()[1]
    _check_last_window(s, windows)
    g = e.op("Mul", s.g, e.const(1 / _counts(s, windows), like=s.g))
    tiles = all(k == st and o * k == n for k, st, o, n in zip(kernel, windows.strides, out, size, strict=True))
    if tiles and len(kernel) == 2 and not any(windows.begin) and all(d == 1 for d in windows.dilations):
        scales = e.const(np.asarray([1, 1, *kernel], np.float32))
        asked = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return {0: e.op("Resize", g, None, scales, mode="nearest", **asked)}
    assert s.g.dtype is not None
    ones = np.ones((channels, 1, *kernel), s.g.dtype.numpy())
    return {0: conv_input_vjp(e, g, ones, size, windows, channels)}


def _counts(s: Site, windows: Windows) -> np.ndarray:
    """(1, 1, *out): how many positions each window averages over."""
    include = s.attribute("count_include_pad", 0)
    total = np.ones((1, 1, *[1] * len(windows.kernel)))
    for axis, (n, o) in enumerate(zip(s.shape()[2:], shape_of(s.y)[2:], strict=True)):
        begin, end = windows.begin[axis], windows.end[axis]
        starts = np.arange(o)[:, None] * windows.strides[axis] - begin
        taps = starts + np.arange(windows.kernel[axis])[None] * windows.dilations[axis]
        low, high = (-begin, n + end) if include else (0, n)
        count = ((taps >= low) & (taps < high)).sum(axis=1)
        shape = [1] * total.ndim
        shape[2 + axis] = o
        total = total * count.reshape(shape)
    return total


@rule("LpPool")
def lp_pool(s: Site) -> Mapping[int, ir.Value]:
    """``y = (sum |x|^p)^(1/p) over the window``:  ``dx = sign(x) |x|^(p-1) * spread(g y^(1-p))``; 0 where y is 0."""
    windows, (_, channels, *size) = windows_of(s.node), s.shape()
    _check_last_window(s, windows)
    assert s.g.dtype is not None
    ones = np.ones((channels, 1, *windows.kernel), s.g.dtype.numpy())
    return {0: _lp_inner(s, conv_input_vjp(s.e, _lp_outer(s), ones, tuple(size), windows, channels))}


@rule("GlobalLpPool")
def global_lp_pool(s: Site) -> Mapping[int, ir.Value]:
    """``y = (sum |x|^p)^(1/p) over positions``:  ``dx = g sign(x) |x|^(p-1) y^(1-p)``; 0 where y is 0."""
    return {0: _lp_inner(s, _lp_outer(s))}


def _lp_outer(s: Site) -> ir.Value:
    """``g y^(1-p)``; y is kept at 1 where it is 0, where the other factor is 0."""
    e, p = s.e, s.attribute("p", 2)
    if p == 1:
        return s.g
    safe = e.op("Add", s.y, e.op("Cast", e.op("Equal", s.y, e.const(0.0, like=s.y)), to=int(s.y.dtype or 1)))
    return e.op("Div", s.g, safe if p == 2 else e.op("Pow", safe, e.const(float(p - 1), like=safe)))


def _lp_inner(s: Site, spread: ir.Value) -> ir.Value:
    """``sign(x) |x|^(p-1) spread``."""
    e, p = s.e, s.attribute("p", 2)
    if p == 2:
        return e.op("Mul", s.x, spread)
    sign = e.op("Mul", e.op("Sign", s.x), spread)
    return sign if p == 1 else e.op("Mul", sign, e.op("Pow", e.op("Abs", s.x), e.const(float(p - 1), like=s.x)))


@rule("GlobalAveragePool")
def global_average_pool(s: Site) -> Mapping[int, ir.Value]:
    """``y = mean over positions``:  ``dx = g / positions`` everywhere."""
    return {0: s.e.mul(s.g, 1 / float(np.prod(s.shape()[2:])))}


@rule("GlobalMaxPool")
def global_max_pool(s: Site) -> Mapping[int, ir.Value]:
    """``y = max over positions``:  g to the first maximum in row-major order, as PyTorch's ``max_pool``."""
    e, shape = s.e, s.shape()
    flat = (*shape[:2], int(np.prod(shape[2:])))
    hit = e.op("Cast", e.op("Equal", e.reshape(s.x, flat), e.reshape(s.y, (*shape[:2], 1))), to=int(ir.DataType.FLOAT))
    earlier = e.op("CumSum", hit, e.const(np.asarray(2, np.int64)), exclusive=1)
    first = e.op("And", e.op("Cast", hit, to=int(ir.DataType.BOOL)), e.op("Less", earlier, e.const(0.5, like=earlier)))
    return {0: e.reshape(e.masked(e.reshape(s.g, (*shape[:2], 1)), first), shape)}
