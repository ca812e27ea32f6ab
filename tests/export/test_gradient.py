"""The gradient compiler as a tool: stand-alone models, second order, old and new opsets, and every refusal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from export.errors import MissingRuleError, ModelError
from export.gradient import gradient_model, node_counts
from export.network import LAYERS_KEY
from export.reference import evaluate
from export.vjp import registry
from tests.export.vjp.checking import Case, check

RNG = np.random.default_rng(0)
BODY = "h = MatMul(x, w) t = Tanh(h) s = Mul(t, t) y = ReduceSum<keepdims = 0>(s)"


def parse(
    body: str, inputs: str = "float[2,3] x", outputs: str = "float[] y", opset: int = 20, **weights: np.ndarray
) -> ir.Model:
    text = f'<ir_version: 8, opset_import: ["" : {opset}]> g ({inputs}) => ({outputs}) {{ {body} }}'
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(np.asarray(a), n) for n, a in weights.items())
    return ir.from_proto(proto)


def names(values: Sequence[ir.Value]) -> list[str | None]:
    return [value.name for value in values]


def weight() -> np.ndarray:
    return RNG.normal(size=(3, 4)).astype(np.float32)


def test_it_takes_a_cotangent_and_returns_value_and_gradient() -> None:
    w = weight()
    made = gradient_model(parse("y = MatMul(x, w)", outputs="float[2,4] y", w=w))
    assert names(made.graph.inputs) == ["x", "cotangent"]
    assert names(made.graph.outputs) == ["y", "d_y/d_x"]
    x, g = RNG.normal(size=(2, 3)), RNG.normal(size=(2, 4))
    out = evaluate(made, {"x": x, "cotangent": g})
    np.testing.assert_allclose(out["y"], x @ w, rtol=1e-12)
    np.testing.assert_allclose(out["d_y/d_x"], g @ w.T, rtol=1e-12)


def test_the_cotangent_can_be_fixed_and_any_tensor_chosen() -> None:
    model = parse(BODY, w=weight())
    made = gradient_model(model, "t", ["h"], cotangent="ones")
    assert names(made.graph.inputs) == ["x"]
    out = evaluate(made, {"x": RNG.normal(size=(2, 3))})
    np.testing.assert_allclose(out["d_t/d_h"], 1 - out["t"] ** 2, rtol=1e-12)
    assert names(model.graph.outputs) == ["y"]  # the model that was given is not changed


def test_several_inputs() -> None:
    model = parse("y = Mul(a, b)", "float[2,3] a, float[3] b", "float[2,3] y")
    a, b, g = RNG.normal(size=(2, 3)), RNG.normal(size=3), RNG.normal(size=(2, 3))
    out = evaluate(gradient_model(model, wrt=["b", "a"]), {"a": a, "b": b, "cotangent": g})
    np.testing.assert_allclose(out["d_y/d_a"], g * b, rtol=1e-12)
    np.testing.assert_allclose(out["d_y/d_b"], (g * a).sum(0), rtol=1e-12)


def test_its_own_output_can_be_differentiated_again() -> None:
    """A Hessian-vector product is the gradient of the gradient, with the vector as its cotangent."""
    w = weight()
    first = gradient_model(parse(BODY, w=w), cotangent="ones")
    second = gradient_model(first, "d_y/d_x", ["x"])
    x, v = RNG.normal(size=(2, 3)), RNG.normal(size=(2, 3))
    product = evaluate(second, {"x": x, "cotangent": v})["d_d_y/d_x/d_x"]
    point = torch.from_numpy(x)
    _, exact = torch.autograd.functional.hvp(
        lambda z: torch.tanh(z @ torch.from_numpy(w).double()).square().sum(), point, torch.from_numpy(v)
    )
    np.testing.assert_allclose(product, exact.numpy(), rtol=1e-10)
    third = gradient_model(second, "d_d_y/d_x/d_x", ["x"], cotangent="ones")
    assert "d_d_d_y/d_x/d_x/d_x" in names(third.graph.outputs)


def test_second_order_of_a_convolutional_network() -> None:
    w = RNG.normal(size=(4, 2, 3, 3)).astype(np.float32)
    body = (
        "c = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(x, w) a = Sigmoid(c) p = GlobalAveragePool(a) y = ReduceSum(p)"
    )
    model = parse(body, "float[1,2,6,6] x", "float[1,1,1,1] y", w=w)
    second = gradient_model(gradient_model(model, cotangent="ones"), "d_y/d_x", ["x"])
    x, v = (RNG.normal(size=(1, 2, 6, 6)) for _ in range(2))
    product = evaluate(second, {"x": x, "cotangent": v})["d_d_y/d_x/d_x"]

    def function(z: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(F.conv2d(z, torch.from_numpy(w).double(), stride=2, padding=1)).mean(dim=(2, 3)).sum()

    _, exact = torch.autograd.functional.hvp(function, torch.from_numpy(x), torch.from_numpy(v))
    np.testing.assert_allclose(product, exact.numpy(), rtol=1e-7, atol=1e-9)  # 1 / (H W) is a float32 constant


@pytest.mark.parametrize("opset", [11, 12, 13, 17, 18, 20, 21, onnx.defs.onnx_opset_version()])
def test_opsets(opset: int) -> None:
    axes = "axes = [1], keepdims = 0" if opset < 18 else "keepdims = 0"
    mean = f"m = ReduceMean<{axes}>(r)" if opset < 18 else f"m = ReduceMean<{axes}>(r, one)"
    squeeze = "q = Unsqueeze<axes = [0]>(m)" if opset < 13 else "q = Unsqueeze(m, zero)"
    weights = {"w": weight()} | ({"one": np.asarray([1])} if opset >= 18 else {})
    weights |= {"zero": np.asarray([0])} if opset >= 13 else {}
    model = parse(
        f"h = MatMul(x, w) r = Relu(h) {mean} {squeeze} y = Exp(q)", outputs="float[1,2] y", opset=opset, **weights
    )
    made = gradient_model(model)
    assert made.graph.opset_imports[""] == max(opset, 13)
    x, g = RNG.normal(size=(2, 3)), RNG.normal(size=(1, 2))
    out = evaluate(made, {"x": x, "cotangent": g})
    point = torch.from_numpy(x).requires_grad_()
    y = torch.relu(point @ torch.from_numpy(weights["w"]).double()).mean(dim=1)[None].exp()
    (exact,) = torch.autograd.grad((y * torch.from_numpy(g)).sum(), point)
    np.testing.assert_allclose(out["d_y/d_x"], exact.numpy(), rtol=1e-9)


def test_an_old_model_lists_its_weights_among_its_inputs() -> None:
    w = weight()
    proto = ir.to_proto(
        parse("h = MatMul(x, w) y = Reshape(h, s)", outputs="float[8] y", opset=11, w=w, s=np.asarray([8]))
    )
    proto.ir_version = 3
    proto.graph.input.extend(
        [
            onnx.helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, [3, 4]),
            onnx.helper.make_tensor_value_info("s", onnx.TensorProto.INT64, [1]),
        ]
    )
    made = gradient_model(ir.from_proto(proto))
    assert names(made.graph.inputs) == ["x", "cotangent"]
    g = RNG.normal(size=8)
    out = evaluate(made, {"x": RNG.normal(size=(2, 3)), "cotangent": g})
    np.testing.assert_allclose(out["d_y/d_x"], g.reshape(2, 4) @ w.T, rtol=1e-12)


def test_names_do_not_clash() -> None:
    model = parse("y = Mul(cotangent, cotangent)", "float[3] cotangent", "float[3] y")
    made = gradient_model(model)
    assert names(made.graph.inputs) == ["cotangent", "cotangent_2"]
    twice = gradient_model(made, "d_y/d_cotangent", "cotangent")
    assert names(twice.graph.inputs) == ["cotangent", "cotangent_2", "cotangent_3"]
    again = gradient_model(made, "y", "cotangent", cotangent="ones")  # its old gradient is dropped, its name is free
    assert names(again.graph.outputs) == ["y", "d_y/d_cotangent"]
    taken = ir.to_proto(parse("y = Exp(x) t = Neg(y) z = Add(y, t)", outputs="float[2,3] z"))
    taken.graph.node[1].output[0] = taken.graph.node[2].input[1] = "d_z/d_x"
    assert names(gradient_model(ir.from_proto(taken)).graph.outputs) == ["z", "d_z/d_x_2"]


def test_equal_gradients_are_outputs_of_their_own() -> None:
    model = parse("y = Add(a, b)", "float[2] a, float[2] b", "float[2] y")
    made = gradient_model(model, wrt=("a", "b", "a"))
    assert names(made.graph.outputs) == ["y", "d_y/d_a", "d_y/d_b"]
    session = onnxruntime.InferenceSession(ir.to_proto(made).SerializeToString(), providers=["CPUExecutionProvider"])
    g = np.asarray([2, 3], np.float32)
    for array in session.run(["d_y/d_a", "d_y/d_b"], {"a": g, "b": g, "cotangent": g}):
        np.testing.assert_array_equal(array, g)


def test_the_graph_is_clean() -> None:
    """Constants are folded, equal nodes merged, unused nodes and weights dropped, BatchNorm left alone."""
    body = """
        two = Constant<value = float {2.0}>() four = Mul(two, two) h = Mul(x, four) a = Exp(h) b = Exp(h) c = Add(a, b)
        y = BatchNormalization(c, s, o, o, s) z = Tanh(c) q = Mul(z, unused)
    """
    weights = {"s": np.ones(3, np.float32), "o": np.zeros(3, np.float32), "unused": np.ones(3, np.float32)}
    model = parse(body, outputs="float[2,3] y, float[2,3] q", **weights)
    model.metadata_props.update({LAYERS_KEY: "{}", "licence": "MIT"})
    made = gradient_model(model, "y")
    kinds = [node.op_type for node in made.graph]
    assert (kinds.count("Exp"), kinds.count("BatchNormalization")) == (1, 1)
    assert {"Tanh", "Constant"}.isdisjoint(kinds)
    assert "unused" not in made.graph.initializers
    assert node_counts(made) == (4, len(kinds) - 4)
    assert dict(made.metadata_props) == {"licence": "MIT"}  # the layers have other names now
    x, g = RNG.normal(size=(2, 3)), RNG.normal(size=(2, 3))
    out = evaluate(made, {"x": x, "cotangent": g})
    np.testing.assert_allclose(out["d_y/d_x"], 8 * np.exp(4 * x) * g / np.sqrt(1 + 1e-5), rtol=1e-6)


def test_functions_of_the_model_are_inlined() -> None:
    proto = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17, "mine" : 1]>
        g (float[2] x) => (float[2] y) { y = mine.square(x) }
        <domain: "mine", opset_import: ["" : 17]> square (a) => (b) { b = Mul(a, a) }"""
    )
    x, g = RNG.normal(size=2), RNG.normal(size=2)
    out = evaluate(gradient_model(ir.from_proto(proto)), {"x": x, "cotangent": g})
    np.testing.assert_allclose(out["d_y/d_x"], 2 * x * g, rtol=1e-12)


