"""Receptive fields against brute force: change one pixel at a time and see what moves."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from export.manifest import Box
from export.passes.constants import fold_constants
from export.passes.shapes import infer_shapes
from export.receptive import receptive_field

SIDE = 12
ONES = {
    "w": np.ones((2, 2, 3, 3), np.float32),
    "d": np.ones((2, 1, 3, 3), np.float32),
    "t": np.ones((2, 2, 4, 4), np.float32),
}

CASES = {
    "conv": "y = Conv<pads = [1, 1, 1, 1]>(x, w)",
    "strided, asymmetric": "y = Conv<pads = [0, 1, 1, 0], strides = [2, 2]>(x, w)",
    "dilated": "y = Conv<dilations = [2, 1]>(x, w)",
    "same lower": 'y = Conv<auto_pad = "SAME_LOWER", strides = [2, 2]>(x, w)',
    "depthwise then pool": "c = Conv<group = 2>(x, d) y = MaxPool<kernel_shape = [3, 2], strides = [2, 1]>(c)",
    "average": "y = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(x)",
    "transposed": "y = ConvTranspose<strides = [2, 2], pads = [1, 1, 1, 1]>(x, t)",
    "padded": "p = Pad(x, q) y = Conv<pads = [0, 0, 0, 0]>(p, w)",
    "two branches": "a = Conv<pads = [1, 1, 1, 1]>(x, w) b = Relu(x) y = Add(a, b)",
    "squeeze and excite": "m = GlobalAveragePool(x) y = Mul(x, m)",
    "nearest": 'y = Resize<coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">(x, , s)',
}


@pytest.mark.parametrize("name", CASES)
def test_exact(name: str) -> None:
    signature = f"g (float[1,2,{SIDE},{SIDE}] x) => (float[a,b,c,d] y)"
    text = f'<ir_version: 10, opset_import: ["" : 20]> {signature} {{ {CASES[name]} }}'
    proto = onnx.parser.parse_model(text)
    for dim in proto.graph.output[0].type.tensor_type.shape.dim:
        dim.ClearField("dim_param")
    constants = ONES | {"q": np.asarray([0, 0, 2, 0, 0, 0, 0, 1], np.int64), "s": np.asarray([1, 1, 2, 2], np.float32)}
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in constants.items() if n in CASES[name])
    model = ir.from_proto(proto)
    infer_shapes(model)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    base = 1 + np.random.default_rng(0).random((1, 2, SIDE, SIDE)).astype(np.float32) / 10
    before = np.asarray(session.run(None, {"x": base})[0])
    row, column = before.shape[2] // 2, before.shape[3] // 2
    seen = np.zeros((SIDE, SIDE), bool)
    for i in range(SIDE):
        for j in range(SIDE):
            changed = base.copy()
            changed[:, :, i, j] += 100
            after = np.asarray(session.run(None, {"x": changed})[0])
            seen[i, j] = bool((after != before)[0, :, row, column].any())
    fold_constants(model)
    box = receptive_field(model.graph, model.graph.outputs[0], (row, column), model.graph.inputs[0])
    rows, columns = np.nonzero(seen.any(axis=1))[0], np.nonzero(seen.any(axis=0))[0]
    assert box == Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)
