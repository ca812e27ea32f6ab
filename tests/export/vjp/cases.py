"""Every rule, with its awkward attributes; those over windows are in ``cases_windows``."""

from __future__ import annotations

import numpy as np

from tests.export.vjp.cases_windows import WINDOWS
from tests.export.vjp.checking import Case
from tests.export.vjp.drawing import F, apart, ints, rng

X = {"x": (2, 3, 7, 6)}
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
    Case("Einsum", 'y = Einsum<equation = "bij,jk->k">(a, b)', {"a": (2, 3, 4), "b": (4, 5)}),  # b and i are summed
    Case("Einsum", 'y = Einsum<equation = "ij,jk">(a, b)', {"a": (3, 4), "b": (4, 5)}),
    Case("Einsum", 'y = Einsum<equation = "ij->ji">(a)', {"a": (3, 4)}),
    Case("Einsum", 'y = Einsum<equation = "i,j,k->kij">(a, b, c)', {"a": (2,), "b": (3,), "c": (4,)}),
    Case("Gemm", "y = Gemm<transA = 1>(a, b)", {"a": (4, 3)}, {"b": B}),
    Case("Gemm", "y = Gemm<transA = 1, transB = 1, alpha = 2.0, beta = 0.5>(a, b, c)", {"a": (4, 3)},
         {"b": B.T.copy()}, feeds={"c": F(size=(1, 5))}),
]  # fmt: skip
K = {"x": apart(3, 4)}
BINARY = {"a": (2, 1, 4), "b": (3, 1)}
ELEMENTWISE = [
    *(Case(op, f"y = {op}(x)", K) for op in (
        "Relu", "LeakyRelu", "Sigmoid", "Tanh", "Exp", "Neg", "Abs", "HardSigmoid", "HardSwish", "Softplus",
        "Elu", "Selu", "Mish", "Sin", "Cos", "Identity", "Dropout", "Celu", "Softsign", "Atan", "Sinh", "Cosh",
        "ThresholdedRelu",
    )),
    *(Case(op, f"y = {op}(x)", {"x": (3, 4)}, positive=True) for op in ("Log", "Sqrt", "Reciprocal")),
    Case("Swish", "y = Swish(x)", K, opset=24),
    Case("Swish", "y = Swish<alpha = 1.7>(x)", K, opset=24),
    Case("Celu", "y = Celu<alpha = 0.6>(x)", K),
    Case("ThresholdedRelu", "y = ThresholdedRelu<alpha = -0.3>(x)", K),
    Case("Shrink", "y = Shrink(x)", {"x": apart(3, 4) + 0.05}),
    Case("Shrink", "y = Shrink<lambd = 0.4, bias = 0.7>(x)", K),
    *(Case(op, f"y = {op}(x)", {"x": np.linspace(-0.9, 0.9, 12).reshape(3, 4)}) for op in ("Asin", "Acos", "Tan")),
    Case("Erf", "y = Erf(x)", K, runtime=0.01),
    Case("Gelu", "y = Gelu(x)", K, runtime=0.01),
    Case("LeakyRelu", "y = LeakyRelu<alpha = 0.3>(x)", K),
    Case("Gelu", 'y = Gelu<approximate = "tanh">(x)', K),
    Case("HardSigmoid", "y = HardSigmoid<alpha = 0.3, beta = 0.4>(x)", K),
    Case("Elu", "y = Elu<alpha = 0.7>(x)", K),
    *(Case("LeakyRelu", f"y = LeakyRelu<alpha = {alpha}>(x)", K) for alpha in (0.0, 1.0, 1.5, -0.5)),
    Case("Selu", "y = Selu<alpha = 1.2, gamma = 0.8>(x)", K),
    Case("PRelu", "y = PRelu(x, s)", {"x": apart(2, 3, 2, 2)}, {"s": F(size=(3, 1, 1))}),
    Case("PRelu", "y = PRelu(x, s)", {"x": apart(2, 3, 2, 2)}, {"s": np.full((3, 1, 1), 0.25)}),
    Case("PRelu", "y = PRelu(x, s)", {"x": apart(2, 3)}, feeds={"s": F(size=3)}),
    Case("Clip", "y = Clip(x, l, h)", K, {"l": np.asarray(-0.4), "h": np.asarray(0.45)}),
    Case("Clip", "y = Clip(x, , h)", K, {"h": np.asarray(0.45)}),
    Case("Clip", "y = Clip(x)", K),
    Case("Cast", "z = Cast<to = 1>(x) y = Cast<to = 11>(z)", {"x": (3, 4)}, step=1.0),
    *(Case(op, f"y = {op}(a, b)", BINARY) for op in ("Add", "Sub", "Mul")),
    *(Case(op, f"y = {op}(b, a)", BINARY) for op in ("Add", "Sub", "Mul")),
    Case("Mul", "y = Mul(x, x)", K),
    Case("Div", "y = Div(a, b)", BINARY, positive=True),
    Case("Div", "y = Div(b, a)", BINARY, positive=True),
    Case("Pow", "y = Pow(a, b)", BINARY, positive=True),
    Case("Pow", "y = Pow(x, p)", K, {"p": np.asarray(2.0)}),
    Case("Pow", "y = Pow(x, p)", K, {"p": np.asarray([3.0, 1.0, 2.0, 4.0])}),
    Case("Pow", "y = Pow(x, p)", {"x": (3, 4)}, {"p": np.asarray(-0.5)}, positive=True),
    Case("Pow", "y = Pow(x, p)", {"x": np.asarray([0.0, 0.0, -2.0, 3.0])}, {"p": np.asarray([2.0, 1.0, 3.0, 0.0])}),
    Case("Pow", "y = Pow(x, p)", {"x": np.asarray([0.0, 2.0])}, feeds={"p": np.asarray([0.0, -1.5])}),
    Case("Pow", "y = Pow(x, p)", K, {"p": np.asarray(0.0)}),
    Case("Pow", "y = Pow(x, p)", K, {"p": ints(3)}),
    Case("Pow", "y = Pow(k, x)", {"x": (4,)}, {"k": np.asarray([[0.5], [2.0], [1.0]])}),
    Case("Sum", "y = Sum(a, b, a)", BINARY),
    Case("Mean", "y = Mean(a, b)", BINARY, runtime=1.0),
    Case("Max", "y = Max(a, b, c)", {"a": apart(2, 3, 4), "b": F(size=(3, 1)) / 90, "c": (1,)}),
    Case("Max", "y = Max(a)", {"a": (3,)}),
    Case("Max", "y = Max(a, b)", {"a": apart(2, 3, 4), "b": F(size=(3, 1)) / 90}),
    Case("Min", "y = Min(a, b)", {"a": apart(2, 3, 4), "b": F(size=(3, 1)) / 90}),
    Case("Where", "y = Where(c, a, b)", BINARY, feeds={"c": F(size=(3, 4)) > 0}),
    Case("Where", "y = Where(c, a, b)", BINARY, feeds={"c": F(size=(5, 1, 3, 1)) > 0}),
    Case("Where", "y = Where(c, k, b)", {"b": (3, 1)}, {"k": np.asarray(2.0)}, feeds={"c": F(size=(3, 4)) > 0}),
    Case("Clip", "y = Clip(x, l, )", K, {"l": np.asarray(-0.4)}),
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
    *(
        Case("ReduceLogSum", f"y = ReduceLogSum<keepdims = {keep}>(x{axes})", R, {"k": ints(-1, 0)} if axes else {},
             positive=True)
        for keep, axes in ((1, ", k"), (0, ", k"), (1, ""))
    ),
    *(
        Case("CumSum", f"y = CumSum<exclusive = {i}, reverse = {j}>(x, k)", R, {"k": np.asarray(axis)})
        for i, j, axis in ((0, 0, 1), (1, 0, -1), (0, 1, 0), (1, 1, 2))
    ),
    Case("ReduceSum", "y = ReduceSum<noop_with_empty_axes = 1>(x)", R),
    *(
        Case("ReduceProd", f"y = ReduceProd<keepdims = {keep}>(x, k)",  # no, one and two zeros in a product
             {"x": np.asarray([[1.0, 2.0, 3.0], [0.0, 2.0, 3.0], [0.0, 2.0, 0.0]])}, {"k": ints(-1)})
        for keep in (0, 1)
    ),
    Case("ReduceProd", "y = ReduceProd<axes = [-1, 0]>(x)", R, opset=17),
    Case("ReduceL2", "y = ReduceL2<axes = [-1], keepdims = 0>(x)", R, opset=13),
    Case("ReduceMean", "y = ReduceMean<axes = [1], keepdims = 0>(x)", R, opset=17),
    *(Case(op, f"y = {op}<axis = {axis}>(x)", R) for op in ("Softmax", "LogSoftmax") for axis in (-1, 1, 0)),
]  # fmt: skip
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
    Case("LRN", "y = LRN<size = 5, alpha = 0.5, beta = 0.75>(x)", {"x": (2, 3, 2, 2)}, runtime=0.01),  # wider than C
    Case("LayerNormalization", "y = LayerNormalization<axis = -2>(x, s)", {"x": (2, 3, 4)}, C, opset=17),
    Case("InstanceNormalization", "y = InstanceNormalization<epsilon = 0.1>(x, s, b)", {"x": (2, 4, 5)}, C, opset=17),
    Case("GroupNormalization", "y = GroupNormalization<num_groups = 4, epsilon = 0.1>(x, s, b)", {"x": (2, 4, 3)}, C,
         opset=21, runtime=0.01),
    Case("LpNormalization", "y = LpNormalization<axis = 1>(x)", R),
    Case("LpNormalization", "y = LpNormalization<axis = 1, p = 1>(x)", {"x": apart(2, 3, 4)},
         runtime=0.01),  # the reference leaves out the absolute value
    Case("RMSNormalization", "y = RMSNormalization(x, s)", R, C, opset=23),
    Case("RMSNormalization", "y = RMSNormalization<axis = 1, epsilon = 0.1>(x, s)", R, {"s": F(size=(3, 4))}, opset=23),
    Case("MeanVarianceNormalization", "y = MeanVarianceNormalization<axes = [0, 2, 3]>(x)", {"x": (2, 4, 3, 3)},
         runtime=0.01),
    Case("MeanVarianceNormalization", "y = MeanVarianceNormalization<axes = [-1, 1]>(x)", R, runtime=0.01),
]  # fmt: skip
S = {"x": (3, 4, 5)}
SHAPE = [
    Case("Reshape", "y = Reshape(x, t)", S, {"t": ints(0, -1, 2, 5)}),
    Case("Flatten", "y = Flatten<axis = 2>(x)", S),
    Case("Squeeze", "y = Squeeze(x)", {"x": (3, 1, 5, 1)}),
    Case("Flatten", "y = Flatten<axis = -1>(x)", S),
    Case("Flatten", "y = Flatten<axis = 0>(x)", S),
    Case("Expand", "y = Expand(x, t)", {"x": (3, 1)}, {"t": ints(1, 4)}),
    Case("Tile", "y = Tile(x, r)", {"x": (2, 3)}, {"r": ints(1, 2)}),
    Case("Squeeze", "y = Squeeze(x, t)", {"x": (3, 1, 5, 1)}, {"t": ints(-1, 1)}),
    Case("Unsqueeze", "y = Unsqueeze(x, t)", S, {"t": ints(0, -1)}),
    Case("Transpose", "y = Transpose(x)", S),
    Case("Transpose", "y = Transpose<perm = [1, 2, 0]>(x)", S),
    Case("Expand", "y = Expand(x, t)", {"x": (3, 1)}, {"t": ints(2, 1, 4)}),
    Case("Concat", "y = Concat<axis = -2>(a, b, a)", {"a": (2, 3, 4), "b": (2, 1, 4)}),
    Case("Split", "y, r = Split<axis = -1>(x, t)", S, {"t": ints(2, 3)}),
    Case("Split", "a, y, c = Split<axis = 0>(x, t)", S, {"t": ints(1, 1, 1)}),
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
    *(
        Case("Slice", "y = Slice(x, a, b, k, s)", {"x": (5, 2)}, {n: ints(v) for n, v in zip("abks", row, strict=True)})
        for row in ((-100, 3, 0, 1), (100, -100, 0, -1), (1, 2**62, 0, 3), (4, -4, -2, -3))
    ),
    Case("Slice", "z = Slice(x, a, b) y = Concat<axis = 0>(z, x)", S, {"a": ints(2), "b": ints(1)}),  # nothing
    Case("Pad", 'y = Pad<mode = "wrap">(x, p)', {"x": (3, 4)}, {"p": ints(2, 1, 1, 3)}),
    Case("Pad", 'y = Pad<mode = "edge">(x, p)', {"x": (1, 2, 3, 3)}, {"p": ints(0, 0, 1, 0, 0, 0, 2, 3)}),
    Case("Pad", "y = Pad(x, p)", S, {"p": ints(1, 0, 2, 0, 3, 0)}),
    Case("Pad", "y = Pad(x, p, f)", S, {"p": ints(1, -1, 0, -1, 2, 0), "f": np.asarray(3.0)}, runtime=1.0),
    Case("Pad", 'y = Pad<mode = "reflect">(x, p)', S, {"p": ints(1, 2, 0, 2, 0, 3)}),
    Case("Pad", 'y = Pad<mode = "edge">(x, p, , k)', S, {"p": ints(2, 3), "k": ints(-1)}),
    Case("Gather", "y = Gather<axis = 1>(x, i)", S, {"i": ints(2, 0)}),
    Case("Gather", "y = Gather<axis = -2>(x, i)", S, {"i": np.asarray([[1, -1, 1], [3, 1, 0]])}),
    Case("Gather", "y = Gather(x, i)", S, {"i": np.asarray(1)}),
    Case("Gather", "y = Gather<axis = 1>(x, i)", S, feeds={"i": np.asarray([[1, -1], [3, 1]])}),
    Case("GatherElements", "y = GatherElements<axis = 1>(x, i)", S, feeds={"i": rng.integers(-4, 4, (3, 6, 5))}),
    Case("GatherElements", "y = GatherElements<axis = -1>(x, i)", {"x": (3, 4)},  # the reference wants 3 rows
         {"i": np.asarray([[0, -1, 0], [2, 2, 2]])}, runtime=1.0),
    Case("Gather", "y = Gather<axis = -1>(x, i)", S, feeds={"i": np.asarray(-2)}),
    Case("Gather", "y = Gather<axis = 2>(x, i)", S, feeds={"i": np.asarray([1, 1, 0], np.int32)}),
    Case("GatherND", "y = GatherND(x, i)", S, {"i": np.asarray([[[1, 0], [-1, 3]], [[1, 0], [0, 2]]])}),
    *(Case("GatherND", "y = GatherND<batch_dims = 1>(x, i)", S, {"i": np.asarray(i)})
      for i in ([[2], [-1], [2]], [[[0, 1], [0, 1]], [[3, -1], [2, 2]], [[0, 0], [0, 1]]])),
    Case("GatherND", "y = GatherND<batch_dims = 2>(x, i)", {"x": (2, 3, 4)}, {"i": rng.integers(-4, 4, (2, 3, 1))}),
    *(
        Case("TopK", f"y, i = TopK<axis = {axis}, largest = {large}>(x, k)", {"x": apart(3, 4, 5)}, {"k": ints(2)})
        for axis, large in ((-1, 1), (1, 0), (0, 1))
    ),
    *(
        Case("ScatterElements", f'y = ScatterElements<axis = {axis}, reduction = "{how}">(x, i, u)',
             S | {"u": np.shape(i)}, {"i": np.asarray(i)})
        for axis, how, i in ((1, "none", [[[0, 3], [-2, 1]]]), (-1, "none", [[[4, 0]], [[-2, 1]]]),
                             (0, "add", [[[1, 1], [-2, 0]], [[1, 2], [0, 0]]]))
    ),
    Case(
        "ScatterElements", "y = ScatterElements(k, i, x)", {"x": (1, 2)}, {"i": ints(2, 0)[None], "k": F(size=(3, 4))}
    ),
    *(
        Case("ScatterND", f'y = ScatterND<reduction = "{how}">(x, i, u)', S | {"u": shape}, {"i": np.asarray(i)})
        for how, i, shape in (("none", [[2], [-3]], (2, 4, 5)), ("none", [[[0, 1, 2], [-1, -1, -1]]], (1, 2)),
                              ("add", [[1, 2], [1, 2], [0, 3]], (3, 5)))
    ),
    Case("ScatterND", "y = ScatterND(x, i, k)", S, {"i": ints(1, 0)[None], "k": F(size=(1, 5))}),
    *(
        Case("Trilu", f"y = Trilu<upper = {upper}>(x{k})", S, {"k": np.asarray(-1)} if k else {})
        for upper, k in ((1, ""), (0, ", k"))
    ),
    Case("CenterCropPad", "y = CenterCropPad(x, t)", {"x": (5, 4, 7)}, {"t": ints(2, 7, 7)}),
    Case("CenterCropPad", "y = CenterCropPad<axes = [-1, 0]>(x, t)", {"x": (5, 4, 7)}, {"t": ints(10, 4)}),
    Case("Tile", "y = Tile(x, r)", S, {"r": ints(2, 1, 3)}),
    *(
        Case("DepthToSpace", f'y = DepthToSpace<blocksize = 2, mode = "{m}">(x)', {"x": (2, 8, 3, 2)})
        for m in ("DCR", "CRD")
    ),
    Case("SpaceToDepth", "y = SpaceToDepth<blocksize = 2>(x)", {"x": (2, 3, 4, 6)}),
    *(
        Case("SpaceToDepth", f'y = SpaceToDepth<blocksize = 2, mode = "{m}">(x)', {"x": (2, 3, 4, 6)}, opset=28)
        for m in ("DCR", "CRD")
    ),
]  # fmt: skip
CASES = [*WINDOWS, *LINEAR, *ELEMENTWISE, *REDUCE, *NORM, *SHAPE]