def test_a_branch_that_the_shape_decides_is_differentiated() -> None:
    """PyTorch's older exporter writes squeeze as an If over the shape."""
    body = """
        s = Shape(x) n = Gather(s, zero) c = Equal(n, one)
        r = If (c) <then_branch = t () => (float[2,3] u) { u = Exp(x) }, else_branch = e () => (float[2,3] u) {
            k = Constant<value = float {3.0}>() m = Mul(x, k) u = Mul(m, m) }>
        y = Neg(r)
    """
    model = parse(body, "float[N,3] x", "float[a,b] y", zero=np.asarray(0), one=np.asarray(1))
    made = gradient_model(model, shapes={"x": (2, 3)})
    assert "If" not in [node.op_type for node in made.graph]
    x, g = RNG.normal(size=(2, 3)), RNG.normal(size=(2, 3))
    np.testing.assert_allclose(evaluate(made, {"x": x, "cotangent": g})["d_y/d_x"], -18 * x * g, rtol=1e-12)


def test_what_the_gradient_does_not_pass_is_not_refused() -> None:
    body = f"{CONDITION} s = If (b) <then_branch = t () => (float v) {{ v = Constant<value = float {{2.0}}>() }}, "
    body += "else_branch = e () => (float v) { v = Constant<value = float {3.0}>() }> y = Mul(x, s)"
    x, g = (RNG.normal(size=(2, 3)).astype(np.float32) for _ in range(2))
    made = gradient_model(parse(body, outputs="float[2,3] y"))
    out = evaluate(made, {"x": x, "cotangent": g}, double=False)
    np.testing.assert_allclose(out["d_y/d_x"], 3 * g, rtol=1e-6)
    quantised = parse(f"{QDQ} z = Tanh(d) y = Exp(x)", outputs="float[2,3] y, float[2,3] z", **SCALE)
    assert "QuantizeLinear" not in [node.op_type for node in gradient_model(quantised, "y").graph]


