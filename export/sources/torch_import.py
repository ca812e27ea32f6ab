"""Run an ONNX graph with PyTorch, so that autograd can differentiate it: an oracle for the gradients we compile.

It shares nothing with the vjp rules: every operator is PyTorch's own function, and PyTorch takes the derivative.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx.reference import ReferenceEvaluator
from torch.nn import functional as F

from export.errors import ModelError

Tensor = torch.Tensor
Operator = Callable[..., Any]
"""``(node, *inputs)`` -> a tensor, or a tuple for several outputs; a missing input is None."""

_OPERATORS: dict[str, Operator] = {}


def weights_of(model: ir.Model) -> dict[str, Tensor]:
    """Every initializer as a tensor of its own, by name."""
    weights = {}
    for name, value in model.graph.initializers.items():
        assert value.const_value is not None
        weights[name] = torch.from_numpy(np.array(value.const_value.numpy()))
    return weights


def run_torch(
    model: ir.Model, feeds: Mapping[str, Tensor], weights: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """Evaluate every node in order.

    Args:
        model: static shapes; standard domain, opset 13 or later.
        feeds: graph input name -> tensor; those that require gradients get them.
        weights: what :func:`weights_of` gave, for a model that is run again and again.

    Returns:
        Every tensor of the graph by name.

    Raises:
        ModelError: an operator that is not known here.
    """
    values = dict(weights if weights is not None else weights_of(model)) | dict(feeds)
    for node in model.graph:
        operator = _OPERATORS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        if operator is None:
            raise ModelError(f"PyTorch is not asked about {node.op_type} (node {node.name!r})")
        made = operator(node, *(None if v is None else values[str(v.name)] for v in node.inputs))
        for value, tensor in zip(node.outputs, made if isinstance(made, tuple | list) else [made], strict=False):
            values[str(value.name)] = tensor
    return values


def autograd_of(
    model: ir.Model, of: str, wrt: str, feeds: Mapping[str, np.ndarray], cotangent: np.ndarray
) -> np.ndarray:
    """``cotangent^T d(of)/d(wrt)`` by PyTorch's autograd.

    Args:
        model: see :func:`run_torch`.
        of: any tensor.
        wrt: a graph input.
        feeds: graph inputs.
        cotangent: of the shape of ``of``.
    """
    tensors = {name: torch.from_numpy(array) for name, array in feeds.items()}
    tensors[wrt].requires_grad_()
    value = run_torch(model, tensors)[of]
    (gradient,) = torch.autograd.grad((value * torch.from_numpy(cotangent)).sum(), tensors[wrt])
    array: np.ndarray = gradient.numpy()
    return array


def _operator(*names: str) -> Callable[[Operator], Operator]:
    def register(function: Operator) -> Operator:
        _OPERATORS.update(dict.fromkeys(names, function))
        return function

    return register


def _get(node: ir.Node, name: str, default: Any) -> Any:
    if name not in node.attributes:
        return default
    value = node.attributes[name].value
    return list(value) if isinstance(value, tuple | list) else value


def _ints(tensor: Tensor | None) -> list[int] | None:
    return None if tensor is None else [int(v) for v in tensor.detach().numpy().ravel()]


def _number(tensor: Tensor) -> float:
    """A constant's value; through NumPy, which a tracer does not take for a computation."""
    return float(tensor.detach().numpy().item())


def _plain(**functions: Callable[..., Any]) -> None:
    for name, function in functions.items():
        _OPERATORS[name] = lambda node, *x, f=function: f(*x)


_plain(
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
    Expand=lambda x, shape: x.expand(np.broadcast_shapes(x.shape, _ints(shape) or ())),
    Sum=lambda *x: sum(x[1:], x[0]), Mean=lambda *x: sum(x[1:], x[0]) / len(x),
)  # fmt: skip


@_operator("Div")
def _div(node: ir.Node, a: Tensor, b: Tensor) -> Tensor:
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


@_operator("Max", "Min")
def _extreme(node: ir.Node, *x: Tensor) -> Tensor:
    out = x[0]
    for other in x[1:]:
        out = torch.maximum(out, other) if node.op_type == "Max" else torch.minimum(out, other)
    return out


