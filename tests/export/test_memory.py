from __future__ import annotations

import onnx_ir as ir

from export.memory import live_bytes, weight_bytes
from export.passes.shapes import infer_shapes


def graph_of(text: str) -> ir.Graph:
    model = ir.from_onnx_text(text)
    infer_shapes(model)
    return model.graph


def test_the_peak_is_what_lives_at_once() -> None:
    graph = graph_of(
        """<ir_version: 10, opset_import: ["" : 21]>
        g (float[2, 8] x) => (float[2, 8] y) {
            a = Concat <axis = 1> (x, x)
            b = Relu (a)
            y = ReduceSum <keepdims = 1> (b)
        }"""
    )
    # x lives throughout (64), a and b meet at the Relu (128 each)
    assert live_bytes(graph) == 64 + 128 + 128


def test_a_view_takes_nothing_and_keeps_its_source_alive() -> None:
    text = """<ir_version: 10, opset_import: ["" : 21]>
        g (float[2, 8] x) => (float[2, 8] y) {{
            a = Relu (x)
            v = {operator} (a)
            b = Neg (x)
            y = Add (v, b)
        }}"""
    assert live_bytes(graph_of(text.format(operator="Identity"))) == 4 * 64  # x, a, b, y
    assert live_bytes(graph_of(text.format(operator="Abs"))) == 4 * 64  # a is free once v is there


def test_an_output_that_nobody_reads_is_freed_at_once() -> None:
    graph = graph_of(
        """<ir_version: 10, opset_import: ["" : 21]>
        g (float[2, 8] x) => (float[2, 8] y) {
            unused = Concat <axis = 1> (x, x)
            y = Neg (x)
        }"""
    )
    assert live_bytes(graph) == 64 + 128


def test_weights_are_counted_by_their_dtype() -> None:
    graph = graph_of(
        """<ir_version: 10, opset_import: ["" : 21]>
        g (float[2] x) => (float[2] y) <float[2] w = {1, 2}, int64[1] n = {3}> {
            a = Mul (x, w)
            y = Pad (a, n)
        }"""
    )
    assert weight_bytes(graph) == 2 * 4 + 8


def test_what_has_no_shape_counts_nothing() -> None:
    graph = graph_of(
        """<ir_version: 10, opset_import: ["" : 21]>
        g (float[2, 8] x) => (float[2, 8] y) {
            places = NonZero (x)
            y = Neg (x)
        }"""
    )
    assert live_bytes(graph) == 64 + 64
