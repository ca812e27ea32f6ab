"""What moves, cuts and joins."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import torch
from torch.nn import functional as F

from export.errors import ModelError
from export.sources.operators.table import Tensor, attribute, integers, number, operator


@operator("Reshape")
def _reshape(node: ir.Node, x: Tensor, shape: Tensor) -> Tensor:
    target = integers(shape) or []
    kept = [x.shape[i] if n == 0 and not attribute(node, "allowzero", 0) else n for i, n in enumerate(target)]
    return x.reshape(kept)


@operator("Flatten")
def _flatten(node: ir.Node, x: Tensor) -> Tensor:
    axis = attribute(node, "axis", 1)
    return x.reshape(int(np.prod(x.shape[:axis])), -1)


@operator("Squeeze")
def _squeeze(node: ir.Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(tuple(integers(axes) or ()))


@operator("Unsqueeze")
def _unsqueeze(node: ir.Node, x: Tensor, axes: Tensor) -> Tensor:
    given = integers(axes) or []
    for axis in sorted(a % (x.ndim + len(given)) for a in given):
        x = x.unsqueeze(axis)
    return x


@operator("Transpose")
def _transpose(node: ir.Node, x: Tensor) -> Tensor:
    return x.permute(attribute(node, "perm", list(range(x.ndim))[::-1]))


@operator("Concat")
def _concat(node: ir.Node, *x: Tensor) -> Tensor:
    return torch.cat(x, dim=attribute(node, "axis", 0))


@operator("Split")
def _split(node: ir.Node, x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
    axis = attribute(node, "axis", 0)
    if sizes is not None:
        return torch.split(x, integers(sizes) or [], dim=axis)
    return torch.split(x, -(-x.shape[axis] // len(node.outputs)), dim=axis)


@operator("Slice")
def _slice(
    node: ir.Node, x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None
) -> Tensor:
    begin, end = integers(starts) or [], integers(ends) or []
    for i, axis in enumerate(integers(axes) or range(len(begin))):
        step = (integers(steps) or [1] * len(begin))[i]
        # Python's own slices read the bounds as ONNX does, but for "before the first" with a negative step
        stop = None if step < 0 and end[i] < -x.shape[axis] else end[i]
        places = range(x.shape[axis])[begin[i] : stop : step]
        x = x.index_select(axis % x.ndim, torch.tensor(list(places), dtype=torch.int64))
    return x


@operator("Pad")
def _pad(node: ir.Node, x: Tensor, pads: Tensor, fill: Tensor | None = None, axes: Tensor | None = None) -> Tensor:
    amounts, chosen = integers(pads) or [], integers(axes) or list(range(x.ndim))
    mode = attribute(node, "mode", "constant")
    for i, axis in enumerate(chosen):
        before, after = amounts[i], amounts[len(chosen) + i]
        if mode == "constant":
            widths = [0, 0] * (x.ndim - 1 - axis % x.ndim) + [before, after]
            x = F.pad(x, widths, value=0.0 if fill is None else number(fill))
        elif before or after:
            source = np.pad(np.arange(x.shape[axis]), (before, after), mode=mode)
            x = x.index_select(axis % x.ndim, torch.from_numpy(source))
    return x


@operator("Gather")
def _gather(node: ir.Node, x: Tensor, indices: Tensor) -> Tensor:
    axis = attribute(node, "axis", 0) % x.ndim
    taken = x.index_select(axis, indices.reshape(-1).long() % x.shape[axis])
    return taken.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


@operator("GatherElements")
def _gather_elements(node: ir.Node, x: Tensor, indices: Tensor) -> Tensor:
    axis = attribute(node, "axis", 0)
    return torch.gather(x, axis, indices.long() % x.shape[axis])


@operator("GatherND")
def _gather_nd(node: ir.Node, x: Tensor, indices: Tensor) -> Tensor:
    if attribute(node, "batch_dims", 0):
        raise ModelError("PyTorch is not asked about GatherND with batch axes")
    return x[tuple(indices.long().unbind(-1))]


@operator("Tile")
def _tile(node: ir.Node, x: Tensor, repeats: Tensor) -> Tensor:
    return x.repeat(integers(repeats) or [])


@operator("DepthToSpace")
def _depth_to_space(node: ir.Node, x: Tensor) -> Tensor:
    (n, c, h, w), b = x.shape, attribute(node, "blocksize", 1)
    if attribute(node, "mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, b)
    return x.reshape(n, b, b, c // b**2, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c // b**2, h * b, w * b)


@operator("SpaceToDepth")
def _space_to_depth(node: ir.Node, x: Tensor) -> Tensor:
    (n, c, h, w), b = x.shape, attribute(node, "blocksize", 1)
    if attribute(node, "mode", "DCR") == "CRD":
        return F.pixel_unshuffle(x, b)
    return x.reshape(n, c, h // b, b, w // b, b).permute(0, 3, 5, 1, 2, 4).reshape(n, c * b**2, h // b, w // b)


@operator("ScatterND")
def _scatter_nd(node: ir.Node, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    reduction = attribute(node, "reduction", "none")
    if reduction not in ("none", "add"):
        raise ModelError(f"PyTorch is not asked about ScatterND with the reduction {reduction!r}")
    return x.index_put(tuple(indices.long().unbind(-1)), updates, accumulate=reduction == "add")


@operator("Trilu")
def _trilu(node: ir.Node, x: Tensor, k: Tensor | None = None) -> Tensor:
    return (torch.triu if attribute(node, "upper", 1) else torch.tril)(x, 0 if k is None else int(k))
