"""Element by element."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import torch
from torch.nn import functional as F

from export.sources.operators.table import Tensor, attribute, integers, number, operator, plain

plain(
    Add=torch.add, Sub=torch.sub, Mul=torch.mul, Pow=torch.pow, Sqrt=torch.sqrt, Exp=torch.exp, Log=torch.log,
    Erf=torch.erf, Sigmoid=torch.sigmoid, Tanh=torch.tanh, Relu=torch.relu, Abs=torch.abs, Neg=torch.neg,
    Sin=torch.sin, Cos=torch.cos, Floor=torch.floor, Ceil=torch.ceil, Round=torch.round, Sign=torch.sign,
    Reciprocal=torch.reciprocal, Softplus=F.softplus, Mish=F.mish, Softsign=F.softsign, Where=torch.where,
    Equal=torch.eq, Less=torch.lt, LessOrEqual=torch.le, Greater=torch.gt, GreaterOrEqual=torch.ge,
    Not=torch.logical_not, And=torch.logical_and, Or=torch.logical_or, Xor=torch.logical_xor, MatMul=torch.matmul,
    HardSwish=F.hardswish,
    Identity=lambda x: x, Dropout=lambda x, *_: x, PRelu=lambda x, a: torch.where(x > 0, x, a * x),
    GlobalAveragePool=lambda x: x.mean(dim=tuple(range(2, x.ndim)), keepdim=True),
    GlobalMaxPool=lambda x: x.amax(dim=tuple(range(2, x.ndim)), keepdim=True),
    Shape=lambda x: torch.tensor(x.shape),
    Expand=lambda x, shape: x.expand(np.broadcast_shapes(x.shape, integers(shape) or ())),
    Sum=lambda *x: sum(x[1:], x[0]), Mean=lambda *x: sum(x[1:], x[0]) / len(x),
)  # fmt: skip


@operator("Div")
def _div(node: ir.Node, a: Tensor, b: Tensor) -> Tensor:
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


@operator("Max", "Min")
def _extreme(node: ir.Node, *x: Tensor) -> Tensor:
    out = x[0]
    for other in x[1:]:
        out = torch.maximum(out, other) if node.op_type == "Max" else torch.minimum(out, other)
    return out


@operator("Mod")
def _mod(node: ir.Node, a: Tensor, b: Tensor) -> Tensor:
    return torch.fmod(a, b) if attribute(node, "fmod", 0) else torch.remainder(a, b)


@operator("Clip")
def _clip(node: ir.Node, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    bounds = [None if b is None else number(b) for b in (low, high)]
    if bounds == [None, None]:
        return x
    return F.hardtanh(x, *bounds) if None not in bounds else x.clamp(*bounds)  # type: ignore[arg-type]  # ReLU6 at its kinks


@operator("LeakyRelu")
def _leaky_relu(node: ir.Node, x: Tensor) -> Tensor:
    return F.leaky_relu(x, attribute(node, "alpha", 0.01))


@operator("Elu")
def _elu(node: ir.Node, x: Tensor) -> Tensor:
    return F.elu(x, attribute(node, "alpha", 1.0))


@operator("Selu")
def _selu(node: ir.Node, x: Tensor) -> Tensor:
    alpha, gamma = attribute(node, "alpha", 1.6732631921768188), attribute(node, "gamma", 1.0507010221481323)
    y: Tensor = gamma * F.elu(x, alpha)
    return y


@operator("Celu")
def _celu(node: ir.Node, x: Tensor) -> Tensor:
    return F.celu(x, attribute(node, "alpha", 1.0))


@operator("Swish")
def _swish(node: ir.Node, x: Tensor) -> Tensor:
    return x * torch.sigmoid(attribute(node, "alpha", 1.0) * x)


@operator("HardSigmoid")
def _hard_sigmoid(node: ir.Node, x: Tensor) -> Tensor:
    return F.hardtanh(attribute(node, "alpha", 0.2) * x + attribute(node, "beta", 0.5), 0.0, 1.0)


@operator("Gelu")
def _gelu(node: ir.Node, x: Tensor) -> Tensor:
    return F.gelu(x, approximate=attribute(node, "approximate", "none"))


@operator("Cast")
def _cast(node: ir.Node, x: Tensor) -> Tensor:
    kinds = {1: torch.float32, 6: torch.int32, 7: torch.int64, 9: torch.bool, 11: torch.float64}
    return x.to(kinds[attribute(node, "to", 1)])
