"""Sums and extremes along axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import torch

from export.sources.operators.table import OPERATORS, Tensor, attribute, integers, operator


def _reduce(**functions: Callable[[Tensor, tuple[int, ...], bool], Tensor]) -> None:
    def apply(node: ir.Node, x: Tensor, axes: Tensor | None, function: Any) -> Tensor:
        given = integers(axes) if axes is not None else attribute(node, "axes", None)
        if not given and attribute(node, "noop_with_empty_axes", 0):
            return x
        made: Tensor = function(x, tuple(given or range(x.ndim)), bool(attribute(node, "keepdims", 1)))
        return made

    for name, function in functions.items():
        OPERATORS[name] = lambda node, x, axes=None, f=function: apply(node, x, axes, f)


_reduce(
    ReduceSum=lambda x, d, k: x.sum(d, k),
    ReduceMean=lambda x, d, k: x.mean(d, k),
    ReduceMax=lambda x, d, k: x.amax(d, k),
    ReduceMin=lambda x, d, k: x.amin(d, k),
    ReduceSumSquare=lambda x, d, k: x.square().sum(d, k),
    ReduceL1=lambda x, d, k: x.abs().sum(d, k),
    ReduceL2=lambda x, d, k: torch.linalg.vector_norm(x, 2, d, k),
    ReduceLogSumExp=lambda x, d, k: torch.logsumexp(x, d, k),
)


@operator("CumSum")
def _cum_sum(node: ir.Node, x: Tensor, axis: Tensor) -> Tensor:
    along = int(axis)
    if attribute(node, "reverse", 0):
        x = x.flip(along)
    y = x.cumsum(along)
    if attribute(node, "exclusive", 0):
        y = y - x
    return y.flip(along) if attribute(node, "reverse", 0) else y


@operator("TopK")
def _top_k(node: ir.Node, x: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    values, indices = x.topk(int(k), attribute(node, "axis", -1), bool(attribute(node, "largest", 1)))
    return values, indices
