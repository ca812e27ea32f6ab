"""Every rule against central differences in float64, with random cotangents."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from export.vjp.registry import entries
from tests.export.vjp.cases import CASES
from tests.export.vjp.checking import Case, check, differentiate, parse, run

ALLOWED = frozenset(
    {
        *("Conv", "ConvTranspose", "MatMul", "Gemm", "Einsum", "AveragePool", "Resize", "DepthToSpace", "CumSum"),
        *(
            "Add",
            "Sub",
            "Mul",
            "Div",
            "Neg",
            "Abs",
            "Exp",
            "Log",
            "Sqrt",
            "Reciprocal",
            "Pow",
            "Erf",
            "Tanh",
            "Sigmoid",
        ),
        *(
            "Softplus",
            "Sin",
            "Cos",
            "Sign",
            "Mod",
            "Min",
            "Max",
            "Clip",
            "Equal",
            "Less",
            "Greater",
            "And",
            "Or",
            "Not",
        ),
        *("Where", "Cast", "Pad", "Slice", "Concat", "Gather", "Reshape", "Expand", "Transpose", "Identity"),
        *("ReduceSum", "ReduceMean"),
    }
)
"""What ONNX Runtime, OpenVINO and TensorRT all run."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_rule(case: Case) -> None:
    model = check(case)
    emitted = [n for n in model.graph if (n.name or "").startswith("grad/")]
    assert {n.op_type for n in emitted} <= ALLOWED
    for node in emitted:
        if node.op_type == "ConvTranspose":
            strides = node.attributes["strides"].as_ints() if "strides" in node.attributes else [1]
            dilations = node.attributes["dilations"].as_ints() if "dilations" in node.attributes else [1]
            assert max(strides) == 1 or max(dilations) == 1  # TensorRT parses it and then fails
    shared = _weights(emitted) & _weights([n for n in model.graph if n not in emitted])
    assert not shared  # OpenVINO computes wrong results when a Conv and a ConvTranspose share one


def _weights(nodes: list[ir.Node]) -> set[str]:
    kinds = ("Conv", "ConvTranspose")
    return {str(n.inputs[1].name) for n in nodes if n.op_type in kinds and n.inputs[1] and n.inputs[1].is_initializer()}


def test_every_rule_has_a_case() -> None:
    covered = {case.ops for case in CASES} | {"Upsample"}  # ONNX removed Upsample; its rule is Resize's
    assert {e.op for e in entries() if e.rule is not None} == covered


def test_every_zero_derivative_has_a_reason() -> None:
    assert all(len(e.reason) > 20 for e in entries() if e.rule is None)


def ties(body: str, x: list[float], expected: list[float]) -> tuple[str, list[float], list[float]]:
    return body, x, expected


@pytest.mark.parametrize(
    ("body", "x", "expected"),
    [
        ties("y = Relu(x)", [0.0, 1.0, -1.0], [0, 1, 0]),
        ties("y = Clip(x, l, h)", [0.0, 6.0, 3.0], [0, 0, 1]),
        ties("y = Abs(x)", [0.0, 2.0, -2.0], [0, 1, -1]),
        ties("y = Max(x, l)", [0.0, 2.0, -2.0], [0.5, 1, 0]),
        ties("y = ReduceMax<keepdims = 0>(x)", [2.0, 2.0, 1.0], [0.5, 0.5, 0]),
        ties("y = Floor(x) z = Add(x, x)", [0.5, 1.5, 2.5], [0, 0, 0]),
    ],
)
def test_ties_follow_pytorch(body: str, x: list[float], expected: list[float]) -> None:
    constants = {"l": np.asarray(0.0), "h": np.asarray(6.0)}
    body = body.replace("y = Floor(x) z = Add(x, x)", "f = Floor(x) n = Mul(x, l) y = Add(f, n)")
    case = Case("", body, {"x": np.asarray(x)}, constants)
    inputs = case.draw(np.random.default_rng(0))
    shape = run(parse(case, inputs), inputs)["y"].shape
    got = run(differentiate(parse(case, inputs), ["x"]), inputs | {"cotangent": np.ones(shape)})["d_x"]
    np.testing.assert_array_equal(got, expected)


def test_the_first_of_equal_maxima_gets_the_gradient() -> None:
    x = np.zeros((1, 1, 4, 4))
    case = Case("MaxPool", "y = MaxPool<kernel_shape = [3, 3], strides = [1, 1]>(x)", {"x": x})
    got = run(differentiate(parse(case, {"x": x}), ["x"]), {"x": x, "cotangent": np.ones((1, 1, 2, 2))})["d_x"]
    expected = np.zeros((4, 4))
    expected[:2, :2] = 1
    np.testing.assert_array_equal(got[0, 0], expected)
