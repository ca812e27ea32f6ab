"""The autograd oracle: PyTorch runs the graph as ONNX's reference does, and its gradient is ours."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch

from export.errors import ModelError
from export.passes.constants import fold_constants
from export.sources.torch_import import autograd_of, run_torch
from tests.export.vjp.cases import CASES
from tests.export.vjp.checking import Case, differentiate, parse, run

EXACT = [case for case in CASES if case.runtime is None and case.opset >= 13]
UNKNOWN_TO_PYTORCH = 40
"""At most so many cases hold an operator that PyTorch is not asked about."""
unknown: set[str] = set()


@pytest.mark.parametrize("case", EXACT, ids=lambda case: case.name)
def test_values_and_gradients(case: Case) -> None:
    rng = np.random.default_rng(0)
    inputs = case.draw(rng)
    feeds = inputs | case.feeds
    model = parse(case, inputs)
    fold_constants(model)
    try:
        theirs = run_torch(model, {n: torch.from_numpy(a) for n, a in feeds.items()})["y"].numpy()
    except ModelError as error:
        unknown.add(case.name)
        pytest.skip(str(error))
    y = run(parse(case, inputs), feeds)["y"]
    np.testing.assert_allclose(theirs, y, rtol=1e-6, atol=1e-7)  # the reference rounds default attributes to float32
    cotangent = rng.normal(size=y.shape)
    ours = run(differentiate(parse(case, inputs), list(inputs)), feeds | {"cotangent": cotangent})
    for name in inputs:
        gradient = autograd_of(model, "y", name, feeds, cotangent)
        np.testing.assert_allclose(ours[f"d_{name}"], gradient, rtol=1e-8, atol=1e-10, err_msg=name)


def test_few_operators_are_unknown() -> None:
    assert len(unknown) <= UNKNOWN_TO_PYTORCH


def test_an_unknown_operator_is_named() -> None:
    x = ir.Value(name="x", shape=ir.Shape((1,)), type=ir.TensorType(ir.DataType.FLOAT))
    node = ir.node("Det", [x], name="d")
    model = ir.Model(ir.Graph([x], node.outputs, nodes=[node], opset_imports={"": 20}), ir_version=10)
    with pytest.raises(ModelError, match="Det"):
        run_torch(model, {"x": torch.zeros(1)})
