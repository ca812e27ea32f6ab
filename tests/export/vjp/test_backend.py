"""ONNX's own node tests, every case that the rules reach, against central differences.

Model and inputs are the official ones. The derivative of every float output with respect to every float input is asked
for, with a random cotangent; integers, conditions and what a rule refuses become initializers. A case is checked, or
skipped for one of the reasons in :class:`Skip`; every refusal that occurs is in ``REFUSED``.

All is computed by the first of ``ORACLES`` that reproduces the official outputs and whose differences agree for two
steps: one that rounds to float32 on the way, or meets a kink within the step, does not judge.
"""

from __future__ import annotations

import functools
import re
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx.backend.test.case.test_case import TestCase as BackendCase
from onnx.backend.test.loader import load_model_tests
from onnx.reference import ReferenceEvaluator

from export.errors import MissingRuleError, ModelError
from export.passes.constants import fold_constants
from export.passes.shapes import infer_shapes, static_shape
from export.vjp.walk import FLOATS, OLDEST
from tests.export.vjp.checking import differentiate

CHECKED = 842
"""At least so many cases are checked with the node tests of onnx 1.23, so that the file cannot shrink unnoticed."""


class Skip(StrEnum):
    WHOLE_NUMBERS = "no floating-point input, or no floating-point output"
    NOT_TENSORS = "sequences, optionals, strings or files"
    EMPTY = "an empty tensor"
    RANDOM = "random numbers"
    OLD = "its opset is older than 13"
    TRAINING = "training mode"
    NO_RULE = "an operator without a rule"
    REFUSED = "its rule refuses it, for a reason in REFUSED"
    NOT_FINITE = "infinite or not a number where it is tested"


def _weights(*indices: int) -> list[str]:
    return [f"the derivative with respect to its input {i} is not supported" for i in indices]


SCATTER = "only constant indices that replace or add are supported"
REFUSED = {
    "BatchNormalization": [*_weights(1, 2, 3, 4), "it is in training mode; export the network in eval mode"],
    "Clip": _weights(1, 2),
    "Conv": _weights(1, 2),
    "ConvTranspose": _weights(1),
    "Dropout": [*_weights(1), "it may be in training mode; export the network in eval mode"],
    "Einsum": ["the equation '...ii->...i' has an ellipsis or repeats an index within one operand"],
    "GroupNormalization": _weights(1, 2),
    "InstanceNormalization": _weights(1, 2),
    "LayerNormalization": [*_weights(1, 2), "its mean or inverse deviation is used"],
    "PRelu": _weights(1),
    "Pad": _weights(2),
    "RMSNormalization": _weights(1),
    "Resize": [
        "its scales with 'align_corners' lead to no whole size, where runtimes disagree; give sizes",
        "the mode 'tf_crop_and_resize' is not supported",
        "only the aspect ratio policy 'stretch' is supported; give the sizes that it leads to",
    ],
    "ScatterElements": [SCATTER],
    "ScatterND": [SCATTER],
}
"""Operator -> what its refusals say; no others occur."""

Arrays = dict[str, np.ndarray]
Run = Callable[[Arrays], Arrays]
NARROW = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}
REAL = NARROW | {onnx.TensorProto.DOUBLE}
NO_DATA = {("Resize", 1), ("Resize", 2), ("Upsample", 1)}
"""Float inputs that are regions and scales: float32 initializers whatever the rest is."""
SLOW = {"AveragePool", "LpPool", "MaxPool", "Conv", "ConvTranspose"}
"""ONNX's reference walks their windows in Python: seconds a case."""


class Unsuitable(Exception):
    """An oracle cannot judge a case."""


def reference(proto: onnx.ModelProto) -> Run:
    evaluator = ReferenceEvaluator(proto)

    def run(feeds: Arrays) -> Arrays:
        outputs: Any = evaluator.run(None, feeds)
        return dict(zip(evaluator.output_names, map(np.asarray, outputs), strict=True))

    return run


def runtime(proto: onnx.ModelProto) -> Run:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return lambda feeds: dict(zip(names, session.run(names, feeds), strict=True))