def test_free_dimensions_are_given() -> None:
    model = parse("y = MatMul(x, w)", "float[N,3] x", "float[N,4] y", w=weight())
    with pytest.raises(ModelError) as caught:
        gradient_model(model)
    assert str(caught.value) == (
        "input 'x' has free dimensions [N, 3]: fix them, for example with --shape x=1x3 "
        "(in Python shapes={'x': (1, 3)})"
    )
    made = gradient_model(model, shapes={"x": [5, 3]})
    assert made.graph.outputs[1].shape == ir.Shape((5, 3))
    for wrong in ([5, 4], [5], [5, 3, 1]):
        with pytest.raises(ModelError, match=r"has the shape \[N, 3\] and cannot be .*; give numbers for its free dim"):
            gradient_model(model, shapes={"x": wrong})
    with pytest.raises(ModelError, match="no input 'z'; its inputs are x"):
        gradient_model(model, shapes={"z": [1]})


CONDITION = "c = ReduceMax<keepdims = 0>(x) b = Greater(c, c)"
QDQ = "q = QuantizeLinear(x, s, z0) d = DequantizeLinear(q, s, z0)"
SCALE = {"s": np.float32(0.1), "z0": np.uint8(3)}
LOOP = """y = Loop (n, , x) <body = b (int64 i, bool go, float[2,3] v) => (bool on, float[2,3] w) {
    on = Identity(go) w = Exp(v) }>"""
