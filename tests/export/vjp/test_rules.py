"""Every rule against central differences in float64, with random cotangents."""

from __future__ import annotations

import pytest

from export.vjp.registry import entries
from tests.export.vjp.cases import CASES
from tests.export.vjp.checking import Case, check, weights

ALLOWED = {
    "Conv", "ConvTranspose", "MatMul", "Gemm", "Einsum", "AveragePool", "Resize", "DepthToSpace", "CumSum",
    "Add", "Sub", "Mul", "Div", "Neg", "Abs", "Exp", "Log", "Sqrt", "Reciprocal", "Pow", "Erf", "Tanh",
    "Sigmoid", "Softplus", "Sin", "Cos", "Sign", "Mod", "Min", "Max", "Clip",
    "Equal", "Less", "Greater", "And", "Or", "Not", "Where", "Cast",
    "ReduceSum", "ReduceMean", "ReduceProd",
    "Pad", "Slice", "Concat", "Gather", "Reshape", "Expand", "Transpose", "Identity",
}  # fmt: skip
"""What ONNX Runtime, OpenVINO and TensorRT all run."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_rule(case: Case) -> None:
    """The derivative is right, and made of what every runtime can run."""
    model = check(case)
    nodes = list(model.graph)
    emitted = [n for n in nodes if (n.name or "").startswith("grad/")]
    assert {n.op_type for n in emitted} <= ALLOWED
    for node in emitted:
        if node.op_type == "ConvTranspose":
            strides = node.attributes["strides"].as_ints() if "strides" in node.attributes else [1]
            dilations = node.attributes["dilations"].as_ints() if "dilations" in node.attributes else [1]
            assert max(strides) == 1 or max(dilations) == 1  # TensorRT parses it and then fails
    backward, forward = emitted, [n for n in nodes if n not in emitted]
    assert not weights(backward, "Conv", "ConvTranspose") & weights(forward, "Conv", "ConvTranspose")
    unused = [v.name for v in model.graph.initializers.values() if not v.uses() and v.name.startswith("grad/")]
    assert not unused


def test_every_rule_has_a_case() -> None:
    covered = {case.ops for case in CASES}
    assert {e.op for e in entries() if e.rule is not None} == covered


def test_every_zero_derivative_has_a_reason() -> None:
    assert all(len(e.reason) > 20 for e in entries() if e.rule is None)
