"""A case judged by an oracle: official outputs first, then directional derivatives against differences."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import onnx_ir as ir
from onnx.backend.test.case.test_case import TestCase as BackendCase

from export.passes.shapes import static_shape
from export.vjp.walk import FLOATS
from tests.export.vjp.backend.oracles import Arrays, Oracle, Unsuitable
from tests.export.vjp.backend.problem import Plan, Problem, is_float, planned


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


@dataclass(frozen=True)
class Outcome:
    skip: Skip | None
    oracle: str = ""
    refusals: frozenset[str] = frozenset()


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
