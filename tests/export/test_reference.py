"""The float64 evaluator against PyTorch in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch.nn import functional as F

from export.reference import evaluate

RNG = np.random.default_rng(0)


def run(op: str, arrays: list[np.ndarray], **attributes: Any) -> np.ndarray:
    inputs = [
        ir.Value(name=f"x{i}", shape=ir.Shape(a.shape), type=ir.TensorType(ir.DataType.FLOAT))
        for i, a in enumerate(arrays)
    ]
    node = ir.node(op, inputs, attributes=attributes)
    node.outputs[0].name, node.outputs[0].dtype = "y", ir.DataType.FLOAT
    graph = ir.Graph(inputs, node.outputs, nodes=[node], opset_imports={"": 20}, name="one")
    out = evaluate(ir.Model(graph, ir_version=10), {f"x{i}": a for i, a in enumerate(arrays)})["y"]
    assert out.dtype == np.float64
    return out


@pytest.mark.parametrize("group", [1, 2, 4])
@pytest.mark.parametrize(("stride", "pad", "dilation"), [(1, 0, 1), (2, 1, 1), (1, 2, 2), (3, 1, 1)])
def test_convolutions(group: int, stride: int, pad: int, dilation: int) -> None:
    x, w, b = RNG.normal(size=(2, 4, 9, 11)), RNG.normal(size=(8, 4 // group, 3, 3)), RNG.normal(size=8)
    ours = run("Conv", [x, w, b], strides=[stride] * 2, pads=[pad] * 4, dilations=[dilation] * 2, group=group)
    theirs = F.conv2d(*map(torch.from_numpy, (x, w, b)), stride, pad, dilation, group)
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-12, atol=1e-12)
    w = RNG.normal(size=(4, 3, 3, 3))
    b = RNG.normal(size=3 * group)
    extra = stride - 1
    ours = run(
        "ConvTranspose", [x, w, b],
        strides=[stride] * 2, pads=[pad] * 4, dilations=[dilation] * 2, group=group, output_padding=[extra] * 2,
    )  # fmt: skip
    theirs = F.conv_transpose2d(*map(torch.from_numpy, (x, w, b)), stride, pad, extra, group, dilation)
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "pad"), [(2, 2, 0), (3, 2, 1), (3, 2, 0), (3, 1, 1)])
def test_pools(ceil: bool, kernel: int, stride: int, pad: int) -> None:
    x = RNG.normal(size=(2, 3, 8, 11))
    shared = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4, "ceil_mode": int(ceil)}
    theirs = F.max_pool2d(torch.from_numpy(x), kernel, stride, pad, ceil_mode=ceil)
    np.testing.assert_array_equal(run("MaxPool", [x], **shared), theirs.numpy())
    for include in (False, True):
        theirs = F.avg_pool2d(torch.from_numpy(x), kernel, stride, pad, ceil, include)
        ours = run("AveragePool", [x], count_include_pad=int(include), **shared)
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-12)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu(approximate: str) -> None:
    x = RNG.normal(size=100)
    theirs = F.gelu(torch.from_numpy(x), approximate=approximate).numpy()
    np.testing.assert_allclose(run("Gelu", [x], approximate=approximate), theirs, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(run("Erf", [x]), torch.erf(torch.from_numpy(x)).numpy(), rtol=1e-12)
