"""Our gradients against those of onnx-ad, which derives its own from rules of its own: a second, independent oracle.

Unlike a difference it is exact to rounding: all is float64, under ONNX's reference, and a small error shows as well.
"""

from __future__ import annotations

import re

import numpy as np
import onnx_ad
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from tests.export.vjp.cases import CASES
from tests.export.vjp.checking import Case, differentiate, parse, run

UNSUPPORTED = {
    ("Conv", "auto_pad=SAME"),
    ("AveragePool", "auto_pad=SAME"),
    ("AveragePool", "ceil_mode=1"),
    ("Slice", "a step other than 1"),
    ("Pad", "only constant-mode"),
    ("GatherND", "batch_dims"),
}
"""(operator, what onnx-ad says of it)."""
REFERENCE = "ONNX's reference cannot run onnx-ad's gradient"
ZERO = "onnx-ad's gradient is not a number at zeros"
THEIRS = {
    r"Conv<group = 2, pads": REFERENCE,  # groups in ConvTranspose
    r"ScatterElements": REFERENCE,  # indices smaller than the data in GatherElements
    r"z = Slice.* y = Concat": REFERENCE,  # Pad of nothing
    r"MaxPool<kernel_shape = \[3, 3\], strides = \[1, 1\], pads": "the reference's Indices are wrong with pads",
    r"SpaceToDepth<.*CRD": "onnx-ad 0.3 does not know the mode, which is new in opset 28",
    r"LpPool<kernel_shape = \[2\], strides = \[2\]>": ZERO,
    r"ReduceProd<keepdims = .>\(x, k\)": ZERO,
    r"Pow\(x, p\)": ZERO,
}
"""Beginning of a case's text -> why it may not be compared; where it can be, it must agree."""
ROUGH = {"RMSNormalization"}
"""Theirs is rounded to float32 on the way."""

SHAPES = {
    "a": (4, 3, 3, 3), "b": (6, 4, 3, 3), "u": (6, 4, 2, 2), "o": (3, 4, 3, 3), "d": (5, 24), "s": (6,), "m": (6,),
}  # fmt: skip
WEIGHTS = {name: np.random.default_rng(ord(name)).normal(size=shape) * 0.5 for name, shape in SHAPES.items()}
NETWORKS = [
    Case(  # convolutions, strides, batch normalisation, pooling, a classifier
        "net",
        "h = Conv<pads = [1, 1, 1, 1]>(x, a) r = Relu(h) p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(r)"
        " q = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(p, b) n = BatchNormalization(q, s, m, m, v) e = Elu(n)"
        " f = Flatten(e) g = Gemm<transB = 1>(f, d) y = LogSoftmax(g)",
        {"x": (2, 3, 8, 8)},
        {n: WEIGHTS[n] for n in "absmd"} | {"v": np.arange(1.0, 7.0)},
    ),
    Case(  # a residual block with attention over channels
        "net",
        "h = Conv<pads = [1, 1, 1, 1]>(x, c) t = Tanh(h) g = GlobalAveragePool(t) w = HardSigmoid(g)"
        " z = Mul(t, w) i = InstanceNormalization(z, s, m) k = Softmax<axis = 1>(i) y = Add(k, z)",
        {"x": (1, 4, 5, 6)},
        {"c": WEIGHTS["b"], "s": WEIGHTS["s"], "m": WEIGHTS["m"]},
    ),
    Case(  # a generator: upwards, with a skip connection
        "net",
        "h = ConvTranspose<strides = [2, 2]>(x, u) l = LeakyRelu(h) r = Resize(l, , scales)"
        " c = Concat<axis = 1>(l, l) p = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(r) j = Add(p, l)"
        " t = Conv<pads = [1, 1, 1, 1]>(j, o) q = ReduceMean(c) f = Sigmoid(t) y = Mul(f, q)",
        {"x": (1, 6, 3, 4)},
        {n: WEIGHTS[n] for n in "uo"} | {"scales": np.asarray([1, 1, 2, 2], np.float32)},
    ),
]


def theirs(case: Case, inputs: dict[str, np.ndarray], cotangent: np.ndarray) -> dict[str, np.ndarray]:
    forward = ir.to_proto(parse(case, inputs))
    try:
        adjoint = onnx_ad.reverse(forward, inputs=list(inputs), outputs=["y"], layout="onnx")
    except onnx_ad.UnsupportedOperator as error:
        if not any(op == case.ops and words in str(error) for op, words in UNSUPPORTED):
            raise
        pytest.skip(f"onnx-ad does not support it: {case.ops}")
    evaluator = ReferenceEvaluator(adjoint)
    values = evaluator.run(None, inputs | case.feeds | {"adj_y": cotangent[..., None]})  # one seed, the last axis
    found = dict(zip(evaluator.output_names, values, strict=True))
    return {name: found[f"adj_{name}"][..., 0] for name in inputs}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # onnx-ad divides by 0 and takes its logarithm
@pytest.mark.parametrize("case", [c for c in (*CASES, *NETWORKS) if c.runtime is None], ids=lambda case: case.name)
def test_both_agree(case: Case) -> None:
    rng = np.random.default_rng(0)
    inputs = case.draw(rng)
    y = run(parse(case, inputs), inputs | case.feeds)["y"]
    cotangent = rng.normal(size=y.shape)
    model = differentiate(parse(case, inputs), list(inputs))
    ours = run(model, inputs | case.feeds | {"cotangent": cotangent})
    excuse = next((why for pattern, why in THEIRS.items() if re.match(f"(y = )?{pattern}", case.body)), None)
    try:
        other = theirs(case, inputs, cotangent)
        for name in inputs:
            tolerance = 1e-6 if case.ops in ROUGH else 1e-11
            np.testing.assert_allclose(ours[f"d_{name}"], other[name], rtol=tolerance, atol=tolerance)
    except (ValueError, AssertionError):
        if excuse is None:
            raise
        pytest.skip(excuse)