SEQUENCE = "q = SequenceConstruct(x, x) y = SequenceAt(q, k)"
REFUSED = {
    "unknown tensor": (BODY, {"of": "tt"}, "no tensor 'tt'; did you mean t"),
    "nothing near": (BODY, {"of": "elephant"}, "no tensor 'elephant'; its outputs are y"),
    "unknown input": (BODY, {"wrt": "elephant"}, "no tensor 'elephant'; its inputs are x"),
    "of an input": (BODY, {"of": "x"}, "'x' is not computed from the inputs; choose another tensor, for example y"),
    "wrt a weight": (BODY, {"wrt": ["x", "w"]}, "'w' is a weight or constant, and those are frozen; make it an input"),
    "two outputs": (f"{BODY} z = Relu(t)", {}, r"2 outputs \(y, z\); say which tensor with of"),
    "two inputs": ("y = Mul(x, v)", {}, r"2 floating-point inputs \(x, v\); say which tensor with wrt"),
    "wrong cotangent": (BODY, {"cotangent": "twos"}, "the cotangent is 'input' or 'ones', not 'twos'"),
    "not dependent": ("h = Floor(x) y = Exp(h)", {}, "does not depend on x differentiably; choose another"),
    "not reached": (BODY, {"of": "h", "wrt": "s"}, "'h' does not depend on s; choose another output or input"),
    "integers": ("y = Exp(x) n = Cast<to = 7>(x)", {"of": "n"}, "'n' is INT64; only floating-point tensors"),
    "no rule": ("h = Acosh(x) y = Exp(h)", {}, "no vjp rule for Acosh"),
    "another domain": (
        "h = com.microsoft.QuickGelu(x) y = Exp(h)",
        {},
        "com.microsoft is not a standard domain: use the",
    ),
    "a shape of values": (
        "n = NonZero(x) g = GatherND(x, n) y = Exp(g)",
        {},
        "the shape of 'y' depends on values, not only on the inputs' shapes; choose a tensor of a fixed shape",
    ),
    "quantised": (
        f"{QDQ} y = Exp(d)",
        {},
        "QuantizeLinear node 'q' lies between x and y, and a quantised model has no",
    ),
    "partly quantised": (f"{QDQ} y = Add(x, d)", {}, "differentiate the model as it was before quantisation"),
    "a quantised operator": (
        "q = QuantizeLinear(x, s, z0) r = QLinearMatMul(q, s, z0, q, s, z0, s, z0) y = DequantizeLinear(r, s, z0)",
        {},
        "a quantised model has no useful gradient",
    ),
    "control flow": (
        f"{CONDITION} y = If (b) <then_branch = t () => (float[2,3] u) {{ u = Exp(x) }}, "
        "else_branch = e () => (float[2,3] u) { u = Neg(x) }>",
        {},
        "If node 'y' lies between x and y, and control flow has no gradient here: export the model with the branch",
    ),
    "a loop": (LOOP, {}, "Loop node 'y' lies between x and y, and control flow .* unrolled to a fixed number"),
    "a sequence": (SEQUENCE, {}, "SequenceConstruct node 'q' .*: export the model with tensors only"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name: str) -> None:
    body, options, message = REFUSED[name]
    constants = SCALE | {"w": weight(), "n": np.asarray(3), "k": np.asarray(0)}
    used = {n: a for n, a in constants.items() if re.search(rf"[(,] *{n}\b", body) and f" {n} =" not in f" {body}"}
    inputs = "float[2,3] x, float[2,3] v" if name == "two inputs" else "float[2,3] x"
    outputs = "float[] y, float[2,4] z" if name == "two outputs" else "float[] y" if "Sum<" in body else "float[2,3] y"
    model = parse(body, inputs, outputs, **used)
    model.graph.opset_imports["com.microsoft"] = 1
    with pytest.raises(ModelError, match=message) as caught:
        gradient_model(model, **options)
    assert (type(caught.value) is MissingRuleError) == (name == "no rule")
    assert "\n" not in str(caught.value)


def test_a_sequence_as_output_is_refused() -> None:
    model = parse("q = SequenceConstruct(x, x)", outputs="seq(float[2,3]) q")
    with pytest.raises(ModelError, match="'q' is a sequence; only tensors have a gradient, so choose one of those"):
        gradient_model(model)


def test_a_sequence_as_input_is_refused() -> None:
    proto = ir.to_proto(parse("y = SequenceAt(x, k)", outputs="float[2,3] y", k=np.asarray(0)))
    tensor = onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, [2, 3])
    proto.graph.input[0].type.CopyFrom(onnx.helper.make_sequence_type_proto(tensor))
    with pytest.raises(ModelError, match="input 'x' is a sequence; export the model with tensors only"):
        gradient_model(ir.from_proto(proto))


