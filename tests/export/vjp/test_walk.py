"""What the walk does for all rules."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from export.errors import MissingRuleError, ModelError
from export.passes.shapes import infer_shapes
from export.vjp import append_gradient
from tests.export.vjp.checking import Case, check, differentiate, parse, run, value

X = {"x": (3, 4)}


def grown(case: Case) -> ir.Model:
    return differentiate(parse(case, case.draw(np.random.default_rng(0))), list(case.inputs))


@pytest.mark.parametrize(
    "body",
    [
        "a = Sin(x) b = Cos(x) y = Mul(a, b)",  # a diamond
        "a = Sin(x) b = Mul(a, a) c = Add(b, a) y = Add(c, x)",  # one value used five times
        "a = Relu(x) s = Shape(x) z = Reshape(a, s) y = Sin(z)",  # a path through integers
    ],
)
def test_fan_out_is_accumulated(body: str) -> None:
    check(Case("", body, X))


def test_nothing_is_emitted_off_the_path() -> None:
    body = "a = MatMul(x, w) unused = Exp(x) other = Sin(k) b = Mul(a, other) y = Relu(b)"
    model = grown(Case("", body, X, {"w": np.ones((4, 2)), "k": np.ones((3, 2))}))
    emitted = [n.op_type for n in model.graph if str(n.name).startswith("grad/")]
    assert emitted == ["Greater", "Cast", "Mul", "Mul", "MatMul"]


def test_missing_rules_are_listed_at_once() -> None:
    body = "[first] a = Celu(x) [second] b = Celu(a) [third] c = Softsign(b) y = Add(c, x)"
    with pytest.raises(MissingRuleError) as caught:
        grown(Case("", body, X))
    message = str(caught.value)
    assert "Celu (opset 20; 2 nodes: first, second)" in message
    assert "Softsign (opset 20; 1 node: third)" in message
    assert "CONTRIBUTING" in message


def test_a_missing_rule_off_the_path_does_not_matter() -> None:
    check(Case("", "a = Celu(k) y = Mul(x, a)", X, feeds={"k": np.ones((3, 4))}))


def test_no_derivative_path() -> None:
    with pytest.raises(ModelError, match="does not depend on x differentiably"):
        grown(Case("", "a = Floor(x) y = Sin(a)", X))


def test_unknown_shapes_are_named() -> None:
    model = parse(Case("", "a = Sin(x) y = Cos(a)", X), {"x": np.ones((3, 4))})
    value(model, "a").shape = None
    with pytest.raises(ModelError, match="the shape of 'a' \\(Sin\\) is not known"):
        differentiate(model, ["x"])


def test_a_cotangent_of_another_shape() -> None:
    model = parse(Case("", "y = Sin(x)", X), {"x": np.ones((3, 4))})
    wrong = ir.Value(name="c", type=ir.TensorType(ir.DataType.DOUBLE), shape=ir.Shape([3]))
    with pytest.raises(ModelError, match="the cotangent is"):
        append_gradient(model.graph, value(model, "y"), [value(model, "x")], wrong)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("y = Conv(k, x)", "input 1 is not supported"),
        ("y, i = MaxPool<kernel_shape = [2, 2]>(x) z = Cast<to = 11>(i)", None),
    ],
)
def test_what_a_rule_cannot_do_is_refused(body: str, message: str | None) -> None:
    case = Case("", body, {"x": (2, 3, 3, 3)}, feeds={"k": np.ones((1, 3, 5, 5))} if "k" in body.split("(")[1] else {})
    if message is None:
        check(case)
        return
    with pytest.raises(ModelError, match=message):
        grown(case)


def test_the_derivative_of_the_derivative() -> None:
    case = Case("", "a = Conv<pads = [1, 1, 1, 1]>(x, w) b = Tanh(a) c = Mul(b, b) y = ReduceSum<keepdims = 0>(c)",
                {"x": (1, 2, 4, 4)}, {"w": np.random.default_rng(1).normal(size=(3, 2, 3, 3))})  # fmt: skip
    rng = np.random.default_rng(0)
    x, direction, probe = (rng.normal(size=(1, 2, 4, 4)) for _ in range(3))
    first = differentiate(parse(case, {"x": x}), ["x"])
    gradient = next(o for o in first.graph.outputs if o.name == "d_x")
    inner = ir.Value(name="probe", type=ir.TensorType(ir.DataType.DOUBLE), shape=gradient.shape)
    first.graph.inputs.append(inner)
    infer_shapes(first)
    (second,) = append_gradient(first.graph, gradient, [value(first, "x")], inner, prefix="grad2")
    second.name = "d2_x"
    first.graph.outputs.append(second)
    one = np.asarray(1.0)

    def at(point: np.ndarray) -> dict[str, np.ndarray]:
        return run(first, {"x": point, "cotangent": one, "probe": probe})

    step = 1e-6
    numeric = ((at(x + step * direction)["d_x"] - at(x - step * direction)["d_x"]) / (2 * step) * probe).sum()
    np.testing.assert_allclose((at(x)["d2_x"] * direction).sum(), numeric, rtol=1e-6)
