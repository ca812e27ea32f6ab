"""The cone: a narrowed graph computes what the whole one does, and reads just what can move the result."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from export.cone import Cone
from export.cone.regions import Region, shape_of, sizes, whole
from export.cone.rules import RULES, kept_axes
from export.passes.constants import fold_constants
from export.passes.shapes import infer_shapes

SIDE = 12
RNG = np.random.default_rng(0)
CONSTANTS = {
    "w": RNG.uniform(0.5, 1, (2, 2, 3, 3)),
    "v": RNG.uniform(0.5, 1, (2, 2, 1, 1)),
    "d": RNG.uniform(0.5, 1, (2, 1, 3, 3)),
    "t": RNG.uniform(0.5, 1, (2, 2, 4, 4)),
    "matrix": RNG.uniform(0.5, 1, (2, 2)),
    "one": np.ones(2),
    "zero": np.zeros(2),
    "map": RNG.uniform(0.5, 1, (1, 2, SIDE, SIDE)),
    "row": RNG.uniform(0.5, 1, (SIDE,)),
    "half": np.asarray(0.5),
    "two": np.asarray(2.0),
    "pads": np.asarray([0, 0, 2, 0, 0, 0, 0, 1]),
    "twice": np.asarray([1, 1, 2, 2], np.float32),
    "sized": np.asarray([1, 2, 3 * SIDE, 2 * SIDE]),
    "swap": np.asarray([1, 0]),
    "grouped": np.asarray([1, 2, 1, SIDE, SIDE]),
    "back": np.asarray([1, 2, SIDE, SIDE]),
    "flat": np.asarray([1, 2 * SIDE * SIDE]),
    "first": np.asarray([1]),
    "last": np.asarray([3]),
    "above": np.asarray(1.0),
}

CASES = {
    "conv": "y = Conv<pads = [1, 1, 1, 1]>(x, w)",
    "strided, asymmetric": "y = Conv<pads = [0, 1, 1, 0], strides = [2, 2]>(x, w)",
    "strided, one by one": "y = Conv<strides = [2, 2]>(x, v)",
    "dilated": "y = Conv<dilations = [2, 1]>(x, w)",
    "same lower": 'y = Conv<auto_pad = "SAME_LOWER", strides = [2, 2]>(x, w)',
    "same upper": 'y = Conv<auto_pad = "SAME_UPPER", strides = [2, 2]>(x, w)',
    "two convolutions": "a = Conv<pads = [1, 1, 1, 1]>(x, w) y = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(a, w)",
    "depthwise then pool": "c = Conv<group = 2>(x, d) y = MaxPool<kernel_shape = [3, 2], strides = [2, 1]>(c)",
    "max, ceil": "y = MaxPool<kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1, pads = [1, 0, 0, 0]>(x)",
    "average": "y = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(x)",
    "average, padded": "y = AveragePool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(x)",
    "average, counting pads": (
        "y = AveragePool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1], count_include_pad = 1>(x)"
    ),
    "transposed": "y = ConvTranspose<strides = [2, 2], pads = [1, 1, 1, 1]>(x, t)",
    "transposed, stride one": "y = ConvTranspose<pads = [1, 1, 1, 1]>(x, w)",
    "transposed, gaps": "y = ConvTranspose<strides = [3, 2], output_padding = [1, 0]>(x, v)",
    "transposed, dilated": "y = ConvTranspose<strides = [2, 1], dilations = [1, 2], output_padding = [1, 0]>(x, w)",
    "padded": "p = Pad(x, pads) y = MaxPool<kernel_shape = [3, 3], strides = [2, 2]>(p)",
    "two branches": "a = Conv<pads = [1, 1, 1, 1]>(x, w) b = Relu(x) y = Add(a, b)",
    "concatenated": "a = Conv<pads = [1, 1, 1, 1]>(x, w) y = Concat<axis = 1>(a, x)",
    "split": "a, b = Split<axis = 1, num_outputs = 2>(x) y = Mul(a, b)",
    "squeeze and excite": "m = GlobalAveragePool(x) y = Mul(x, m)",
    "a constant map": "y = Mul(x, map)",
    "a constant row": "a = Mul(x, row) y = Conv<pads = [1, 1, 1, 1]>(a, w)",
    "clipped": "a = Conv(x, w) y = Clip(a, half, two)",
    "nearest": 'y = Resize<coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">(x, , twice)',
    "nearest to sizes": "y = Resize(x, , , sized)",
    "batchnorm": "a = Conv(x, w) y = BatchNormalization(a, one, zero, zero, one)",
    "lrn": "y = LRN<size = 3>(x)",
    "channels reversed": "a = Gather<axis = 1>(x, swap) y = Conv(a, w)",
    "last axis": (
        "a = Transpose<perm = [0, 2, 3, 1]>(x) n = LayerNormalization<axis = -1>(a, one, zero) l = MatMul(n, matrix) "
        "g = Gelu(l) y = Transpose<perm = [0, 3, 1, 2]>(g)"
    ),
    "shuffled": (
        "a = Reshape(x, grouped) b = Transpose<perm = [0, 2, 1, 3, 4]>(a) c = Reshape(b, back) "
        "y = Conv<pads = [1, 1, 1, 1]>(c, w)"
    ),
    "channel mean": "a = ReduceMean<keepdims = 1>(x, first) y = Mul(a, x)",
    "row mean": "a = ReduceMean<keepdims = 1>(x, last) y = Add(a, x)",
    "softmax over channels": "y = Softmax<axis = 1>(x)",
    "dropout": "a = Dropout(x) y = Conv(a, w)",
    "the last one ends it": "a = Reshape(x, flat) b = Relu(a) y = Reshape(b, back)",
    "compared": "a = Greater(x, above) b = Neg(x) y = Where(a, x, b)",
}
LESS_THAN_EXACT = {"transposed, gaps", "the last one ends it"}
"""Positions that nothing moves still need a position to compute them from; where the cone ends, all is read."""


def model_of(name: str) -> tuple[ir.Model, onnx.ModelProto]:
    signature = f"g (float[1,2,{SIDE},{SIDE}] x) => (float[a,b,c,d] y)"
    text = f'<ir_version: 10, opset_import: ["" : 20]> {signature} {{ {CASES[name]} }}'
    proto = onnx.parser.parse_model(text)
    for dim in proto.graph.output[0].type.tensor_type.shape.dim:
        dim.ClearField("dim_param")
    used = {i for node in proto.graph.node for i in node.input}
    for constant, array in CONSTANTS.items():
        if constant in used:
            array = array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
            proto.graph.initializer.append(onnx.numpy_helper.from_array(array, constant))
    model = ir.from_proto(proto)
    infer_shapes(model)
    fold_constants(model)
    return model, proto


def run(proto: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(proto, full_check=True)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def cut(x: np.ndarray, region: Region) -> np.ndarray:
    return np.ascontiguousarray(x[tuple(slice(*span) for span in region)])


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("where", ["centre", "corner", "end", "part"])
def test_the_same_values(name: str, where: str) -> None:
    model, proto = model_of(name)
    x = RNG.normal(size=(1, 2, SIDE, SIDE)).astype(np.float32)
    full = run(proto, x)
    height, width = full.shape[2:]
    rows, columns = {
        "centre": ((height // 2, height // 2 + 1), (width // 2, width // 2 + 1)),
        "corner": ((0, 1), (0, 1)),
        "end": ((height - 1, height), (width - 2, width)),
        "part": ((1, height - 1), (2, 4)),
    }[where]
    region = (*whole(full.shape[:2]), rows, columns)
    cone = Cone(model.graph, model.graph.outputs[0], region)
    cone.narrow(model.graph.inputs[0])
    seen = cone.needed(model.graph.inputs[0])
    assert shape_of(model.graph.inputs[0]) == sizes(seen)
    assert shape_of(model.graph.outputs[0]) == sizes(region)
    assert model.graph.outputs[0].name == "y"
    np.testing.assert_allclose(run(ir.to_proto(model), cut(x, seen)), cut(full, region), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in CASES if name not in LESS_THAN_EXACT])
def test_it_reads_what_can_move_the_result(name: str) -> None:
    """Change one pixel at a time and see what moves."""
    model, proto = model_of(name)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    base = 1 + RNG.random((1, 2, SIDE, SIDE)).astype(np.float32) / 10
    before = np.asarray(session.run(None, {"x": base})[0])
    row, column = before.shape[2] // 2, before.shape[3] // 2
    moved = np.zeros((SIDE, SIDE), bool)
    for i in range(SIDE):
        for j in range(SIDE):
            for amount in (100, -100):
                changed = base.copy()
                changed[:, :, i, j] += amount * np.asarray([1, 0.5])
                after = np.asarray(session.run(None, {"x": changed})[0])
                moved[i, j] |= bool((after != before)[0, :, row, column].any())
    region = (*whole(before.shape[:2]), (row, row + 1), (column, column + 1))
    seen = Cone(model.graph, model.graph.outputs[0], region).needed(model.graph.inputs[0])
    expected = [
        (int(used[0]), int(used[-1]) + 1) for used in (moved.any(axis=1).nonzero()[0], moved.any(axis=0).nonzero()[0])
    ]
    assert list(seen[2:]) == expected


def test_every_rule_of_its_own_has_a_case() -> None:
    functions = {rule: op for op, rule in RULES.items()}
    ops = {node.op_type for name in CASES for node in model_of(name)[0].graph}
    untested = [op for rule, op in functions.items() if not any(RULES.get(used) is rule for used in ops)]
    assert not untested


def test_an_unknown_operator_ends_the_cone() -> None:
    model, _ = model_of("squeeze and excite")
    y, x = model.graph.outputs[0], model.graph.inputs[0]
    assert Cone(model.graph, y, (*whole((1, 2)), (3, 4), (3, 4))).needed(x) == whole(shape_of(x))


@pytest.mark.parametrize(
    ("old", "new", "kept"),
    [
        ((1, 4, 7, 5), (1, 2, 2, 7, 5), [(0, 0), (2, 3), (3, 4)]),
        ((1, 2, 2, 7, 5), (1, 4, 7, 5), [(0, 0), (3, 2), (4, 3)]),
        ((2, 3, 4), (2, 12), [(0, 0)]),
        ((2, 3, 4), (6, 4), [(2, 1)]),
        ((4, 4), (4, 4), [(0, 0), (1, 1)]),
        ((2, 6), (3, 4), []),
        ((1, 6, 4), (6, 1, 4), [(1, 0), (2, 2)]),
    ],
)
def test_axes_that_a_reshape_leaves_alone(
    old: tuple[int, ...], new: tuple[int, ...], kept: list[tuple[int, int]]
) -> None:
    assert kept_axes(old, new) == kept
