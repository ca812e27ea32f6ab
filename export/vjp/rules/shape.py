"""Operators that move elements about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from export.passes.constants import constant_of
from export.vjp.emit import Emitter, shape_of
from export.vjp.registry import Site, rule


def scattered(e: Emitter, g: ir.Value, axis: int, source: npt.NDArray[Any], size: int) -> ir.Value:
    """Derivative of ``y = x taken at source along axis``: sum g into ``size`` positions.

    Args:
        e: emitter.
        g: cotangent; its ``axis`` has ``len(source)`` entries.
        axis: non-negative.
        source: where each entry came from.
        size: of x along ``axis``.
    """
    if len(set(source.tolist())) == len(source):  # each position at most once: take g back, zeros elsewhere
        back = np.full(size, len(source))
        back[source] = np.arange(len(source))
        if (back == len(source)).any():
            zero = list(shape_of(g))
            zero[axis] = 1
            g = e.op("Concat", g, e.const(np.zeros(zero), like=g), axis=axis)
        return e.op("Gather", g, e.const(back.astype(np.int64)), axis=axis)
    one_hot = np.zeros((size, len(source)))
    one_hot[source, np.arange(len(source))] = 1
    rank = len(shape_of(g))
    swap = [*range(rank)]
    swap[axis], swap[-1] = swap[-1], swap[axis]
    moved = e.op("Transpose", g, perm=swap) if axis != rank - 1 else g
    summed = e.op("MatMul", moved, e.const(np.ascontiguousarray(one_hot.T), like=g))
    return e.op("Transpose", summed, perm=swap) if axis != rank - 1 else summed


@rule("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshape(s: Site) -> Mapping[int, ir.Value]:
    """``y = x in another shape``:  ``dx = g`` in x's shape."""
    return {0: s.e.reshape(s.g, s.shape())}


@rule("Transpose")
def transpose(s: Site) -> Mapping[int, ir.Value]:
    """``y = x with permuted axes``:  ``dx = g`` with the inverse permutation."""
    rank = len(s.shape())
    perm = s.attribute("perm", list(range(rank))[::-1])
    return {0: s.e.op("Transpose", s.g, perm=[int(i) for i in np.argsort(perm)])}


@rule("Expand")
def expand(s: Site) -> Mapping[int, ir.Value]:
    """``y = x broadcast``:  ``dx = g`` summed over the broadcast axes (by the walk)."""
    return {0: s.g}


@rule("Concat")
def concat(s: Site) -> Mapping[int, ir.Value]:
    """``y = (a, b, ...)``:  each derivative is its slice of g."""
    axis, start, made = s.attribute("axis", 0) % len(shape_of(s.y)), 0, {}
    for index, wanted in enumerate(s.wanted):
        end = start + s.shape(index)[axis]
        if wanted:
            made[index] = s.e.slice(s.g, axis, start, end)
        start = end
    return made


@rule("Split")
def split(s: Site) -> Mapping[int, ir.Value]:
    """``(a, b, ...) = x``:  dx is the cotangents put together, zeros where nothing depends on a part."""
    e = s.e
    example = next(g for g in s.cotangents if g is not None)
    parts = [
        g if g is not None else e.const(np.zeros(shape_of(output)), like=example)
        for g, output in zip(s.cotangents, s.node.outputs, strict=True)
    ]
    return {0: e.op("Concat", *parts, axis=s.attribute("axis", 0) % len(s.shape()))}


@rule("Slice")
def slice_(s: Site) -> Mapping[int, ir.Value]:
    """``y = x[start:end:step]``:  g put back where it came from, zeros elsewhere."""
    e, shape = s.e, s.shape()
    starts, ends = s.ints(1, s.attribute("starts", None)), s.ints(2, s.attribute("ends", None))
    assert starts is not None
    assert ends is not None
    axes = s.ints(3, s.attribute("axes", None)) or list(range(len(starts)))
    steps = s.ints(4) or [1] * len(starts)
    g = s.g
    before, after = [0] * len(shape), [0] * len(shape)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis %= len(shape)
        taken = _taken(start, end, step, shape[axis])
        if not len(taken):
            return {0: e.zeros_like(s.x)}
        if step == 1:
            before[axis], after[axis] = int(taken[0]), shape[axis] - 1 - int(taken[-1])
        else:
            g = scattered(e, g, axis, taken, shape[axis])
    return {0: e.pad(g, before, after)}


