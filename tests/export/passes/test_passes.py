"""Every pass keeps the outputs and ensures what it promises."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

import export.passes
from export.errors import ModelError
from export.passes.batch import set_batch
from export.passes.batchnorm import fold_batchnorm
from export.passes.branches import decide_branches
from export.passes.checked import check
from export.passes.constants import fold_constants
from export.passes.flat_code import flatten_code
from export.passes.half import store_as_half
from export.passes.merge import merge_into
from export.passes.pads import fold_pads
from export.passes.shapes import infer_shapes, static_shape
from export.passes.symmetric import symmetric_conv_transposes, with_symmetric_pads
from export.passes.widen import widen
from export.reference import evaluate

TESTED = {
    "batch",
    "batchnorm",
    "branches",
    "checked",
    "constants",
    "flat_code",
    "half",
    "merge",
    "pads",
    "precision",
    "shapes",
    "symmetric",
    "widen",
}
rng = np.random.default_rng(0)


def test_every_pass_is_tested() -> None:
    assert {m.name for m in pkgutil.iter_modules(export.passes.__path__)} == TESTED


def parse(body: str, inputs: str = "float[N,3,8,8] x", **weights: np.ndarray) -> ir.Model:
    text = f'<ir_version: 10, opset_import: ["" : 20]> g ({inputs}) => (float[a,b,c,d] y) {{ {body} }}'
    proto = onnx.parser.parse_model(text)
    for dim in proto.graph.output[0].type.tensor_type.shape.dim:
        dim.ClearField("dim_param")
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(w, name) for name, w in weights.items())
    return ir.from_proto(proto)


def run(model: ir.Model, x: np.ndarray) -> np.ndarray:
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])


def kinds(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def floats(*shape: int) -> np.ndarray:
    return rng.normal(size=shape).astype(np.float32)


def unchanged_by(model: ir.Model, change: Callable[[ir.Model], Any], x: np.ndarray, rtol: float = 1e-5) -> None:
    before = run(model, x)
    change(model)
    np.testing.assert_allclose(run(model, x), before, rtol=rtol, atol=rtol)


BN = {"s": 1 + floats(4) ** 2, "b": floats(4), "m": floats(4), "v": 0.5 + floats(4) ** 2}


@pytest.mark.parametrize("bias", [True, False])
def test_batchnorm_folds_into_conv(bias: bool) -> None:
    conv = "c = Conv(x, w, k)" if bias else "c = Conv(x, w)"
    weights = {"w": floats(4, 3, 3, 3), "k": floats(4)} | BN if bias else {"w": floats(4, 3, 3, 3)} | BN
    model = parse(f"{conv} y = BatchNormalization(c, s, b, m, v)", **weights)
    unchanged_by(model, fold_batchnorm, floats(2, 3, 8, 8))
    assert kinds(model) == ["Conv"]


def test_batchnorm_stays_where_the_conv_is_used_twice() -> None:
    model = parse("c = Conv(x, w) n = BatchNormalization(c, s, b, m, v) y = Add(n, c)", w=floats(4, 3, 3, 3), **BN)
    unchanged_by(model, fold_batchnorm, floats(2, 3, 8, 8))
    assert "BatchNormalization" in kinds(model)


def test_zero_pads_fold_into_conv() -> None:
    pads = np.asarray([0, 0, 0, 1, 0, 0, 2, 1], np.int64)
    model = parse("p = Pad(x, q) y = Conv<pads = [1, 0, 0, 1]>(p, w)", w=floats(4, 3, 3, 3), q=pads)
    unchanged_by(model, fold_pads, floats(2, 3, 8, 8))
    assert kinds(model) == ["Conv"]


@pytest.mark.parametrize(
    ("pad", "amounts"), [("Pad(x, q, f)", [0, 0, 1, 1, 0, 0, 1, 1]), ("Pad(x, q)", [0, 0, -1, 0, 0, 0, 0, 0])]
)
def test_other_pads_stay(pad: str, amounts: list[int]) -> None:
    fill = {"f": np.asarray(2.0, np.float32)} if "f" in pad.split("(")[1] else {}
    model = parse(f"p = {pad} y = Conv(p, w)", w=floats(4, 3, 3, 3), q=np.asarray(amounts, np.int64), **fill)
    unchanged_by(model, fold_pads, floats(2, 3, 8, 8))
    assert kinds(model) == ["Pad", "Conv"]


def test_constants_fold_shapes_too() -> None:
    body = "h = Shape<start = 0, end = 1>(x) t = Concat<axis = 0>(h, r) z = Reshape(x, t) k = Exp(w) y = Mul(z, k)"
    model = parse(body, inputs="float[2,3,8,8] x", r=np.asarray([3, 4, 16], np.int64), w=floats(1))
    infer_shapes(model)
    unchanged_by(model, fold_constants, floats(2, 3, 8, 8))
    assert kinds(model) == ["Reshape", "Mul"]


def test_shapes_become_static() -> None:
    model = parse("c = Conv(x, w) y = Relu(c)", inputs="float[2,3,8,8] x", w=floats(4, 3, 3, 3))
    infer_shapes(model)
    assert static_shape(model.graph.outputs[0]) == (2, 4, 6, 6)


def test_batch_is_set_also_where_it_was_spelled_out() -> None:
    model = parse("z = Reshape(x, t) y = Mul(z, z)", inputs="float[1,3,8,8] x", t=np.asarray([1, 3, 4, 16], np.int64))
    set_batch(model, 5)
    assert static_shape(model.graph.outputs[0]) == (5, 3, 4, 16)
    assert run(model, floats(5, 3, 8, 8)).shape == (5, 3, 4, 16)


def test_free_image_sizes_are_refused() -> None:
    with pytest.raises(ModelError, match="free dimensions"):
        set_batch(parse("y = Relu(x)", inputs="float[N,3,H,W] x"), 2)


def test_half_rounds_weights_only() -> None:
    model = parse("y = Conv(x, w, k)", w=floats(16, 3, 3, 3), k=floats(16))
    unchanged_by(model, lambda m: store_as_half(m, smallest=100), floats(2, 3, 8, 8), rtol=3e-3)
    assert kinds(model) == ["Cast", "Conv"]
    fold_constants(model)
    assert kinds(model) == ["Conv"]


@pytest.mark.parametrize("bad", [np.nan, 1e6])
def test_half_refuses_what_fp16_cannot_hold(bad: float) -> None:
    with pytest.raises(ModelError, match="not finite or too large"):
        store_as_half(parse("y = Conv(x, w)", w=np.full((16, 3, 3, 3), bad, np.float32)))


def test_merge_chains_two_models() -> None:
    first = parse("y = Conv(x, w)", inputs="float[2,3,8,8] x", w=floats(3, 3, 1, 1))
    second = parse("y = Conv(x, w)", inputs="float[2,3,8,8] x", w=floats(4, 3, 3, 3))
    x = floats(2, 3, 8, 8)
    expected = run(second, run(first, x))
    values = merge_into(first.graph, second, "after", {"x": first.graph.outputs[0]})
    first.graph.outputs.clear()
    first.graph.outputs.append(values["y"])
    np.testing.assert_allclose(run(first, x), expected, rtol=1e-5, atol=1e-5)


def test_merge_wants_every_input_fed() -> None:
    first, second = (parse("y = Relu(x)", inputs="float[2,3,8,8] x") for _ in range(2))
    with pytest.raises(ModelError, match="input 'x' that nothing feeds"):
        merge_into(first.graph, second, "after", {})


def test_checking_finds_what_is_not_valid_and_copies_no_weight() -> None:
    model = parse("y = Conv<pads = [1, 1, 1, 1]>(x, w)", w=floats(2, 3, 3, 3))
    check(model)
    weight = model.graph.initializers["w"]
    weight.const_value = ir.LazyTensor(
        lambda: pytest.fail("the weight is read"), ir.DataType.FLOAT, ir.Shape((2, 3, 3, 3))
    )
    check(model)
    next(iter(model.graph)).attributes["pads"] = ir.AttrString("pads", "one")
    with pytest.raises(onnx.checker.ValidationError):
        check(model)


def test_widening_computes_in_float64() -> None:
    body = "c = Cast<to = 1>(x) r = Resize(c, , s) k = Constant<value = float {3.0}>() y = Mul(r, k)"
    model = parse(body, s=np.asarray([1, 1, 2, 2], np.float32))
    fold_constants(model)
    x = rng.normal(size=(1, 3, 8, 8))
    widen(model)
    assert model.graph.initializers["s"].dtype == ir.DataType.FLOAT  # the standard wants it so
    made = evaluate(model, {"x": x}, double=False)["y"]
    assert made.dtype == np.float64
    np.testing.assert_array_equal(made, 3 * x.repeat(2, axis=2).repeat(2, axis=3))


def test_a_chain_of_shapes_is_folded_in_one_sweep() -> None:
    body = (
        "a = Shape(x) h = Gather(a, two) b = Unsqueeze(h, zero) n = Concat<axis = 0>(one, b, b, c) r = Reshape(x, n) "
        "s = Shape(r) t = CastLike(r, s) u = Expand(t, s) y = Cast<to = 1>(u)"
    )
    constants = {"two": np.asarray(2), "zero": np.asarray([0]), "one": np.asarray([1]), "c": np.asarray([3])}
    model = parse(body, "float[1,3,8,8] x", **{n: a.astype(np.int64) for n, a in constants.items()})
    fold_constants(model)
    assert kinds(model) == ["Reshape", "Cast", "Expand", "Cast"]
    assert static_shape(model.graph.outputs[0]) == (1, 8, 8, 3)


@pytest.mark.parametrize("taken", [True, False])
def test_decided_branches_are_inlined_and_others_stay(taken: bool) -> None:
    """Both branches use the same names, capture a tensor, and one holds an If of its own."""
    inner = """If (decided) <then_branch = it () => (float[2,3,8,8] u) { v = Neg(x) u = Exp(v) },
        else_branch = ie () => (float[2,3,8,8] u) { u = Identity(x) }>"""
    branches = f"""then_branch = t () => (float[2,3,8,8] u) {{ v = {inner} u = Add(v, w) }},
        else_branch = e () => (float[2,3,8,8] u) {{ v = Mul(x, x) u = Identity(w) }}"""
    body = f"""r = If (decided) <{branches}> o = If (decided) <{branches}>
        m = ReduceMax<keepdims = 0>(x) b = Greater(m, m)
        z = If (b) <then_branch = t () => (float[2,3,8,8] u) {{ u = Neg(r) }},
        else_branch = e () => (float[2,3,8,8] u) {{ u = Exp(r) }}> y = Sub(z, o)"""
    model = parse(body, "float[2,3,8,8] x", decided=np.asarray(taken), w=floats(2, 3, 8, 8))
    x = floats(2, 3, 8, 8)
    unchanged_by(model, decide_branches, x)
    assert kinds(model).count("If") == (3 if taken else 1)
    if taken:
        unchanged_by(model, decide_branches, x)
        assert kinds(model).count("If") == 1
    assert not decide_branches(model)


def test_widening_a_clone_leaves_the_model_as_it_is() -> None:
    """Values and clones share their type; all of those that share one are widened."""
    model = parse("z = Mul(x, a) y = Add(z, b)", "float[2,3,8,8] x", a=floats(3, 1, 1), b=floats(3, 1, 1))
    first, second = model.graph.initializers.values()
    second.type = first.type
    clone = model.clone()
    widen(clone)
    arrays = [v.const_value.numpy() for v in clone.graph.initializers.values() if v.const_value is not None]
    assert [a.dtype for a in arrays] == [np.float64, np.float64]
    assert {v.dtype for v in (*model.graph.inputs, *model.graph.initializers.values())} == {ir.DataType.FLOAT}


def test_several_inputs_become_one_code() -> None:
    model = parse("y = Mul(x, z)", "float[N,3,2,2] x, float[N,3] style, float[N,1,2,2] z")
    set_batch(model, 2)
    assert flatten_code(model) == (12, 3, 4)
    assert [static_shape(value) for value in model.graph.inputs] == [(2, 19)]
    code = floats(2, 19)
    expected = code[:, :12].reshape(2, 3, 2, 2) * code[:, 15:].reshape(2, 1, 2, 2)
    np.testing.assert_allclose(run(model, code), expected, rtol=1e-6)
    assert flatten_code(model) == (19,)  # a second time changes nothing
    assert kinds(model) == ["Slice", "Reshape", "Slice", "Slice", "Reshape", "Mul"]


def test_a_code_of_whole_numbers_is_refused() -> None:
    model = parse("c = Cast<to=1>(label) y = Mul(x, c)", "float[N,3,2,2] x, int64[N,1,1,1] label")
    set_batch(model, 1)
    with pytest.raises(ModelError, match=r"'label' is int64 .*one-hot"):
        flatten_code(model)


@pytest.mark.parametrize(
    ("pads", "more"),
    [
        ([0, 1, 1, 1], ""),
        ([2, 0, 0, 1], ", strides = [2, 2]"),
        ([1, 1, 2, 3], ", strides = [2, 2], output_padding = [1, 1]"),
        ([0, 2, 1, 0], ", dilations = [2, 1]"),
    ],
)
@pytest.mark.parametrize("last", [True, False])
def test_conv_transposes_get_symmetric_pads(pads: list[int], more: str, last: bool) -> None:
    """The very same numbers: padding of a ConvTranspose only cuts its output. Also where that is the graph's output."""
    body = f"{'y' if last else 'c'} = ConvTranspose<pads = {pads}{more}>(x, w, k)" + ("" if last else " y = Relu(c)")
    model = parse(body, "float[2,3,8,8] x", w=floats(3, 4, 4, 4), k=floats(4))
    infer_shapes(model)
    unchanged_by(model, symmetric_conv_transposes, floats(2, 3, 8, 8), rtol=0)
    [node] = [node for node in model.graph if node.op_type == "ConvTranspose"]
    half = node.attributes["pads"].as_ints()[:2]
    assert list(node.attributes["pads"].as_ints()) == [*half, *half]
    assert kinds(model).count("Slice") == 1
    assert [v.name for v in model.graph.outputs] == ["y"]
    assert symmetric_conv_transposes(model) == 0


def test_symmetric_pads_leave_the_bytes_of_a_model_alone() -> None:
    model = parse("y = ConvTranspose<pads = [1, 1, 1, 1]>(x, w)", "float[2,3,8,8] x", w=floats(3, 4, 4, 4))
    content = ir.to_proto(model).SerializeToString()
    assert with_symmetric_pads(content) is content
    with pytest.raises(ModelError, match="it cannot be read"):
        with_symmetric_pads(b"nothing")
