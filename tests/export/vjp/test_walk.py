"""What the walk does for all rules."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from export.errors import MissingRuleError, ModelError
from export.passes.shapes import infer_shapes
from export.vjp import append_gradient
from tests.export.vjp.checking import Case, check, differentiate, parse, run, shared_weights, value

X = {"x": (3, 4)}


def grown(case: Case) -> ir.Model:
    return differentiate(parse(case, case.draw(np.random.default_rng(0))), list(case.inputs))


@pytest.mark.parametrize(
    "body",
    [
        "a = Sin(x) b = Cos(x) y = Mul(a, b)",  # a diamond
        "a = Sin(x) b = Mul(a, a) c = Add(b, a) y = Add(c, x)",  # one value used five times
        "a = Relu(x) s = Shape(x) z = Reshape(a, s) y = Sin(z)",  # a path through integers
    ],
)
def test_fan_out_is_accumulated(body: str) -> None:
    check(Case("", body, X))


def test_nothing_is_emitted_off_the_path() -> None:
    body = "a = MatMul(x, w) unused = Exp(x) other = Sin(k) b = Mul(a, other) y = Relu(b)"
    model = grown(Case("", body, X, {"w": np.ones((4, 2)), "k": np.ones((3, 2))}))
    emitted = [n.op_type for n in model.graph if str(n.name).startswith("grad/")]
    assert emitted == ["Greater", "Cast", "Mul", "Mul", "MatMul"]


def test_missing_rules_are_listed_at_once() -> None:
    body = "[first] a = Asinh(x) [second] b = Asinh(a) [third] c = Atanh(b) y = Add(c, x)"
    with pytest.raises(MissingRuleError) as caught:
        grown(Case("", body, X))
    message = str(caught.value)
    assert "Asinh (opset 20; 2 nodes: first, second)" in message
    assert "Atanh (opset 20; 1 node: third)" in message
    assert "CONTRIBUTING" in message


def test_an_unknown_domain_is_named() -> None:
    text = """<ir_version: 10, opset_import: ["" : 20, "my.ops" : 1]>
              g (float[3] x) => (float[3] y) { [odd] a = my.ops.Swirl(x) y = Sin(a) }"""
    model = ir.from_proto(onnx.parser.parse_model(text))
    infer_shapes(model)
    model.graph[0].outputs[0].dtype, model.graph[0].outputs[0].shape = ir.DataType.FLOAT, ir.Shape([3])
    with pytest.raises(MissingRuleError, match=r"my\.ops::Swirl \(opset 20; 1 node: odd\)"):
        differentiate(model, ["x"])


@pytest.mark.parametrize("body", ["a = Asinh(k) y = Mul(x, a)", "a = Asinh(x) f = Floor(a) y = Add(f, x)"])
def test_a_missing_rule_that_no_derivative_passes_does_not_matter(body: str) -> None:
    x = np.random.default_rng(0).uniform(0.1, 0.9, (3, 4))
    check(Case("", body, {"x": x}, feeds={"k": np.ones((3, 4))} if "k" in body else {}))


def test_what_a_subgraph_captures_is_seen() -> None:
    text = """<ir_version: 10, opset_import: ["" : 20]> g (double[2] x, bool c) => (double[2] y) {
        [choice] z = If(c) <then_branch = t () => (double[2] u) { u = Sin(x) },
                            else_branch = f () => (double[2] v) { v = Cos(x) }>
        y = Add(z, x) }"""
    model = ir.from_proto(onnx.parser.parse_model(text))
    infer_shapes(model)
    with pytest.raises(MissingRuleError, match=r"If \(opset 20; 1 node: choice\)"):
        differentiate(model, ["x"])


def test_no_derivative_path() -> None:
    with pytest.raises(ModelError, match="does not depend on x differentiably"):
        grown(Case("", "a = Floor(x) y = Sin(a)", X))


def test_each_independent_input_is_named() -> None:
    with pytest.raises(ModelError, match="'y' does not depend on z, w differentiably"):
        grown(Case("", "y = Sin(x) f = Add(z, w)", {"x": (3,), "z": (3,), "w": (3,)}))


def test_an_inner_tensor_and_the_input_it_comes_from() -> None:
    case = Case("", "a = Sin(x) y = Mul(a, x)", {"x": (3,)})
    x, g = np.random.default_rng(0).normal(size=(2, 3))
    model = differentiate(parse(case, {"x": x}), ["a", "x"])
    got = run(model, {"x": x, "cotangent": g})
    np.testing.assert_allclose(got["d_a"], g * x, rtol=1e-12)
    np.testing.assert_allclose(got["d_x"], g * (np.sin(x) + x * np.cos(x)), rtol=1e-12)


def test_whole_numbers_have_no_gradient() -> None:
    case = Case("", "a = Cast<to = 11>(i) y = Sin(a)", {"x": (3,)}, feeds={"i": np.arange(3)})
    with pytest.raises(ModelError, match="'i' is INT64; only floating-point tensors have a gradient"):
        differentiate(parse(case, {"x": np.ones(3)}), ["i"])


def test_a_graph_too_old_for_what_is_emitted() -> None:
    with pytest.raises(ModelError, match=r"uses opset 12; convert it to 13 or later"):
        grown(Case("", "y = Sin(x)", X, opset=12))


def test_unknown_shapes_are_named() -> None:
    model = parse(Case("", "a = Sin(x) y = Cos(a)", X), {"x": np.ones((3, 4))})
    value(model, "a").shape = None
    with pytest.raises(ModelError, match="the shape of 'a' \\(Sin\\) is not known"):
        differentiate(model, ["x"])


def test_an_output_of_unknown_shape() -> None:
    model = parse(Case("", "a = Sin(x) y = Cos(a)", X), {"x": np.ones((3, 4))})
    value(model, "y").shape = None
    wrong = ir.Value(name="c", type=ir.TensorType(ir.DataType.DOUBLE), shape=ir.Shape([3, 4]))
    with pytest.raises(ModelError, match="the shape of 'y' is not known"):
        append_gradient(model.graph, value(model, "y"), [value(model, "x")], wrong)


def test_a_cotangent_of_another_shape() -> None:
    model = parse(Case("", "y = Sin(x)", X), {"x": np.ones((3, 4))})
    wrong = ir.Value(name="c", type=ir.TensorType(ir.DataType.DOUBLE), shape=ir.Shape([3]))
    with pytest.raises(ModelError, match="the cotangent is"):
        append_gradient(model.graph, value(model, "y"), [value(model, "x")], wrong)


REFUSED = [
    ("y = Conv(k, x)", {"x": (2, 3, 3, 3)}, {"k": np.ones((1, 3, 5, 5))}, "input 1 is not supported"),
    ("l = ReduceSum<keepdims = 0>(x) y = Clip(x, l)", X, {}, "input 1 is not supported"),  # the rule left it out
    ("y = Dropout(x, r, t)", X, {"r": np.asarray(0.5), "t": np.asarray(True)}, "training mode"),
    ("y, i = MaxPool<kernel_shape = [2], strides = [3], ceil_mode = 1>(x)", {"x": (1, 1, 6)}, {}, "last window"),
    ("y = Resize<keep_aspect_ratio_policy = \"not_larger\", axes = [2, 3]>(x, , , s)", {"x": (1, 1, 4, 5)},
     {"s": np.asarray([8, 8])}, "aspect ratio"),
    ("y = Resize(x, , s)", {"x": (1, 1, 4, 5)}, {"s": np.asarray([1, 1, 1.1, 2], np.float32)}, "leaves the size"),
    ("y = Resize(x, , , s)", {"x": (1, 2, 4, 5)}, {"s": np.asarray([1, 4, 4, 5])}, "another axis"),
    ('y = Resize<mode = "linear", coordinate_transformation_mode = "align_corners">(x, , s)', {"x": (1, 1, 4, 5)},
     {"s": np.asarray([1, 1, 1.3, 2], np.float32)}, "no whole size"),
    ("y = ScatterND(x, i, u)", {"x": (4,)}, {"i": np.asarray([[1], [-3]]), "u": np.ones(2)}, "indices are equal"),
    ('y = ScatterND<reduction = "mul">(x, i, u)', {"x": (4,)}, {"i": np.asarray([[1]]), "u": np.ones(1)}, "replace or"),
    ("y = Celu<alpha = -1.0>(x)", X, {}, "not positive"),
    ("y = Einsum<equation = \"ii->i\">(x)", {"x": (3, 3)}, {}, "repeats an index"),
    ("a, m, v = LayerNormalization(x, s) y = Add(a, m)", X, {"s": np.ones(4)}, "deviation is used"),
    ("y, m, v = BatchNormalization<training_mode = 1>(x, s, s, s, s)", X, {"s": np.ones(4)}, "training mode"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "inputs", "constants", "message"), REFUSED, ids=[row[0] for row in REFUSED])
def test_what_a_rule_cannot_do_is_refused(
    body: str, inputs: dict[str, tuple[int, ...]], constants: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        grown(Case("", body, inputs, constants))


def test_an_unused_second_output_does_not_matter() -> None:
    check(Case("", "y, i = MaxPool<kernel_shape = [2, 2]>(x) z = Cast<to = 11>(i)", {"x": (2, 3, 3, 3)}))


@pytest.mark.parametrize(
    "body",
    [
        "a = AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x)"
        " y = AveragePool<kernel_shape = [3, 3], strides = [2, 2]>(a)",  # both backwards spread with ones
        "a = Conv<strides = [2, 2]>(x, w) y = ConvTranspose<strides = [2, 2]>(a, v)",  # tied weights
    ],
)
def test_conv_and_conv_transpose_never_share_a_weight(body: str) -> None:
    w = np.random.default_rng(0).normal(size=(3, 2, 3, 3))
    model = check(Case("", body, {"x": (1, 2, 7, 7)}, {"w": w, "v": w.copy()} if "w)" in body else {}))
    assert not shared_weights(model)


def test_a_gradient_that_was_saved_can_be_differentiated_under_the_same_prefix() -> None:
    once = ir.from_proto(ir.to_proto(grown(Case("", "y = Mul(x, x)", {"x": (3,)}))))  # emits grad/Mul_0, as again below
    infer_shapes(once)
    probe = ir.Value(name="probe", type=ir.TensorType(ir.DataType.DOUBLE), shape=ir.Shape([3]))
    once.graph.inputs.append(probe)
    (second,) = append_gradient(once.graph, value(once, "d_x"), [value(once, "x")], probe)
    once.graph.outputs.append(second)
    names = [n.name for n in once.graph]
    assert len(set(names)) == len(names)
    x, g, v = np.random.default_rng(0).normal(size=(3, 3))
    np.testing.assert_allclose(run(once, {"x": x, "cotangent": g, "probe": v})[str(second.name)], 2 * g * v, rtol=1e-12)


SMOOTH = [
    "a = Conv<pads = [1, 1, 1, 1]>(x, w) b = Tanh(a) c = Mul(b, b) y = ReduceSum<keepdims = 0>(c)",
    "a = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w) b = Sigmoid(a) c = AveragePool<kernel_shape = [2, 2]>(b)"
    " d = Exp(c) y = ReduceMean<keepdims = 0>(d)",
    "a = ConvTranspose<strides = [2, 2]>(x, v) b = Softmax<axis = 1>(a) c = Mul(a, b) y = ReduceSum<keepdims = 0>(c)",
    'a = LayerNormalization(x, s) b = Gelu<approximate = "tanh">(a) c = MatMul(b, m)'
    " y = ReduceSumSquare<keepdims = 0>(c)",
]


@pytest.mark.parametrize("body", SMOOTH)
def test_the_derivative_of_the_derivative(body: str) -> None:
    rng = np.random.default_rng(1)
    drawn = {"w": (3, 2, 3, 3), "v": (2, 3, 3, 3), "s": (4,), "m": (4, 3)}
    constants = {n: rng.normal(size=shape) for n, shape in drawn.items() if f" {n})" in body}
    case = Case("", body, {"x": (1, 2, 4, 4)}, constants)
    rng = np.random.default_rng(0)
    x, direction, probe = (rng.normal(size=(1, 2, 4, 4)) for _ in range(3))
    first = differentiate(parse(case, {"x": x}), ["x"])
    gradient = next(o for o in first.graph.outputs if o.name == "d_x")
    inner = ir.Value(name="probe", type=ir.TensorType(ir.DataType.DOUBLE), shape=gradient.shape)
    first.graph.inputs.append(inner)
    infer_shapes(first)
    (second,) = append_gradient(first.graph, gradient, [value(first, "x")], inner, prefix="grad2")
    second.name = "d2_x"
    first.graph.outputs.append(second)
    one = np.asarray(1.0)

    def at(point: np.ndarray) -> dict[str, np.ndarray]:
        return run(first, {"x": point, "cotangent": one, "probe": probe})

    step = 1e-6
    numeric = ((at(x + step * direction)["d_x"] - at(x - step * direction)["d_x"]) / (2 * step) * probe).sum()
    np.testing.assert_allclose((at(x)["d2_x"] * direction).sum(), numeric, rtol=1e-6)
    assert not shared_weights(first)
