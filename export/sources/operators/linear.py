"""Products."""

from __future__ import annotations

import onnx_ir as ir
import torch

from export.sources.operators.table import Tensor, attribute, operator


@operator("Gemm")
def _gemm(node: ir.Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    a, b = (a.T if attribute(node, "transA", 0) else a), (b.T if attribute(node, "transB", 0) else b)
    y: Tensor = attribute(node, "alpha", 1.0) * (a @ b)
    return y if c is None else y + attribute(node, "beta", 1.0) * c


@operator("Einsum")
def _einsum(node: ir.Node, *x: Tensor) -> Tensor:
    return torch.einsum(attribute(node, "equation", ""), *x)