def _taken(start: int, end: int, step: int, size: int) -> npt.NDArray[np.int64]:
    """The positions that ONNX's Slice takes along one axis."""
    lowest, highest = (0, size) if step > 0 else (-1, size - 1)
    start = min(max(start + size if start < 0 else start, max(lowest, 0)), highest)
    end = min(max(end + size if end < 0 else end, lowest), highest)
    return np.arange(start, end, step)


@rule("Pad")
def pad(s: Site) -> Mapping[int, ir.Value]:
    """``y = x padded``:  the middle of g; ``edge``, ``reflect`` and ``wrap`` add the borders where they came from."""
    s.only_input(0)
    e, shape = s.e, s.shape()
    amounts = s.ints(1, s.attribute("pads", None))
    assert amounts is not None
    axes = s.ints(3) or list(range(len(shape)))
    before, after = [0] * len(shape), [0] * len(shape)
    for i, axis in enumerate(axes):
        before[axis % len(shape)], after[axis % len(shape)] = amounts[i], amounts[i + len(axes)]
    mode = s.attribute("mode", "constant")
    if mode == "constant":
        return {0: e.pad(s.g, [-b for b in before], [-a for a in after])}
    g = s.g
    for axis, (b, a) in enumerate(zip(before, after, strict=True)):
        if b or a:
            if b < 0 or a < 0:
                raise s.refuse(f"negative pads in mode {mode!r}")
            source = np.pad(np.arange(shape[axis]), (b, a), mode=mode)
            g = scattered(e, g, axis, source, shape[axis])
    return {0: g}


@rule("Gather")
def gather(s: Site) -> Mapping[int, ir.Value]:
    """``y = x taken at indices along an axis``:  g summed into the positions it came from."""
    e, shape = s.e, s.shape()
    axis = s.attribute("axis", 0) % len(shape)
    index_shape = s.shape(1)
    flat = (*shape[:axis], int(np.prod(index_shape)), *shape[axis + 1 :])
    g = e.reshape(s.g, flat)
    indices = constant_of(s.input(1))
    if indices is not None:
        return {0: scattered(e, g, axis, indices.reshape(-1) % shape[axis], shape[axis])}
    positions = e.op("Mod", e.reshape(s.input(1), (flat[axis], 1)), e.const(np.asarray(shape[axis]), like=s.input(1)))
    one_hot = e.op("Equal", positions, e.const(np.arange(shape[axis])[None], like=s.input(1)))
    matrix = e.op("Cast", one_hot, to=int(s.x.dtype or 1))
    swap = [*range(len(flat))]
    swap[axis], swap[-1] = swap[-1], swap[axis]
    summed = e.op("MatMul", e.op("Transpose", g, perm=swap), matrix)
    return {0: e.op("Transpose", summed, perm=swap)}


@rule("GatherElements")
def gather_elements(s: Site) -> Mapping[int, ir.Value]:
    """``y[..i..] = x[..index[..i..]..]``:  g summed where the index points, by comparison with every position."""
    return {0: _summed_at(s, s.input(1), s.attribute("axis", 0) % len(s.shape()))}


@rule("TopK")
def top_k(s: Site) -> Mapping[int, ir.Value]:
    """``y, index = the k largest of x``:  g put back where the index points."""
    return {0: _summed_at(s, s.node.outputs[1], s.attribute("axis", -1) % len(s.shape()))}


def _summed_at(s: Site, where: ir.Value, axis: int) -> ir.Value:
    e, shape, out, rank = s.e, s.shape(), shape_of(where), len(s.shape())
    wide = (*out[:axis], 1, *out[axis:])
    positions = np.arange(shape[axis]).reshape(*[1] * axis, shape[axis], *[1] * (rank - axis))
    index = e.op("Mod", e.reshape(where, wide), e.const(np.asarray(shape[axis]), like=where))
    hit = e.op("Equal", index, e.const(positions, like=where))
    summed = e.sum(e.masked(e.reshape(s.g, wide), hit), [axis + 1], keepdims=False)
    have = shape_of(summed)
    return e.pad(summed, [0] * rank, [want - n for want, n in zip(shape, have, strict=True)])


@rule("Tile")
def tile(s: Site) -> Mapping[int, ir.Value]:
    """``y = x repeated``:  g summed over the repetitions."""
    repeats = s.ints(1)
    assert repeats is not None
    shape = s.shape()
    split_shape = tuple(n for pair in zip(repeats, shape, strict=True) for n in pair)
    axes = list(range(0, 2 * len(shape), 2))
    return {0: s.e.sum(s.e.reshape(s.g, split_shape), axes, keepdims=False)}


