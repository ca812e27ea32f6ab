"""What TensorRT would refuse, found in seconds and without it.

The list was made by building one-operator networks with TensorRT for RTX 1.7; parsing alone is not a check.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from export.passes.constants import constant_of
from export.passes.shapes import static_shape

MAX_RANK = 8

_ALLOWED = """
Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Cast Ceil Celu Clip
Concat Conv ConvTranspose Cos Cosh CumSum DepthToSpace Div Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor
Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual
GroupNormalization HardSigmoid HardSwish Identity InstanceNormalization LRN LayerNormalization LeakyRelu Less
LessOrEqual Log LogSoftmax LpNormalization LpPool MatMul Max MaxPool Mean MeanVarianceNormalization Min Mish Mod
Mul Neg Not OneHot Or PRelu Pad Pow Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax
ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize Round ScatterElements ScatterND
Selu Shape Shrink Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub
Sum Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Where Xor
"""
ALLOWED = frozenset(_ALLOWED.split())


@dataclass(frozen=True)
class Refusal:
    """One node that TensorRT does not build, and why."""

    node: str
    op: str
    reason: str

    def __str__(self) -> str:
        return f"{self.op} {self.node!r}: {self.reason}"


def lint(model: ir.Model) -> list[Refusal]:
    """Every node of the graph that TensorRT would refuse.

    Requires: shapes inferred.
    """
    return [Refusal(str(node.name), node.op_type, reason) for node in model.graph for reason in _reasons(node)]


def _reasons(node: ir.Node) -> Iterator[str]:
    if node.domain not in ("", "ai.onnx"):
        yield f"the domain {node.domain!r} is not standard"
        return
    if node.op_type not in ALLOWED:
        yield "the operator is not on the list of those that build"
        return
    for value in node.outputs:
        shape = static_shape(value)
        if shape is None:
            yield f"the shape of {value.name!r} is not static"
        elif len(shape) > MAX_RANK:
            yield f"rank {len(shape)} is over {MAX_RANK}"
    for index in _CONSTANT.get(node.op_type, ()):
        if len(node.inputs) > index and node.inputs[index] is not None and constant_of(node.inputs[index]) is None:
            yield f"its input {index} is computed at run time"
    special = _SPECIAL.get(node.op_type)
    if special is not None:
        yield from special(node)


_CONSTANT = {
    "Slice": (1, 2, 3, 4),
    "Pad": (1, 3),
    "Reshape": (1,),
    "Expand": (1,),
    "Tile": (1,),
    "Resize": (2, 3),
    "CumSum": (1,),
    "TopK": (1,),
    **{op: (1,) for op in ALLOWED if op.startswith("Reduce")},
}


def _attribute(node: ir.Node, name: str, default: Any) -> Any:
    return node.attributes[name].value if name in node.attributes else default


def _pool(node: ir.Node) -> Iterator[str]:
    if len(node.outputs) > 1 and node.outputs[1].uses():
        yield "the indices of the maximum are used"
    if any(d != 1 for d in _attribute(node, "dilations", ())):
        yield "a dilated pool"


def _conv(node: ir.Node) -> Iterator[str]:
    if any(p < 0 for p in _attribute(node, "pads", ())):
        yield "negative pads"


def _conv_transpose(node: ir.Node) -> Iterator[str]:
    yield from _conv(node)
    if any(s > 1 for s in _attribute(node, "strides", ())) and any(d > 1 for d in _attribute(node, "dilations", ())):
        yield "stride and dilation above 1 together parse but do not build"


def _lrn(node: ir.Node) -> Iterator[str]:
    if _attribute(node, "size", 1) % 2 == 0:
        yield "an even size"


def _resize(node: ir.Node) -> Iterator[str]:
    if _attribute(node, "antialias", 0):
        yield "antialias"


def _batchnorm(node: ir.Node) -> Iterator[str]:
    if _attribute(node, "training_mode", 0):
        yield "training mode"


def _scatter(node: ir.Node) -> Iterator[str]:
    if _attribute(node, "reduction", "none") != "none":
        yield "scatter with a reduction"


_SPECIAL: dict[str, Callable[[ir.Node], Iterator[str]]] = {
    "MaxPool": _pool,
    "AveragePool": _pool,
    "LpPool": _pool,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "LRN": _lrn,
    "Resize": _resize,
    "BatchNormalization": _batchnorm,
    "ScatterElements": _scatter,
    "ScatterND": _scatter,
}
