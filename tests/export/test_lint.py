"""The lint names what TensorRT refuses, and passes what the step graphs are made of."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest

from export.lint import lint
from export.passes.constants import fold_constants
from export.passes.shapes import infer_shapes

REFUSED = {
    "y = Col2Im(x, n, n)": "not on the list",
    "a, k = MaxPool<kernel_shape = [2, 2]>(x) y = Add(k, k)": "indices of the maximum",
    "y = MaxPool<kernel_shape = [2, 2], dilations = [2, 2]>(x)": "dilated pool",
    "y = LRN<size = 4>(x)": "even size",
    "y = ConvTranspose<strides = [2, 2], dilations = [2, 2]>(x, w)": "stride and dilation",
    "s = Shape(x) y = Reshape(v, s)": "input 1 is computed at run time",
    'y = ScatterElements<reduction = "add">(x, i, x)': "scatter with a reduction",
    'y = Resize<antialias = 1, mode = "linear">(x, , h)': "antialias",
    "y = foreign.Thing(x)": "domain 'foreign' is not standard",
}
GOOD = [
    "c = Conv<pads = [1, 1, 1, 1]>(x, w) r = Relu(c) y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(r)",
    "y = ConvTranspose<strides = [2, 2]>(x, w)",
    "y = LRN<size = 5>(x)",
]


def refusals(body: str) -> list[str]:
    text = (
        '<ir_version: 10, opset_import: ["" : 20, "foreign" : 1]> '
        "g (float[1,3,8,8] x, float[192] v, int64[1,3,8,8] i, int64[2] n) => (float y) "
        f"<float[3,3,3,3] w = {{{', '.join(['1'] * 81)}}}, float[4] h = {{1, 1, 0.5, 0.5}}> {{ {body} }}"
    )
    proto = onnx.parser.parse_model(text)
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    model = ir.from_proto(proto)
    infer_shapes(model)
    if "Shape(" not in body:
        fold_constants(model)
    return [str(refusal) for refusal in lint(model)]


@pytest.mark.parametrize("body", REFUSED)
def test_refused(body: str) -> None:
    found = refusals(body)
    assert any(REFUSED[body] in line for line in found), found


@pytest.mark.parametrize("body", GOOD)
def test_passed(body: str) -> None:
    assert refusals(body) == []