def test_opsets_that_cannot_be_read() -> None:
    model = parse(BODY, w=weight())
    model.graph.opset_imports[""] = 99
    with pytest.raises(ModelError, match=r"opset 99, but the installed onnx knows \d+; upgrade onnx"):
        gradient_model(model)
    model.graph.opset_imports[""] = 10
    with pytest.raises(ModelError, match="opset 10, and only 11 and later are read; export it again with opset 13"):
        gradient_model(model)
    strange = parse("y = Nonsense(x)", outputs="float[2,3] y", opset=11)
    with pytest.raises(
        ModelError, match=r"opset 11 and cannot be converted to 13 \(.*\); export it again with opset 13"
    ):
        gradient_model(strange)


def test_evaluating_leaves_a_model_as_it_is() -> None:
    model = gradient_model(parse(BODY, w=weight()))
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    evaluate(model, {"x": RNG.normal(size=(2, 3)), "cotangent": np.ones(())})
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


ROOT = Path(__file__).parents[2]


def test_the_example_in_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = re.search(r"## Only the gradient\n(.*?)\n## ", (ROOT / "README.md").read_text(), re.DOTALL)
    assert section is not None
    (block,) = re.findall(r"```python\n(.*?)```", section[1], re.DOTALL)
    (tmp_path / "export").symlink_to(ROOT / "export")
    monkeypatch.chdir(tmp_path)
    scope: dict[str, np.ndarray] = {}
    exec(compile(block, "README.md", "exec"), scope)
    assert scope["saliency"].shape == (128, 128)
    assert scope["saliency"].max() > 0
    with Image.open(tmp_path / "saliency.png") as picture:
        assert picture.size == (128, 128)


def test_the_rule_in_contributing_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule on that page replaces ours for as long as its own case checks it."""
    section = re.search(r"## Adding a vjp rule\n(.*?)\n## ", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    assert section is not None
    rule_block, case_block = re.findall(r"```python\n(.*?)```", section[1], re.DOTALL)
    registry.entries()
    monkeypatch.setitem(registry._ENTRIES, "Softsign", [])
    scope = {"rule": registry.rule, "Site": registry.Site, "Mapping": dict, "ir": ir}
    exec(compile(rule_block, "CONTRIBUTING.md", "exec"), scope)
    (entry,) = registry._ENTRIES["Softsign"]
    assert entry.rule is not None
    assert entry.rule.__code__.co_filename == "CONTRIBUTING.md"
    check(eval(case_block.strip().rstrip(","), {"Case": Case}))
