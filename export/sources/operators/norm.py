"""Normalisations."""

from __future__ import annotations

import onnx_ir as ir
import torch
from torch.nn import functional as F

from export.sources.operators.table import Tensor, attribute, operator


@operator("BatchNormalization")
def _batch_norm(node: ir.Node, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    # not F.batch_norm: for one image and a transposed gradient, PyTorch 2.14's derivative of it is wrong on the CPU
    scale, bias, mean, var = (v.reshape(-1, *[1] * (x.ndim - 2)) for v in (scale, bias, mean, var))
    return (x - mean) / torch.sqrt(var + attribute(node, "epsilon", 1e-5)) * scale + bias


@operator("LayerNormalization")
def _layer_norm(node: ir.Node, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    axis = attribute(node, "axis", -1) % x.ndim
    y = F.layer_norm(x, x.shape[axis:], eps=attribute(node, "epsilon", 1e-5)) * scale
    return y if bias is None else y + bias


@operator("InstanceNormalization")
def _instance_norm(node: ir.Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return F.instance_norm(x, weight=scale, bias=bias, eps=attribute(node, "epsilon", 1e-5))


@operator("GroupNormalization")
def _group_norm(node: ir.Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return F.group_norm(x, attribute(node, "num_groups", 1), scale, bias, attribute(node, "epsilon", 1e-5))


@operator("LRN")
def _lrn(node: ir.Node, x: Tensor) -> Tensor:
    size, alpha, beta, bias = (
        attribute(node, n, d) for n, d in (("size", 1), ("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0))
    )
    before = (size - 1) // 2
    squares = F.pad(x.square().unsqueeze(1), (0, 0, 0, 0, before, size - 1 - before))
    y: Tensor = x / (bias + alpha * F.avg_pool3d(squares, (size, 1, 1), 1).squeeze(1)) ** beta
    return y


@operator("LpNormalization")
def _lp_norm(node: ir.Node, x: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x, attribute(node, "p", 2), attribute(node, "axis", -1), keepdim=True)
    made: Tensor = x / norm
    return made


@operator("Softmax", "LogSoftmax")
def _softmax(node: ir.Node, x: Tensor) -> Tensor:
    function = F.softmax if node.op_type == "Softmax" else F.log_softmax
    made: Tensor = function(x, dim=attribute(node, "axis", -1))
    return made