@rule("DepthToSpace")
def depth_to_space(s: Site) -> Mapping[int, ir.Value]:
    """``y = blocks of channels moved to positions``:  the same elements moved back."""
    e, block = s.e, s.attribute("blocksize", 1)
    n, c, h, w = s.shape()
    depth = c // block**2
    g = e.reshape(s.g, (n, depth, h, block, w, block))
    crd = s.attribute("mode", "DCR") == "CRD"
    return {0: e.reshape(e.op("Transpose", g, perm=[0, 1, 3, 5, 2, 4] if crd else [0, 3, 5, 1, 2, 4]), (n, c, h, w))}


@rule("SpaceToDepth")
def space_to_depth(s: Site) -> Mapping[int, ir.Value]:
    """``y = blocks of positions moved to channels``:  the same elements moved back."""
    mode = s.attribute("mode", "DCR")  # an attribute since opset 28
    return {0: s.e.op("DepthToSpace", s.g, blocksize=s.attribute("blocksize", 1), mode=mode)}


@rule("GatherND")
def gather_nd(s: Site) -> Mapping[int, ir.Value]:
    """``y[i.., r..] = x[index[i..], r..]``:  g summed into the positions it came from; constant indices."""
    e, shape, indices = s.e, s.shape(), constant_of(s.input(1))
    if indices is None:
        raise s.refuse("only constant indices are supported")
    batch = indices.shape[: s.attribute("batch_dims", 0)]
    if batch:  # the batch axes' own positions, in front of each index
        own = np.moveaxis(np.indices(batch), 0, -1).reshape(*batch, *[1] * (indices.ndim - len(batch) - 1), len(batch))
        own = np.broadcast_to(own, (*indices.shape[:-1], len(batch)))
        indices = np.concatenate([own, indices], axis=-1)
    depth = indices.shape[-1]
    picked = indices.reshape(-1, depth) % np.asarray(shape[:depth])
    flat = np.ravel_multi_index(tuple(picked.T), shape[:depth])
    size = int(np.prod(shape[:depth]))
    g = e.reshape(s.g, (len(flat), *shape[depth:]))
    return {0: e.reshape(scattered(e, g, 0, flat, size), shape)}


@rule("ScatterElements", "ScatterND")
def scatter(s: Site) -> Mapping[int, ir.Value]:
    """``y = x, at constant indices u``:  ``dx = g``, 0 there; ``du = g`` taken there. What is added leaves dx at g."""
    e, shape, indices = s.e, s.shape(), constant_of(s.input(1))
    reduction = s.attribute("reduction", "none")
    if indices is None or reduction not in ("none", "add"):
        raise s.refuse("only constant indices that replace or add are supported")
    size = int(np.prod(shape))
    positions = np.arange(size).reshape(shape)
    if s.node.op_type == "ScatterND":
        depth = indices.shape[-1]
        taken = positions[tuple(np.moveaxis(indices % np.asarray(shape[:depth]), -1, 0))]
    else:
        axis = s.attribute("axis", 0) % len(shape)
        grid = list(np.indices(indices.shape))
        grid[axis] = indices % shape[axis]
        taken = positions[tuple(grid)]
    if reduction == "none" and len(np.unique(taken)) != taken.size:
        raise s.refuse("two of its indices are equal, and which one counts is not defined")
    made = {0: s.g}
    if reduction == "none" and s.wanted[0]:
        kept = np.ones(size)
        kept[taken.reshape(-1)] = 0
        made[0] = e.op("Mul", s.g, e.const(kept.reshape(shape), like=s.g))
    if s.wanted[2]:
        made[2] = e.op("Gather", e.reshape(s.g, (size,)), e.const(taken.astype(np.int64)))
    return made


@rule("Trilu")
def trilu(s: Site) -> Mapping[int, ir.Value]:
    """``y = x on one side of a diagonal, else 0``:  ``dx = g`` there."""
    offset = s.ints(1, [0])
    assert offset is not None
    side = np.triu if s.attribute("upper", 1) else np.tril
    return {0: s.e.op("Mul", s.g, s.e.const(side(np.ones(s.shape()[-2:]), offset[0]), like=s.g))}


@rule("CenterCropPad")
def center_crop_pad(s: Site) -> Mapping[int, ir.Value]:
    """``y = the middle of x, or x in the middle of zeros``:  g padded or cropped alike."""
    before, after = [], []
    for n, to in zip(s.shape(), shape_of(s.y), strict=True):
        first = (to - n) // 2 if to >= n else -((n - to) // 2)
        before.append(-first)
        after.append(n - to + first)
    return {0: s.e.pad(s.g, before, after)}
