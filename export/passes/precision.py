"""Precision as Cast nodes: which tensors of a graph are fp16 or bf16, decided here and nowhere else.

TensorRT 11 types every tensor as the graph does, so a step graph in fp16 is a graph with fp16 tensors. The rule is
structural, without names: matrix products are lowered, and what lies between two of them, except for operators that
sum, divide or exponentiate. So the update, the selection of the unit and the view stay in fp32.

The ascent does not depend on the scale of the gradient, so the scale is free. At the checkpoints that the compiler has
noted (the cotangents of the layer and of the image) each slot's cotangent is brought to a largest absolute value of
``PEAK``: whatever the layer, the gradient begins where fp16 is at home. The output ``gradient`` is scaled back.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from export.errors import ModelError
from export.passes.checked import check
from export.passes.constants import constant_of
from export.passes.shapes import shape_of
from export.serialise import parse, serialise
from export.vjp.emit import Emitter

PRECISIONS = ("fp32", "fp16", "bf16")
CHECKPOINTS_KEY = "neuron_atlas.checkpoints"
"""Metadata of a step graph: names of the cotangents that all of the gradient passes, from the layer to the code."""

PEAK = 16.0
"""Largest absolute value of a slot's cotangent behind a checkpoint: a factor 4000 below fp16's largest number, and a
factor 260,000 above its smallest normal one."""
TINY = 1e-30

_KINDS = {"fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}
_LARGEST = {"fp16": 65504.0, "bf16": 3.3895e38}
_SMALLEST = {"fp16": 2.0**-24, "bf16": 2.0**-126}
_PRODUCTS = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm", "Einsum"})
_FULL_NAMES = """
ReduceSum ReduceMean ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum ReduceLogSumExp CumSum Mean
GlobalAveragePool LpPool GlobalLpPool Softmax LogSoftmax LayerNormalization InstanceNormalization
GroupNormalization BatchNormalization MeanVarianceNormalization LpNormalization LRN
Exp Log Pow Sqrt Reciprocal Div Softplus Mish Sinh Cosh Tan
"""
_FULL = frozenset(_FULL_NAMES.split())
"""Operators that stay in fp32: they add many numbers, or small differences of their input become large."""
_LIMITS = frozenset({"Pad", "Clip", "Max", "Min", "Where"})
"""Operators whose constants are bounds and fillings: one beyond the range may be the largest number instead."""
_APART = {"Resize": (1, 2)}
"""Inputs that the standard types on their own."""


def set_precision(model: ir.Model, precision: str) -> int:
    """Lower the matrix products and what lies between them.

    Requires: fp32, shapes and dtypes known, constants folded, no subgraphs.
    Ensures: inputs and outputs keep their names, shapes and dtypes; every change of dtype is a Cast node.

    Args:
        model: changed in place.
        precision: ``fp32`` (changes nothing), ``fp16`` or ``bf16``.

    Returns:
        How many nodes were lowered.

    Raises:
        ModelError: an unknown precision.
    """
    if precision not in PRECISIONS:
        raise ModelError(f"there is no precision {precision!r}; choose one of: {', '.join(PRECISIONS)}")
    if precision == "fp32":
        return 0
    own = set(_rescale(model))
    low = _lowered(model.graph, precision) - own
    _Casts(model.graph, precision).apply(low)
    RemoveUnusedNodesPass()(model)  # the weights in fp32
    check(model)
    return len(low)


def step_in(step: bytes, precision: str) -> bytes:
    """A serialised step graph in another precision; see :func:`set_precision`.

    Raises:
        ModelError: it is no ONNX model, or an unknown precision.
    """
    if precision == "fp32":
        return step
    model = parse(step, "the step graph")
    set_precision(model, precision)
    return serialise(model)


def _lowered(graph: ir.Graph, precision: str) -> set[ir.Node]:
    nodes = list(graph)
    after: set[ir.Node] = set()  # those that a product leads to
    for node in nodes:
        producers = [v.producer() for v in node.inputs if v is not None]
        if any(p is not None and (p in after or p.op_type in _PRODUCTS) for p in producers):
            after.add(node)
    before: set[ir.Node] = set()  # those that lead to a product
    for node in reversed(nodes):
        consumers = [use.node for v in node.outputs for use in v.uses()]
        if any(c in before or c.op_type in _PRODUCTS for c in consumers):
            before.add(node)
    return {
        node
        for node in nodes
        if node.op_type in _PRODUCTS or (node in after and node in before and node.op_type not in _FULL)
        if _fits(node, precision)
    }


def _fits(node: ir.Node, precision: str) -> bool:
    """Whether the node's floats may be lowered: there are some, none is squared, and its constants have a place."""
    floats = [value for _, value in _floats(node)]
    if not floats:
        return node.op_type == "Cast" and node.outputs[0].dtype == ir.DataType.FLOAT
    if node.op_type == "Mul" and len(set(floats)) == 1:
        return False
    if node.op_type == "ConvTranspose" and precision == "bf16":  # TensorRT for RTX 1.7 does not build it
        return False
    for array in (constant_of(value) for value in floats):
        if array is None:
            continue
        size = np.abs(array[np.isfinite(array)])
        if size.size and size.max() > _LARGEST[precision] and node.op_type not in _LIMITS:
            return False
        if size.size and 0 < size.max() < _SMALLEST[precision]:
            return False
    return True