@_operator("Mod")
def _mod(node: ir.Node, a: Tensor, b: Tensor) -> Tensor:
    return torch.fmod(a, b) if _get(node, "fmod", 0) else torch.remainder(a, b)


@_operator("Clip")
def _clip(node: ir.Node, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    bounds = [None if b is None else _number(b) for b in (low, high)]
    if bounds == [None, None]:
        return x
    return F.hardtanh(x, *bounds) if None not in bounds else x.clamp(*bounds)  # type: ignore[arg-type]  # ReLU6 at its kinks


@_operator("LeakyRelu")
def _leaky_relu(node: ir.Node, x: Tensor) -> Tensor:
    return F.leaky_relu(x, _get(node, "alpha", 0.01))


@_operator("Elu")
def _elu(node: ir.Node, x: Tensor) -> Tensor:
    return F.elu(x, _get(node, "alpha", 1.0))


@_operator("Selu")
def _selu(node: ir.Node, x: Tensor) -> Tensor:
    alpha, gamma = _get(node, "alpha", 1.6732631921768188), _get(node, "gamma", 1.0507010221481323)
    y: Tensor = gamma * F.elu(x, alpha)
    return y


@_operator("Celu")
def _celu(node: ir.Node, x: Tensor) -> Tensor:
    return F.celu(x, _get(node, "alpha", 1.0))


@_operator("Swish")
def _swish(node: ir.Node, x: Tensor) -> Tensor:
    return x * torch.sigmoid(_get(node, "alpha", 1.0) * x)


@_operator("HardSigmoid")
def _hard_sigmoid(node: ir.Node, x: Tensor) -> Tensor:
    return F.hardtanh(_get(node, "alpha", 0.2) * x + _get(node, "beta", 0.5), 0.0, 1.0)


@_operator("Gelu")
def _gelu(node: ir.Node, x: Tensor) -> Tensor:
    return F.gelu(x, approximate=_get(node, "approximate", "none"))


@_operator("Cast")
def _cast(node: ir.Node, x: Tensor) -> Tensor:
    kinds = {1: torch.float32, 6: torch.int32, 7: torch.int64, 9: torch.bool, 11: torch.float64}
    return x.to(kinds[_get(node, "to", 1)])


def _padded(node: ir.Node, x: Tensor, kernel: list[int], fill: float) -> tuple[Tensor, list[int]]:
    """x padded as the node says, and how many were added at the ends of each axis."""
    n = len(kernel)
    pads = _get(node, "pads", [0] * (2 * n))
    auto = _get(node, "auto_pad", "NOTSET")
    if auto.startswith("SAME"):
        strides, dilations = _get(node, "strides", [1] * n), _get(node, "dilations", [1] * n)
        pads = [0] * (2 * n)
        for i, (size, k, s, d) in enumerate(zip(x.shape[2:], kernel, strides, dilations, strict=True)):
            total = max(0, (-(-size // s) - 1) * s + (k - 1) * d + 1 - size)
            pads[i], pads[n + i] = (total // 2, total - total // 2)[:: 1 if auto == "SAME_UPPER" else -1]
    amounts = [a for i in reversed(range(n)) for a in (pads[i], pads[n + i])]
    return F.pad(x, amounts, value=fill), pads


@_operator("Conv")
def _conv(node: ir.Node, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    n = w.ndim - 2
    x, _ = _padded(node, x, list(w.shape[2:]), 0.0)
    convolve = (F.conv1d, F.conv2d, F.conv3d)[n - 1]
    strides, dilations = _get(node, "strides", [1] * n), _get(node, "dilations", [1] * n)
    return convolve(x, w, b, strides, 0, dilations, _get(node, "group", 1))


@_operator("ConvTranspose")
def _conv_transpose(node: ir.Node, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    n = w.ndim - 2
    pads, extra = _get(node, "pads", [0] * (2 * n)), _get(node, "output_padding", [0] * n)
    convolve = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[n - 1]
    y = convolve(
        x, w, None, _get(node, "strides", [1] * n), 0, 0, _get(node, "group", 1), _get(node, "dilations", [1] * n)
    )
    amounts = [a for i in reversed(range(n)) for a in (-pads[i], extra[i] - pads[n + i])]
    y = F.pad(y, amounts)
    return y if b is None else y + b.reshape(-1, *[1] * n)


@_operator("MaxPool", "AveragePool")
def _pool(node: ir.Node, x: Tensor) -> Tensor:
    kernel = _get(node, "kernel_shape", [])
    n = len(kernel)
    strides, ceil = _get(node, "strides", [1] * n), bool(_get(node, "ceil_mode", 0))
    largest = node.op_type == "MaxPool"
    padded, _ = _padded(node, x, kernel, -float("inf") if largest else 0.0)
    sizes = padded.shape[2:]
    dilations = _get(node, "dilations", [1] * n)
    beyond = []
    for size, k, s, d in zip(sizes, kernel, strides, dilations, strict=True):
        reach = (k - 1) * d + 1
        steps = -(-(size - reach) // s) if ceil else (size - reach) // s
        beyond.append(max(0, steps * s + reach - size))
    amounts = [a for extra in reversed(beyond) for a in (0, extra)]
    wide = F.pad(padded, amounts, value=-float("inf") if largest else 0.0)
    if largest:
        return (F.max_pool1d, F.max_pool2d, F.max_pool3d)[n - 1](wide, kernel, strides, 0, dilations)
    average = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[n - 1]
    ones = torch.ones_like(padded[:1, :1]) if _get(node, "count_include_pad", 0) else None
    if ones is None:
        ones, _ = _padded(node, torch.ones_like(x[:1, :1]), kernel, 0.0)
    return average(wide, kernel, strides) / average(F.pad(ones, amounts), kernel, strides)


@_operator("BatchNormalization")
def _batch_norm(node: ir.Node, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    # not F.batch_norm: for one image and a transposed gradient, PyTorch 2.14's derivative of it is wrong on the CPU
    scale, bias, mean, var = (v.reshape(-1, *[1] * (x.ndim - 2)) for v in (scale, bias, mean, var))
    return (x - mean) / torch.sqrt(var + _get(node, "epsilon", 1e-5)) * scale + bias


@_operator("LayerNormalization")
def _layer_norm(node: ir.Node, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    axis = _get(node, "axis", -1) % x.ndim
    y = F.layer_norm(x, x.shape[axis:], eps=_get(node, "epsilon", 1e-5)) * scale
    return y if bias is None else y + bias


@_operator("InstanceNormalization")
def _instance_norm(node: ir.Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return F.instance_norm(x, weight=scale, bias=bias, eps=_get(node, "epsilon", 1e-5))


@_operator("GroupNormalization")
def _group_norm(node: ir.Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return F.group_norm(x, _get(node, "num_groups", 1), scale, bias, _get(node, "epsilon", 1e-5))


@_operator("LRN")
def _lrn(node: ir.Node, x: Tensor) -> Tensor:
    size, alpha, beta, bias = (
        _get(node, n, d) for n, d in (("size", 1), ("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0))
    )
    before = (size - 1) // 2
    squares = F.pad(x.square().unsqueeze(1), (0, 0, 0, 0, before, size - 1 - before))
    y: Tensor = x / (bias + alpha * F.avg_pool3d(squares, (size, 1, 1), 1).squeeze(1)) ** beta
    return y


@_operator("LpNormalization")
def _lp_norm(node: ir.Node, x: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x, _get(node, "p", 2), _get(node, "axis", -1), keepdim=True)
    made: Tensor = x / norm
    return made


@_operator("Softmax", "LogSoftmax")
def _softmax(node: ir.Node, x: Tensor) -> Tensor:
    function = F.softmax if node.op_type == "Softmax" else F.log_softmax
    made: Tensor = function(x, dim=_get(node, "axis", -1))
    return made


@_operator("Gemm")
def _gemm(node: ir.Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    a, b = (a.T if _get(node, "transA", 0) else a), (b.T if _get(node, "transB", 0) else b)
    y: Tensor = _get(node, "alpha", 1.0) * (a @ b)
    return y if c is None else y + _get(node, "beta", 1.0) * c


@_operator("Einsum")
def _einsum(node: ir.Node, *x: Tensor) -> Tensor:
    return torch.einsum(_get(node, "equation", ""), *x)


@_operator("Reshape")
def _reshape(node: ir.Node, x: Tensor, shape: Tensor) -> Tensor:
    target = _ints(shape) or []
    kept = [x.shape[i] if n == 0 and not _get(node, "allowzero", 0) else n for i, n in enumerate(target)]
    return x.reshape(kept)


@_operator("Flatten")
def _flatten(node: ir.Node, x: Tensor) -> Tensor:
    axis = _get(node, "axis", 1)
    return x.reshape(int(np.prod(x.shape[:axis])), -1)


@_operator("Squeeze")
def _squeeze(node: ir.Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(tuple(_ints(axes) or ()))


@_operator("Unsqueeze")
def _unsqueeze(node: ir.Node, x: Tensor, axes: Tensor) -> Tensor:
    given = _ints(axes) or []
    for axis in sorted(a % (x.ndim + len(given)) for a in given):
        x = x.unsqueeze(axis)
    return x


@_operator("Transpose")
def _transpose(node: ir.Node, x: Tensor) -> Tensor:
    return x.permute(_get(node, "perm", list(range(x.ndim))[::-1]))


@_operator("Concat")
def _concat(node: ir.Node, *x: Tensor) -> Tensor:
    return torch.cat(x, dim=_get(node, "axis", 0))


@_operator("Split")
def _split(node: ir.Node, x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
    axis = _get(node, "axis", 0)
    if sizes is not None:
        return torch.split(x, _ints(sizes) or [], dim=axis)
    return torch.split(x, -(-x.shape[axis] // len(node.outputs)), dim=axis)


@_operator("Slice")
def _slice(
    node: ir.Node, x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None
) -> Tensor:
    begin, end = _ints(starts) or [], _ints(ends) or []
    for i, axis in enumerate(_ints(axes) or range(len(begin))):
        step = (_ints(steps) or [1] * len(begin))[i]
        # Python's own slices read the bounds as ONNX does, but for "before the first" with a negative step
        stop = None if step < 0 and end[i] < -x.shape[axis] else end[i]
        places = range(x.shape[axis])[begin[i] : stop : step]
        x = x.index_select(axis % x.ndim, torch.tensor(list(places), dtype=torch.int64))
    return x


@_operator("Pad")
def _pad(node: ir.Node, x: Tensor, pads: Tensor, fill: Tensor | None = None, axes: Tensor | None = None) -> Tensor:
    amounts, chosen = _ints(pads) or [], _ints(axes) or list(range(x.ndim))
    mode = _get(node, "mode", "constant")
    for i, axis in enumerate(chosen):
        before, after = amounts[i], amounts[len(chosen) + i]
        if mode == "constant":
            widths = [0, 0] * (x.ndim - 1 - axis % x.ndim) + [before, after]
            x = F.pad(x, widths, value=0.0 if fill is None else _number(fill))
        elif before or after:
            source = np.pad(np.arange(x.shape[axis]), (before, after), mode=mode)
            x = x.index_select(axis % x.ndim, torch.from_numpy(source))
    return x


@_operator("Gather")
def _gather(node: ir.Node, x: Tensor, indices: Tensor) -> Tensor:
    axis = _get(node, "axis", 0) % x.ndim
    taken = x.index_select(axis, indices.reshape(-1).long() % x.shape[axis])
    return taken.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


@_operator("GatherElements")
def _gather_elements(node: ir.Node, x: Tensor, indices: Tensor) -> Tensor:
    axis = _get(node, "axis", 0)
    return torch.gather(x, axis, indices.long() % x.shape[axis])


@_operator("GatherND")
def _gather_nd(node: ir.Node, x: Tensor, indices: Tensor) -> Tensor:
    if _get(node, "batch_dims", 0):
        raise ModelError("PyTorch is not asked about GatherND with batch axes")
    return x[tuple(indices.long().unbind(-1))]


@_operator("Tile")
def _tile(node: ir.Node, x: Tensor, repeats: Tensor) -> Tensor:
    return x.repeat(_ints(repeats) or [])


@_operator("DepthToSpace")
def _depth_to_space(node: ir.Node, x: Tensor) -> Tensor:
    (n, c, h, w), b = x.shape, _get(node, "blocksize", 1)
    if _get(node, "mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, b)
    return x.reshape(n, b, b, c // b**2, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c // b**2, h * b, w * b)


@_operator("SpaceToDepth")
def _space_to_depth(node: ir.Node, x: Tensor) -> Tensor:
    (n, c, h, w), b = x.shape, _get(node, "blocksize", 1)
    if _get(node, "mode", "DCR") == "CRD":
        return F.pixel_unshuffle(x, b)
    return x.reshape(n, c, h // b, b, w // b, b).permute(0, 3, 5, 1, 2, 4).reshape(n, c * b**2, h // b, w // b)


def _reduce(**functions: Callable[[Tensor, tuple[int, ...], bool], Tensor]) -> None:
    def apply(node: ir.Node, x: Tensor, axes: Tensor | None, function: Any) -> Tensor:
        given = _ints(axes) if axes is not None else _get(node, "axes", None)
        if not given and _get(node, "noop_with_empty_axes", 0):
            return x
        made: Tensor = function(x, tuple(given or range(x.ndim)), bool(_get(node, "keepdims", 1)))
        return made

    for name, function in functions.items():
        _OPERATORS[name] = lambda node, x, axes=None, f=function: apply(node, x, axes, f)


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


@_operator("CumSum")
def _cum_sum(node: ir.Node, x: Tensor, axis: Tensor) -> Tensor:
    along = int(axis)
    if _get(node, "reverse", 0):
        x = x.flip(along)
    y = x.cumsum(along)
    if _get(node, "exclusive", 0):
        y = y - x
    return y.flip(along) if _get(node, "reverse", 0) else y


@_operator("TopK")
def _top_k(node: ir.Node, x: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    values, indices = x.topk(int(k), _get(node, "axis", -1), bool(_get(node, "largest", 1)))
    return values, indices


@_operator("ScatterND")
def _scatter_nd(node: ir.Node, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    reduction = _get(node, "reduction", "none")
    if reduction not in ("none", "add"):
        raise ModelError(f"PyTorch is not asked about ScatterND with the reduction {reduction!r}")
    return x.index_put(tuple(indices.long().unbind(-1)), updates, accumulate=reduction == "add")


@_operator("Trilu")
def _trilu(node: ir.Node, x: Tensor, k: Tensor | None = None) -> Tensor:
    return (torch.triu if _get(node, "upper", 1) else torch.tril)(x, 0 if k is None else int(k))


@_operator("Resize")
def _resize(
    node: ir.Node, x: Tensor, roi: Tensor | None = None, scales: Tensor | None = None, sizes: Tensor | None = None
) -> Tensor:
    """Separable and linear: one matrix per axis, the action of ONNX's reference on unit vectors."""
    axes = _get(node, "axes", list(range(x.ndim)))
    for i, axis in enumerate(axes):
        size = x.shape[axis]
        attributes = {n: _get(node, n, None) for n in node.attributes if n not in ("axes", "keep_aspect_ratio_policy")}
        if sizes is not None:
            names, target = ["x", "", "", "t"], np.asarray([size, sizes.detach().numpy()[i]], np.int64)
        else:
            assert scales is not None
            names, target = ["x", "", "t"], np.asarray([1, scales.detach().numpy()[i]], np.float32)
        if (sizes is not None and target[1] == size) or (sizes is None and target[1] == 1):
            continue
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node("Resize", names, ["y"], **attributes)],
            "resize",
            [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.DOUBLE, [size, size])],
            [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.DOUBLE, None)],
            [onnx.numpy_helper.from_array(target, "t")],
        )
        proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 19)])
        outputs: Any = ReferenceEvaluator(proto).run(None, {"x": np.eye(size)})
        matrix = torch.from_numpy(np.asarray(outputs[0])).to(x.dtype)  # (in, out)
        x = torch.tensordot(x, matrix, ([axis % x.ndim], [0])).movedim(-1, axis % x.ndim)
    return x
