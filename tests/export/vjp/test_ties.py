"""Where a derivative jumps, ours is PyTorch's: small whole numbers as inputs, so that ties are everywhere."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.export.vjp.checking import Case, differentiate, parse, run

Function = Callable[[torch.Tensor], torch.Tensor]
L = torch.tensor([[-1.0], [0.0], [2.0]], dtype=torch.float64)
CONSTANTS = {
    "zero": np.asarray(0.0),
    "six": np.asarray(6.0),
    "l": L.numpy(),
    "slope": np.full((3, 1), -0.25),
    "k": np.asarray([-1]),
    "p": np.asarray([0.0, 1.0, 2.0, 3.0, 0.0, 1.0]),
}
FLAT: list[tuple[str, Function]] = [
    ("y = Relu(x)", torch.relu),
    ("y = Clip(x, zero, six)", functional.relu6),  # torch.clamp also produces Clip, but passes g at its bounds
    ("y = LeakyRelu<alpha = 0.2>(x)", lambda x: functional.leaky_relu(x, 0.2)),
    ("y = PRelu(x, slope)", lambda x: functional.prelu(x, torch.full((6,), -0.25, dtype=torch.float64))),
    ("y = Elu(x)", functional.elu),
    ("y = Elu<alpha = 0.5>(x)", lambda x: functional.elu(x, 0.5)),
    ("y = Selu(x)", functional.selu),
    ("y = HardSigmoid<alpha = 0.16666667, beta = 0.5>(x)", functional.hardsigmoid),
    ("y = Celu<alpha = 0.5>(x)", lambda x: functional.celu(x, 0.5)),
    ("y = Softsign(x)", functional.softsign),
    ("y = ThresholdedRelu<alpha = 2.0>(x)", lambda x: functional.threshold(x, 2.0, 0.0)),
    ("y = Shrink<lambd = 2.0>(x)", lambda x: functional.hardshrink(x, 2.0)),
    ("y = Shrink<lambd = 2.0, bias = 2.0>(x)", lambda x: functional.softshrink(x, 2.0)),
    ("y = Abs(x)", torch.abs),
    ("y = Max(x, l)", lambda x: torch.maximum(x, L)),
    ("y = Min(l, x)", lambda x: torch.minimum(x, L)),
    ("y = ReduceMax<keepdims = 0>(x, k)", lambda x: torch.amax(x, -1)),
    ("y = ReduceMin(x)", lambda x: torch.amin(x, (0, 1), keepdim=True)),
    ("y = ReduceL2(x, k)", lambda x: torch.linalg.vector_norm(x, dim=-1, keepdim=True)),
    ("y = ReduceProd(x, k)", lambda x: torch.prod(x, -1, keepdim=True)),
    ("y = Pow(x, p)", lambda x: torch.pow(x, torch.from_numpy(CONSTANTS["p"]))),
    ("f = Floor(x) n = Mul(x, zero) y = Add(f, n)", lambda x: torch.floor(x) + 0 * x),
]


def ours(body: str, x: np.ndarray, cotangent: np.ndarray) -> np.ndarray:
    case = Case("", body, {"x": x}, {n: a for n, a in CONSTANTS.items() if f"{n})" in body or f"{n}," in body})
    return run(differentiate(parse(case, {"x": x}), ["x"]), {"x": x, "cotangent": cotangent})["d_x"]


def compare(body: str, function: Function, x: np.ndarray) -> None:
    rng = np.random.default_rng(3)
    tensor = torch.from_numpy(x).requires_grad_()
    y = function(tensor)
    cotangent = rng.normal(size=tuple(y.shape))
    (theirs,) = torch.autograd.grad((y * torch.from_numpy(cotangent)).sum(), tensor)
    np.testing.assert_allclose(ours(body, x, cotangent), theirs.numpy(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("body", "function"), FLAT, ids=[body for body, _ in FLAT])
def test_kinks(body: str, function: Function) -> None:
    x = np.asarray(
        [[0.0, 6.0, -1.0, 2.0, 0.0, 3.0], [0.0, -0.0, -3.0, 2.0, 2.0, -3.0], [6.0, 0.0, 2.0, 6.0, 1.0, -6.0]]
    )
    compare(body, function, x)


@pytest.mark.parametrize(
    ("attributes", "options"),
    [
        ("kernel_shape = [3, 3]", {"kernel_size": 3, "stride": 1}),
        ("kernel_shape = [2, 2], strides = [2, 2]", {"kernel_size": 2}),
        (
            "kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]",
            {"kernel_size": 3, "stride": 2, "padding": 1},
        ),
        ("kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1", {"kernel_size": 3, "stride": 2, "ceil_mode": True}),
        ("kernel_shape = [3, 2], strides = [1, 3]", {"kernel_size": (3, 2), "stride": (1, 3)}),
        ("kernel_shape = [2, 3], dilations = [3, 2]", {"kernel_size": (2, 3), "stride": 1, "dilation": (3, 2)}),
    ],
)
def test_the_first_of_equal_maxima_gets_the_gradient(attributes: str, options: dict[str, int]) -> None:
    x = np.random.default_rng(0).integers(-2, 2, (2, 3, 8, 7)).astype(np.float64)
    compare(f"y = MaxPool<{attributes}>(x)", lambda t: functional.max_pool2d(t, **options), x)


def test_global_maximum() -> None:
    x = np.random.default_rng(1).integers(-1, 2, (2, 3, 4, 5)).astype(np.float64)
    compare("y = GlobalMaxPool(x)", lambda t: functional.adaptive_max_pool2d(t, 1), x)