@dataclass(frozen=True)
class Oracle:
    """A way to run a model.

    Attributes:
        name: for messages.
        load: model -> function from feeds to outputs.
        dtype: what every float is computed in; None leaves the types as they are.
        steps: of the central difference; the first one that suits is taken.
        rtol: of the directional derivative.
        rounding: of a value, relative; the difference may be off by this over the step.
    """

    name: str
    load: Callable[[onnx.ModelProto], Run]
    dtype: type[np.floating[Any]] | None
    steps: tuple[float, ...]
    rtol: float
    rounding: float

    @property
    def element(self) -> int:
        assert self.dtype is not None
        return int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype)))

    def start(self, model: ir.Model) -> Run:
        try:
            run = self.load(ir.to_proto(model))
        except Exception as error:
            raise Unsuitable(f"does not start: {error}") from error

        def guarded(feeds: Arrays) -> Arrays:
            try:
                return run(feeds)
            except Exception as error:
                raise Unsuitable(f"does not run: {error}") from error

        return guarded


RUNTIME64 = Oracle("ONNX Runtime in float64", runtime, np.float64, (1e-6,), 1e-6, 1e-14)
REFERENCE64 = Oracle("reference in float64", reference, np.float64, (1e-6,), 1e-6, 1e-14)
RUNTIME32 = Oracle("ONNX Runtime in float32", runtime, np.float32, (1.0, 1e-2, 3e-3), 1e-3, 3e-7)  # 1: what is linear
ORACLES = (RUNTIME64, REFERENCE64, RUNTIME32)
AS_IT_IS = Oracle("reference in the case's types", reference, None, (1.0,), 2e-2, 2e-2)
"""For Cast alone, where the types are the point; the rounding is bfloat16's."""


@dataclass(frozen=True)
class Outcome:
    skip: Skip | None
    oracle: str = ""
    refusals: frozenset[str] = frozenset()


@functools.cache
def cases() -> dict[str, BackendCase]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # some overflow or divide by 0 on purpose
        return {case.name: case for case in load_model_tests(kind="node")}


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


def reason(message: str) -> str:
    """A refusal without the node's name."""
    return re.sub(r"^cannot differentiate (\w+) node '[^']*'", r"\1", message)


def assert_official(problem: Problem) -> None:
    """The oracle computes what the case says."""
    outputs = problem.oracle.start(problem.model())(problem.data)
    for name, wanted in problem.wanted.items():
        half = wanted.dtype.itemsize < 4
        rtol, atol = (2e-2, 2e-2) if half else (max(problem.case.rtol, 1e-3), max(problem.case.atol, 1e-5))
        try:
            np.testing.assert_allclose(outputs[name].astype(float), wanted.astype(float), rtol=rtol, atol=atol)
        except AssertionError as error:
            raise Unsuitable(f"not the official output: {error}") from error


def judge(case: BackendCase, oracle: Oracle) -> Outcome:
    rng = np.random.default_rng(0)
    problem = Problem(case, oracle)
    if not problem.data or not problem.wanted:
        return Outcome(Skip.WHOLE_NUMBERS)
    if any(a.size == 0 for a in (*problem.data.values(), *problem.wanted.values())):
        return Outcome(Skip.EMPTY)
    if any("Random" in n.op_type or n.op_type in ("Bernoulli", "Multinomial") for n in case.model.graph.node):
        return Outcome(Skip.RANDOM)
    plans = {of: planned(problem, of) for of in problem.wanted}
    refusals = frozenset(reason(why) for plan in plans.values() for why in plan.refused.values())
    todo = {of: plan for of, plan in plans.items() if plan.given or (plan.zero and not plan.missing)}
    if todo:
        assert_official(problem)
        if oracle.dtype is not None:
            # whole numbers sit on ties and kinks; upwards, since 0 may be the end of a domain
            for name, array in problem.data.items():
                problem.data[name] = np.asarray(array + rng.uniform(0.5e-2, 1e-2, array.shape), oracle.dtype)
        finite = [compare(case, oracle, problem, of, plan, rng) for of, plan in todo.items()]
        if any(finite):
            return Outcome(None, oracle.name, refusals)
        return Outcome(Skip.NOT_FINITE)
    if any(plan.missing for plan in plans.values()):
        return Outcome(Skip.NO_RULE)
    if all("convert it to 13" in why for why in refusals):
        return Outcome(Skip.OLD)
    training = any("training mode" in why for why in refusals)
    return Outcome(Skip.TRAINING if training else Skip.REFUSED, "", refusals)