def _floats(node: ir.Node) -> Iterator[tuple[int, ir.Value]]:
    apart = _APART.get(node.op_type, ())
    for index, value in enumerate(node.inputs):
        if value is not None and value.dtype == ir.DataType.FLOAT and index not in apart:
            yield index, value


class _Casts:
    """Changes dtypes and puts Casts where they meet; each tensor is cast at most once each way."""

    def __init__(self, graph: ir.Graph, precision: str) -> None:
        self._graph = graph
        self._kind, self._precision = _KINDS[precision], precision
        self._made: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}

    def apply(self, low: set[ir.Node]) -> None:
        nodes = list(self._graph)
        inputs = {node: list(_floats(node)) for node in nodes}
        changed: set[ir.Value] = set()
        for node in nodes:
            for index, value in inputs[node]:
                if node in low and value not in changed:
                    node.replace_input_with(index, self._cast(value, self._kind, node))
                elif node not in low and value in changed:
                    node.replace_input_with(index, self._cast(value, ir.DataType.FLOAT, node))
            if node in low:
                changed.update(self._lower(node))
        for value in changed:
            if value.is_graph_output():
                self._keep_output(value)

    def _lower(self, node: ir.Node) -> list[ir.Value]:
        if node.op_type == "Cast":
            node.attributes["to"] = ir.AttrInt64("to", int(self._kind))
        outputs = [value for value in node.outputs if value.dtype == ir.DataType.FLOAT]
        for value in outputs:
            value.type = ir.TensorType(self._kind)
        return outputs

    def _cast(self, value: ir.Value, kind: ir.DataType, before: ir.Node) -> ir.Value:
        if (value, kind) not in self._made:
            array = constant_of(value)
            name = f"{value.name}/{kind.name.lower()}"
            if array is not None:
                limit = _LARGEST[self._precision]
                bounded = np.where(np.isfinite(array), np.clip(array, -limit, limit), array)
                made = ir.Value(name=name, const_value=ir.tensor(bounded.astype(kind.numpy()), name=name))
                made.shape, made.dtype = value.shape, kind
                self._graph.register_initializer(made)
            else:
                cast = ir.node("Cast", [value], attributes={"to": int(kind)}, name=f"{name}/cast")
                made = cast.outputs[0]
                made.name, made.shape, made.dtype = name, value.shape, kind
                self._graph.insert_before(before, cast)
            self._made[value, kind] = made
        return self._made[value, kind]

    def _keep_output(self, value: ir.Value) -> None:
        name, producer = value.name, value.producer()
        assert producer is not None
        value.name = f"{name}/{self._precision}"
        cast = ir.node("Cast", [value], attributes={"to": int(ir.DataType.FLOAT)}, name=f"{name}/cast")
        out = cast.outputs[0]
        out.name, out.shape, out.dtype = name, value.shape, ir.DataType.FLOAT
        self._graph.insert_after(producer, cast)
        self._graph.outputs[self._graph.outputs.index(value)] = out


def _rescale(model: ir.Model) -> list[ir.Node]:
    """``g <- g PEAK / max|g|`` per slot at every checkpoint, and the output ``gradient`` divided by the factors.

    Returns:
        The new nodes; factors are far outside fp16's range.
    """
    before = set(model.graph)
    graph = model.graph
    names = json.loads(model.metadata_props.get(CHECKPOINTS_KEY, "[]"))
    values = {v.name: v for node in graph for v in node.outputs}
    factors = []
    for name in names:
        cotangent = values.get(name)
        if cotangent is None:  # folded away: it does not depend on the code, and its scale is known to be 1
            continue
        uses = list(cotangent.uses())
        first, e = _collector(graph, "rescale")
        axes = range(1, len(shape_of(cotangent)))
        size = e.op("ReduceMax", e.op("Abs", cotangent), e.ints(*axes), keepdims=1) if axes else e.op("Abs", cotangent)
        factor = e.op("Div", e.const(np.float32(PEAK)), e.op("Max", size, e.const(np.float32(TINY))))
        scaled = e.op("Mul", cotangent, factor)
        for use in uses:
            use.node.replace_input_with(use.idx, scaled)
        _move(graph, first, cotangent)
        factors.append(factor)
    output = next((v for v in graph.outputs if v.name == "gradient"), None)
    if output is None or not factors:
        return [node for node in graph if node not in before]
    _, e = _collector(graph, "rescale")
    index = graph.outputs.index(output)
    output.name = "gradient/scaled"
    value = output
    for factor in factors:
        value = e.op("Div", value, e.op("Reshape", factor, e.ints(*shape_of(output))))
    value.name = "gradient"
    graph.outputs[index] = value
    return [node for node in graph if node not in before]


def _collector(graph: ir.Graph, prefix: str) -> tuple[int, Emitter]:
    return len(list(graph)), Emitter(graph, prefix)


def _move(graph: ir.Graph, first: int, behind: ir.Value) -> None:
    """Move the nodes from number ``first`` on to behind the producer of ``behind``."""
    nodes = list(graph)[first:]
    producer = behind.producer()
    assert producer is not None
    graph.remove(nodes)
    graph.insert_after(producer, nodes)
