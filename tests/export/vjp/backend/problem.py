"""An official case as an oracle sees it: its types, its inputs as data or constants, what is differentiable."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx.backend.test.case.test_case import TestCase as BackendCase

from export.errors import MissingRuleError, ModelError
from export.passes.constants import fold_constants
from export.passes.shapes import infer_shapes
from export.vjp.walk import FLOATS, OLDEST
from tests.export.vjp.backend.oracles import Arrays, Oracle, Unsuitable
from tests.export.vjp.checking import differentiate

NARROW = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}
REAL = NARROW | {onnx.TensorProto.DOUBLE}
NO_DATA = {("Resize", 1), ("Resize", 2), ("Upsample", 1)}
"""Float inputs that are regions and scales: float32 initializers whatever the rest is."""


def is_float(array: Any) -> bool:
    return isinstance(array, np.ndarray | np.generic) and ir.DataType.from_numpy(array.dtype) in FLOATS


def retyped(graph: onnx.GraphProto, oracle: Oracle) -> None:
    """Make every float the oracle's; declared shapes are dropped, to be inferred from the inputs."""
    del graph.value_info[:]
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.ClearField("shape")
        if oracle.dtype is not None and value.type.tensor_type.elem_type in REAL:
            value.type.tensor_type.elem_type = oracle.element
    for number, node in enumerate(graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                retyped(attribute.g, oracle)
            elif oracle.dtype is not None:
                _retype(attribute, oracle)


def _retype(attribute: onnx.AttributeProto, oracle: Oracle) -> None:
    array: np.ndarray | None = None
    if attribute.name in ("to", "dtype", "stash_type") and attribute.i in REAL:
        attribute.i = oracle.element
    elif attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type in REAL:
        array = onnx.numpy_helper.to_array(attribute.t)
    elif attribute.name == "value_float":
        array = np.asarray(attribute.f)
    elif attribute.name == "value_floats":
        array = np.asarray(attribute.floats)
    if array is not None:
        name = attribute.name if attribute.type == onnx.AttributeProto.TENSOR else "value"
        tensor = onnx.numpy_helper.from_array(array.astype(oracle.dtype))
        attribute.CopyFrom(onnx.helper.make_attribute(name, tensor))


def _raise_opset(proto: onnx.ModelProto) -> None:
    """Declare opset 13 where it means the same."""
    for declared in proto.opset_import:
        if declared.domain == "" and declared.version < OLDEST:
            kinds = {n.op_type for n in proto.graph.node if not n.domain}
            since = [[onnx.defs.get_schema(k, v).since_version for k in kinds] for v in (declared.version, OLDEST)]
            if since[0] == since[1]:
                declared.version = OLDEST


class Problem:
    """A case as an oracle sees it.

    Attributes:
        data: float inputs by name.
        constants: the other inputs.
        wanted: official float outputs.
    """

    def __init__(self, case: BackendCase, oracle: Oracle) -> None:
        self.case, self.oracle = case, oracle
        self._proto = onnx.ModelProto.FromString(case.model.SerializeToString())
        graph = self._proto.graph
        _raise_opset(self._proto)
        retyped(graph, oracle)
        inputs, outputs = case.data_sets[0]
        frozen = {n.input[i] for n in graph.node for op, i in NO_DATA if n.op_type == op and len(n.input) > i}
        self.data: Arrays = {}
        self.constants: Arrays = {}
        for value, given in zip(graph.input, inputs, strict=False):
            array = onnx.numpy_helper.to_array(given) if isinstance(given, onnx.TensorProto) else np.asarray(given)
            if value.name in frozen or not is_float(array):
                self.constants[value.name] = array
            else:
                self.data[value.name] = array if oracle.dtype is None else array.astype(oracle.dtype)
        self._shapes = {v.name: np.shape(a) for v, a in zip(graph.output, outputs, strict=True)}
        self.wanted = {v.name: a for v, a in zip(graph.output, outputs, strict=True) if is_float(a)}
        self._built: ir.Model | None = None

    def hold(self, names: Collection[str]) -> None:
        """Make these inputs initializers."""
        for name in names:
            self.constants[name] = self.data.pop(name)
        self._built = None

    def model(self, of: str | None = None) -> ir.Model:
        """A fresh model with static shapes, what depends on constants alone folded; with one output only."""
        if self._built is None:
            self._built = self._build()
        model = self._built.clone()
        for output in [o for o in model.graph.outputs if of is not None and o.name != of]:
            model.graph.outputs.remove(output)
        return model

    def _build(self) -> ir.Model:
        proto = onnx.ModelProto.FromString(self._proto.SerializeToString())
        kinds = {v.name: v.type.tensor_type.elem_type for v in proto.graph.input}
        del proto.graph.input[:]
        proto.graph.input.extend(
            onnx.helper.make_tensor_value_info(name, kinds[name], array.shape) for name, array in self.data.items()
        )
        proto.graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in self.constants.items())
        for value in proto.graph.output:  # inference leaves some out
            value.type.tensor_type.shape.Clear()
            for size in self._shapes[value.name]:
                value.type.tensor_type.shape.dim.add().dim_value = size
        model = ir.from_proto(proto)
        try:
            infer_shapes(model)
            while fold_constants(model):
                infer_shapes(model)
        except Exception as error:
            raise Unsuitable(f"cannot be built: {error}") from error
        return model

    def gradient(self, names: Sequence[str], of: str) -> ir.Model:
        return differentiate(self.model(of), list(names), of)


@dataclass
class Plan:
    """Inputs by what becomes of the derivative of one output."""

    given: list[str]
    zero: list[str]
    refused: dict[str, str]
    missing: list[str]


def planned(problem: Problem, of: str) -> Plan:
    plan = Plan([], [], {}, [])
    try:
        problem.gradient(list(problem.data), of)
    except ModelError:
        pass
    else:
        plan.given = list(problem.data)
        return plan
    for name in problem.data:
        try:
            problem.gradient([name], of)
        except MissingRuleError:
            plan.missing.append(name)
        except ModelError as error:
            if "does not depend on" in str(error):
                plan.zero.append(name)
            else:
                plan.refused[name] = str(error)
        else:
            plan.given.append(name)
    return plan