def compare(case: BackendCase, oracle: Oracle, whole: Problem, of: str, plan: Plan, rng: np.random.Generator) -> bool:
    """Compare two directional derivatives; False where the forward computation meets infinities."""
    problem = Problem(case, oracle)
    problem.data = dict(whole.data)
    problem.hold([*plan.refused, *plan.missing])
    forward = problem.model(of)
    run = oracle.start(forward)

    def at(point: Arrays) -> np.ndarray:
        return run(point)[of].astype(float)

    y = at(problem.data)
    if not np.isfinite(y).all():
        return False
    cotangent = rng.normal(size=y.shape)
    gradients: Arrays = {}
    if plan.given:
        model = problem.gradient(plan.given, of)
        declared = next(v for v in model.graph.inputs if v.name == "cotangent")
        assert static_shape(declared) == y.shape
        assert declared.dtype is not None
        seed = np.asarray(cotangent, declared.dtype.numpy())
        cotangent = seed.astype(float)
        gradients = oracle.start(model)(problem.data | {"cotangent": seed})
        if not all(np.isfinite(a.astype(float)).all() for a in gradients.values()) and _has_nan(problem, forward):
            return False
    largest = max(float(np.abs(a.astype(float)).max()) for a in problem.data.values())
    size = float(np.abs(y * cotangent).sum()) + largest + 1
    for _ in range(2):
        direction = {n: rng.normal(size=a.shape).astype(a.dtype) for n, a in problem.data.items()}

        def difference(step: float, direction: Arrays = direction) -> float:
            ahead, behind = (
                at({n: np.asarray(a + side * direction[n], a.dtype) for n, a in problem.data.items()})
                for side in (step, -step)
            )
            return float(((ahead - behind) / (2 * step) * cotangent).sum())

        for step in oracle.steps:
            numeric, atol = difference(step), oracle.rounding / step * size
            if np.isclose(difference(step / 2), numeric, rtol=oracle.rtol, atol=atol):
                break
        else:
            raise Unsuitable("its differences do not agree")
        ours = float(sum((gradients[f"d_{n}"].astype(float) * direction[n].astype(float)).sum() for n in plan.given))
        np.testing.assert_allclose(ours, numeric, rtol=oracle.rtol, atol=atol, err_msg=f"d {of}, {oracle.name}")
    return True


def _has_nan(problem: Problem, forward: ir.Model) -> bool:
    """Whether a value between inputs and output is not a number, as in the softmax of a row that is masked entirely."""
    model = forward.clone()
    inner = [v for n in model.graph for v in n.outputs if v.dtype in FLOATS and v not in model.graph.outputs]
    model.graph.outputs.extend(inner)
    outputs = problem.oracle.start(model)(problem.data)
    return any(np.isnan(a.astype(float)).any() for a in outputs.values() if is_float(a))


@functools.cache
def outcome(name: str) -> Outcome:
    case = cases()[name]
    graph = case.model.graph
    kinds = [v.type for v in (*graph.input, *graph.output)]
    tensors = all(kind.WhichOneof("value") == "tensor_type" for kind in kinds)
    if not tensors or not case.data_sets or any(k.tensor_type.elem_type == onnx.TensorProto.STRING for k in kinds):
        return Outcome(Skip.NOT_TENSORS)
    operators = {n.op_type for n in graph.node}
    oracles: Sequence[Oracle] = ORACLES
    if operators <= {"Cast", "CastLike"}:
        oracles = (AS_IT_IS,)
    elif operators & SLOW:
        oracles = (RUNTIME64, RUNTIME32, REFERENCE64)
    failures = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for oracle in oracles:
            try:
                return judge(case, oracle)
            except Unsuitable as error:
                failures.append(f"{oracle.name}: {error}")
    raise AssertionError("nothing can judge it: " + "; ".join(failures))


@pytest.mark.parametrize("name", cases())
def test_node(name: str) -> None:
    found = outcome(name)
    for refusal in found.refusals:
        op, _, why = refusal.partition(": ")
        assert why in REFUSED.get(op, ()), refusal
    if found.skip is not None:
        pytest.skip(found.skip)


def test_that_most_are_checked() -> None:
    if tuple(map(int, onnx.__version__.split(".")[:2])) < (1, 23):
        pytest.skip("counted with the node tests of onnx 1.23")
    counts = Counter(outcome(name).skip for name in cases())
    assert counts[None] >= CHECKED, counts
    assert set(counts) == {None, *Skip}
