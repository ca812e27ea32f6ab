"""One table of small models: every rule, with its awkward attributes."""

from __future__ import annotations

import numpy as np

from tests.export.vjp.checking import Case

rng = np.random.default_rng(7)
F = rng.normal  # F(size=...) draws a constant


def ints(*values: int) -> np.ndarray:
    return np.asarray(values, np.int64)


def apart(*shape: int) -> np.ndarray:
    """Values at least 0.01 apart and away from 0, so that a maximum or a kink is not crossed by a step."""
    n = int(np.prod(shape))
    return (rng.permutation(n) - n / 2 + 0.5).reshape(shape) / 7


W = {"w": F(size=(4, 3, 3, 2))}
X = {"x": (2, 3, 7, 6)}
CONV = [
    Case("Conv", "y = Conv(x, w)", X, W),
    Case("Conv", "y = Conv(x, w, b)", X, W | {"b": F(size=4)}),
    Case("Conv", "y = Conv<pads = [1, 0, 2, 1]>(x, w)", X, W),
    Case("Conv", "y = Conv<pads = [3, 2, 3, 3]>(x, w)", X, W),
    Case("Conv", "y = Conv<strides = [2, 3], pads = [0, 1, 1, 0]>(x, w)", X, W),
    Case("Conv", "y = Conv<strides = [3, 2]>(x, w)", {"x": (1, 3, 9, 9)}, W),
    Case("Conv", "y = Conv<dilations = [2, 3], pads = [1, 1, 2, 0]>(x, w)", X, W),
    Case("Conv", "y = Conv<dilations = [2, 1], strides = [2, 2]>(x, w)", {"x": (1, 3, 9, 7)}, W),
    *(
        Case("Conv", f'y = Conv<auto_pad = "{pad}", strides = [{s}, {s}]>(x, w)', X, W)
        for pad in ("SAME_UPPER", "SAME_LOWER", "VALID")
        for s in (1, 2)
    ),
    Case("Conv", "y = Conv<group = 2, pads = [1, 1, 1, 1]>(x, w)", {"x": (1, 4, 5, 5)}, {"w": F(size=(6, 2, 3, 3))}),
    Case("Conv", "y = Conv<group = 4>(x, w)", {"x": (2, 4, 5, 5)}, {"w": F(size=(4, 1, 3, 3))}),
    Case(
        "Conv",
        "y = Conv<group = 4, strides = [2, 2], pads = [0, 0, 1, 1]>(x, w)",
        {"x": (1, 4, 6, 6)},
        {"w": F(size=(8, 1, 3, 3))},
        runtime=1.0,
    ),
    Case("Conv", "y = Conv<strides = [2, 2]>(x, w)", {"x": (1, 3, 5, 6)}, {"w": F(size=(4, 3, 1, 1))}),
    Case("Conv", "y = Conv<strides = [2], pads = [1, 0]>(x, w)", {"x": (2, 3, 8)}, {"w": F(size=(4, 3, 3))}),
    Case("Conv", "y = Conv<pads = [1, 1, 1, 1]>(x, w)", {"x": (1, 2, 5, 5)}, feeds={"w": F(size=(3, 2, 3, 3))}),
]
T = {"w": F(size=(3, 4, 3, 2))}
CONV_TRANSPOSE = [
    Case("ConvTranspose", "y = ConvTranspose(x, w)", {"x": (2, 3, 4, 5)}, T),
    Case("ConvTranspose", "y = ConvTranspose<strides = [2, 3], pads = [1, 0, 0, 1]>(x, w)", {"x": (1, 3, 4, 5)}, T),
    Case("ConvTranspose", "y = ConvTranspose<strides = [2, 2], output_padding = [1, 1]>(x, w)", {"x": (1, 3, 4, 5)}, T),
    Case(
        "ConvTranspose",
        "y = ConvTranspose<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w)",
        {"x": (1, 2, 3, 3)},
        {"w": F(size=(2, 3, 4, 4))},
    ),
    Case("ConvTranspose", "y = ConvTranspose<dilations = [2, 2]>(x, w)", {"x": (1, 3, 4, 4)}, T),
    Case(
        "ConvTranspose",
        "y = ConvTranspose<group = 2>(x, w)",
        {"x": (1, 4, 3, 3)},
        {"w": F(size=(4, 2, 3, 3))},
        runtime=1.0,
    ),
]
P = {"x": apart(2, 3, 7, 6)}
POOL = [
    Case("MaxPool", "y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)", P),
    Case("MaxPool", "y = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(x)", P),
    Case("MaxPool", "y = MaxPool<kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1>(x)", P),
    Case("MaxPool", "y = MaxPool<kernel_shape = [3, 2], strides = [1, 2], pads = [0, 1, 1, 0]>(x)", P),
    Case("MaxPool", "y = MaxPool<kernel_shape = [3, 3], strides = [1, 1], pads = [1, 1, 1, 1]>(x)", P),
    Case("MaxPool", "y = MaxPool<kernel_shape = [2, 2], dilations = [2, 3]>(x)", P),
    Case("MaxPool", "y = MaxPool<kernel_shape = [2, 2], strides = [3, 3]>(x)", P),
    Case("MaxPool", "y = MaxPool<kernel_shape = [3], strides = [2]>(x)", {"x": apart(2, 3, 9)}),
    Case("AveragePool", "y = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(x)", {"x": (1, 2, 6, 4)}),
    Case("AveragePool", "y = AveragePool<kernel_shape = [3, 2], strides = [2, 1], pads = [1, 0, 1, 1]>(x)", X),
    Case(
        "AveragePool",
        "y = AveragePool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1], count_include_pad = 1>(x)",
        X,
    ),
    Case(
        "AveragePool", "y = AveragePool<kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1>(x)", {"x": (1, 2, 8, 8)}
    ),
    Case("AveragePool", 'y = AveragePool<kernel_shape = [3, 3], strides = [2, 2], auto_pad = "SAME_UPPER">(x)', X),
    Case("GlobalAveragePool", "y = GlobalAveragePool(x)", X),
    Case("GlobalMaxPool", "y = GlobalMaxPool(x)", P),
]
A, B = F(size=(3, 4)), F(size=(4, 5))
LINEAR = [
    Case("MatMul", "y = MatMul(a, b)", {"a": (3, 4), "b": (4, 5)}),
    Case("MatMul", "y = MatMul(a, b)", {"a": (2, 1, 3, 4), "b": (6, 4, 5)}),
    Case("MatMul", "y = MatMul(a, b)", {"a": (4,), "b": (2, 4, 5)}),
    Case("MatMul", "y = MatMul(a, b)", {"a": (2, 3, 4), "b": (4,)}),
    Case("MatMul", "y = MatMul(a, b)", {"a": (4,), "b": (4,)}),
    Case("MatMul", "y = MatMul(a, b)", {"a": (2, 3, 4)}, {"b": B}),
    *(
        Case("Gemm", f"y = Gemm<transA = {i}, transB = {j}, alpha = 0.5, beta = 2.0>(a, b, c)",
             {"a": (4, 3) if i else (3, 4), "b": (5, 4) if j else (4, 5), "c": (5,)})
        for i in (0, 1)
        for j in (0, 1)
    ),
    Case("Gemm", "y = Gemm<transB = 1>(a, b)", {"a": (3, 4)}, {"b": B.T.copy()}),
    Case("Gemm", "y = Gemm(a, b, c)", {"a": (3, 4)}, {"b": B, "c": F(size=(3, 1))}),
    Case("Einsum", 'y = Einsum<equation = "bij,bjk->bik">(a, b)', {"a": (2, 3, 4), "b": (2, 4, 5)}),
    Case("Einsum", 'y = Einsum<equation = "nchw,cs->nshw">(a, b)', {"a": (2, 3, 2, 2), "b": (3, 4)}),
]  # fmt: skip
K = {"x": apart(3, 4)}
BINARY = {"a": (2, 1, 4), "b": (3, 1)}
ELEMENTWISE = [
    *(Case(op, f"y = {op}(x)", K) for op in (
        "Relu", "LeakyRelu", "Sigmoid", "Tanh", "Exp", "Neg", "Abs", "HardSigmoid", "HardSwish", "Softplus",
        "Elu", "Selu", "Mish", "Sin", "Cos", "Identity", "Dropout",
    )),
    *(Case(op, f"y = {op}(x)", {"x": (3, 4)}, positive=True) for op in ("Log", "Sqrt", "Reciprocal")),
    Case("Erf", "y = Erf(x)", K, runtime=0.01),
    Case("Gelu", "y = Gelu(x)", K, runtime=0.01),
    Case("LeakyRelu", "y = LeakyRelu<alpha = 0.3>(x)", K),
    Case("Gelu", 'y = Gelu<approximate = "tanh">(x)', K),
    Case("HardSigmoid", "y = HardSigmoid<alpha = 0.3, beta = 0.4>(x)", K),
    Case("Elu", "y = Elu<alpha = 0.7>(x)", K),
    Case("PRelu", "y = PRelu(x, s)", {"x": apart(2, 3, 2, 2)}, {"s": F(size=(3, 1, 1))}),
    Case("Clip", "y = Clip(x, l, h)", K, {"l": np.asarray(-0.4), "h": np.asarray(0.45)}),
    Case("Clip", "y = Clip(x, , h)", K, {"h": np.asarray(0.45)}),
    Case("Clip", "y = Clip(x)", K),
    Case("Cast", "z = Cast<to = 1>(x) y = Cast<to = 11>(z)", {"x": (3, 4)}, rtol=0.2),  # the step is fp32's grain
    *(Case(op, f"y = {op}(a, b)", BINARY) for op in ("Add", "Sub", "Mul")),
    *(Case(op, f"y = {op}(b, a)", BINARY) for op in ("Add", "Sub", "Mul")),
    Case("Mul", "y = Mul(x, x)", K),
    Case("Div", "y = Div(a, b)", BINARY, positive=True),
    Case("Div", "y = Div(b, a)", BINARY, positive=True),
    Case("Pow", "y = Pow(a, b)", BINARY, positive=True),
    Case("Pow", "y = Pow(x, p)", K, {"p": np.asarray(2.0)}),
    Case("Pow", "y = Pow(x, p)", K, {"p": np.asarray([3.0, 1.0, 2.0, 4.0])}),
    Case("Pow", "y = Pow(x, p)", {"x": (3, 4)}, {"p": np.asarray(-0.5)}, positive=True),
    Case("Sum", "y = Sum(a, b, a)", BINARY),
    Case("Mean", "y = Mean(a, b)", BINARY, runtime=1.0),
    Case("Max", "y = Max(a, b)", {"a": apart(2, 3, 4), "b": F(size=(3, 1)) / 90}),
    Case("Min", "y = Min(a, b)", {"a": apart(2, 3, 4), "b": F(size=(3, 1)) / 90}),
    Case("Where", "y = Where(c, a, b)", BINARY, feeds={"c": F(size=(3, 4)) > 0}),
]  # fmt: skip
R = {"x": (2, 3, 4)}
REDUCE = [
    *(
        Case(
            op,
            f"y = {op}<keepdims = {keep}>(x{axes})",
            {"x": apart(2, 3, 4) + 0.01},
            {"k": ints(-1, 0)} if axes else {},
        )
        for op in (
            "ReduceSum",
            "ReduceMean",
            "ReduceSumSquare",
            "ReduceL1",
            "ReduceL2",
            "ReduceLogSumExp",
            "ReduceMax",
            "ReduceMin",
            "ReduceProd",
        )
        for keep, axes in ((1, ", k"), (0, ", k"), (1, ""))
    ),
    Case("ReduceSum", "y = ReduceSum<noop_with_empty_axes = 1>(x)", R),
    Case("ReduceMean", "y = ReduceMean<axes = [1], keepdims = 0>(x)", R, opset=17),
    *(Case(op, f"y = {op}<axis = {axis}>(x)", R) for op in ("Softmax", "LogSoftmax") for axis in (-1, 1, 0)),
]
C = {"s": F(size=4), "b": F(size=4), "m": F(size=4), "v": 0.5 + F(size=4) ** 2}
NORM = [
    Case("BatchNormalization", "y = BatchNormalization<epsilon = 0.01>(x, s, b, m, v)", {"x": (2, 4, 3, 3)}, C),
    Case("BatchNormalization", "y = BatchNormalization(x, s, b, m, v)", {"x": (5, 4)}, C),
    Case("LayerNormalization", "y = LayerNormalization(x, s, b)", {"x": (2, 3, 4)}, C),
    Case("LayerNormalization", "y = LayerNormalization<axis = 1>(x, s)", {"x": (2, 3, 4)}, {"s": F(size=(3, 4))}),
    Case("InstanceNormalization", "y = InstanceNormalization(x, s, b)", {"x": (2, 4, 3, 3)}, C),
    Case(
        "GroupNormalization",
        "y = GroupNormalization<num_groups = 2>(x, s, b)",
        {"x": (2, 4, 3, 3)},
        C,
        opset=21,
        runtime=0.01,
    ),
    Case("LRN", "y = LRN<size = 3, alpha = 0.3, beta = 0.6, bias = 1.5>(x)", {"x": (2, 5, 2, 2)}, runtime=0.01),
    Case("LRN", "y = LRN<size = 4, alpha = 0.3>(x)", {"x": (5, 5, 2, 2)}),
    Case("LpNormalization", "y = LpNormalization<axis = 1>(x)", R),
]
S = {"x": (3, 4, 5)}
SHAPE = [
    Case("Reshape", "y = Reshape(x, t)", S, {"t": ints(0, -1, 2, 5)}),
    Case("Flatten", "y = Flatten<axis = 2>(x)", S),
    Case("Squeeze", "y = Squeeze(x, t)", {"x": (3, 1, 5, 1)}, {"t": ints(-1, 1)}),
    Case("Unsqueeze", "y = Unsqueeze(x, t)", S, {"t": ints(0, -1)}),
    Case("Transpose", "y = Transpose(x)", S),
    Case("Transpose", "y = Transpose<perm = [1, 2, 0]>(x)", S),
    Case("Expand", "y = Expand(x, t)", {"x": (3, 1)}, {"t": ints(2, 1, 4)}),
    Case("Concat", "y = Concat<axis = -2>(a, b, a)", {"a": (2, 3, 4), "b": (2, 1, 4)}),
    Case("Split", "y, r = Split<axis = -1>(x, t)", S, {"t": ints(2, 3)}),
    Case("Split", "a, b, c = Split<axis = 1, num_outputs = 3>(x) y = Mul(a, c)", {"x": (3, 6, 2)}),
    Case("Slice", "y = Slice(x, a, b)", S, {"a": ints(1, 0), "b": ints(3, 2)}),
    Case(
        "Slice",
        "y = Slice(x, a, b, k, s)",
        S,
        {"a": ints(-1, 4), "b": ints(-100, 0), "k": ints(-2, 2), "s": ints(-1, -2)},
    ),
    Case(
        "Slice", "y = Slice(x, a, b, k, s)", S, {"a": ints(0, 1), "b": ints(100, -1), "k": ints(1, -1), "s": ints(3, 2)}
    ),
    Case("Pad", "y = Pad(x, p)", S, {"p": ints(1, 0, 2, 0, 3, 0)}),
    Case("Pad", "y = Pad(x, p, f)", S, {"p": ints(1, -1, 0, -1, 2, 0), "f": np.asarray(3.0)}, runtime=1.0),
    Case("Pad", 'y = Pad<mode = "reflect">(x, p)', S, {"p": ints(1, 2, 0, 2, 0, 3)}),
    Case("Pad", 'y = Pad<mode = "edge">(x, p, , k)', S, {"p": ints(2, 3), "k": ints(-1)}),
    Case("Gather", "y = Gather<axis = 1>(x, i)", S, {"i": ints(2, 0)}),
    Case("Gather", "y = Gather<axis = -2>(x, i)", S, {"i": np.asarray([[1, -1, 1], [3, 1, 0]])}),
    Case("Gather", "y = Gather(x, i)", S, {"i": np.asarray(1)}),
    Case("Gather", "y = Gather<axis = 1>(x, i)", S, feeds={"i": np.asarray([[1, -1], [3, 1]])}),
    Case("GatherElements", "y = GatherElements<axis = 1>(x, i)", S, feeds={"i": rng.integers(-4, 4, (3, 6, 5))}),
    Case("GatherND", "y = GatherND(x, i)", S, {"i": np.asarray([[[1, 0], [-1, 3]], [[1, 0], [0, 2]]])}),
    Case("Tile", "y = Tile(x, r)", S, {"r": ints(2, 1, 3)}),
    *(
        Case("DepthToSpace", f'y = DepthToSpace<blocksize = 2, mode = "{m}">(x)', {"x": (2, 8, 3, 2)})
        for m in ("DCR", "CRD")
    ),
    Case("SpaceToDepth", "y = SpaceToDepth<blocksize = 2>(x)", {"x": (2, 3, 4, 6)}),
]
Z = {"x": (1, 2, 4, 5)}
UP, ODD = {"s": np.asarray([1, 1, 2, 3], np.float32)}, {"s": ints(1, 2, 7, 3)}
RESIZE = [
    Case("Resize", 'y = Resize<coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">(x, , s)', Z, UP),
    Case("Resize", "y = Resize(x, , s)", Z, UP),
    Case("Resize", "y = Resize(x, , , s)", Z, ODD),
    *(
        Case("Resize", f'y = Resize<mode = "linear", coordinate_transformation_mode = "{m}">(x, {s})', Z, c)
        for m in ("half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel")
        for s, c in ((", s", UP), (", , s", ODD))
    ),
    Case("Resize", 'y = Resize<mode = "cubic">(x, , , s)', Z, ODD),
]  # fmt: skip
CASES = [*CONV, *CONV_TRANSPOSE, *POOL, *LINEAR, *ELEMENTWISE, *REDUCE, *NORM, *SHAPE, *RESIZE]
