from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from export.errors import ModelError
from export.manifest import StepGraph
from export.passes.precision import CHECKPOINTS_KEY, PEAK, set_precision, step_in
from export.passes.shapes import infer_shapes
from export.step import compile_step
from export.update import Ascent
from tests.export.pairs import SHAPE, Pair
from tests.export.passes.rounding import rounding
from tests.export.test_step import feeds_for

HALF = onnx.TensorProto.FLOAT16


def run(model: bytes, feeds: dict[str, Any]) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def model_of(body: str, x: str = "float[2,16] x", y: str = "float[2,16] y", **weights: np.ndarray) -> ir.Model:
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]> g ({x}) => ({y}) {{ {body} }}')
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in weights.items())
    model = ir.from_proto(proto)
    infer_shapes(model)
    return model


def square(scale: float = 0.25, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(16, 16), scale=scale).astype(np.float32)


def kinds(model: ir.Model) -> dict[str, ir.DataType | None]:
    return {str(v.name): v.dtype for node in model.graph for v in node.outputs}


class TestIslands:
    def test_between_two_products_all_is_low_and_the_rest_is_not(self) -> None:
        body = "a = Relu(x) b = MatMul(a, w) c = Relu(b) d = MatMul(c, w) e = Relu(d) y = Add(e, x)"
        model = model_of(body, w=square())
        assert set_precision(model, "fp16") == 3
        dtypes = kinds(model)
        assert {n for n, k in dtypes.items() if k == ir.DataType.FLOAT16} == {"a/float16", "b", "c", "d"}
        assert dtypes["a"] == dtypes["e"] == dtypes["y"] == ir.DataType.FLOAT
        assert {v.dtype for v in model.graph.initializers.values()} == {ir.DataType.FLOAT16}

    def test_bf16(self) -> None:
        model = model_of("b = MatMul(x, w) y = Relu(b)", w=square())
        set_precision(model, "bf16")
        assert kinds(model)["b"] == ir.DataType.BFLOAT16

    @pytest.mark.parametrize(("precision", "kind"), [("fp16", ir.DataType.FLOAT16), ("bf16", ir.DataType.FLOAT)])
    def test_a_transposed_convolution_does_not_build_in_bf16(self, precision: str, kind: ir.DataType) -> None:
        weight = square().reshape(16, 16, 1, 1)
        model = model_of("b = ConvTranspose(x, w) y = Conv(b, w)", "float[2,16,4,4] x", "float[2,16,4,4] y", w=weight)
        set_precision(model, precision)
        assert kinds(model)["b"] == kind

    @pytest.mark.parametrize(
        "middle", ["c = Softmax(b)", "c = Exp(b)", "c = Mul(b, b)", "c = Div(b, b)", "c = Sqrt(b)", "c = Mul(b, big)"]
    )
    def test_what_matters_stays_full(self, middle: str) -> None:
        big = np.asarray(1e6, np.float32)
        model = model_of(f"b = MatMul(x, w) {middle} y = MatMul(c, w)", w=square(), big=big)
        set_precision(model, "fp16")
        assert kinds(model)["c"] == ir.DataType.FLOAT
        assert kinds(model)["b"] == ir.DataType.FLOAT16

    def test_a_weight_beyond_the_range_keeps_its_product_full(self) -> None:
        weight = square()
        weight[3, 3] = 1e5
        model = model_of("b = MatMul(x, v) y = MatMul(b, w)", w=square(), v=weight)
        set_precision(model, "fp16")
        assert kinds(model)["b"] == ir.DataType.FLOAT

    def test_a_filling_beyond_the_range_is_the_largest_number(self) -> None:
        model = model_of("b = MatMul(x, w) c = Max(b, low) y = MatMul(c, w)", w=square(), low=np.float32([-1e30]))
        set_precision(model, "fp16")
        (low,) = [v for n, v in model.graph.initializers.items() if n and n.startswith("low")]
        assert low.const_value is not None
        assert low.const_value.numpy().tolist() == [-65504.0]

    def test_inputs_and_outputs_keep_their_dtypes(self) -> None:
        model = model_of("y = MatMul(x, w)", w=square())
        set_precision(model, "fp16")
        assert [(v.name, v.dtype) for v in (*model.graph.inputs, *model.graph.outputs)] == [
            ("x", ir.DataType.FLOAT), ("y", ir.DataType.FLOAT),
        ]  # fmt: skip
        x = np.random.default_rng(1).normal(size=(2, 16)).astype(np.float32)
        np.testing.assert_allclose(
            run(ir.to_proto(model).SerializeToString(), {"x": x})["y"], x @ square(), rtol=0, atol=3e-3
        )

    def test_fp32_changes_nothing_and_other_names_are_refused(self) -> None:
        model = model_of("y = MatMul(x, w)", w=square())
        before = ir.to_proto(model).SerializeToString()
        assert set_precision(model, "fp32") == 0
        assert ir.to_proto(model).SerializeToString() == before
        with pytest.raises(ModelError, match=r"fp8.*choose one of: fp32, fp16, bf16"):
            set_precision(model, "fp8")

    @pytest.mark.parametrize("content", [b"", b"not a model"])
    def test_refuses_what_is_no_model(self, content: bytes) -> None:
        with pytest.raises(ModelError, match="step graph cannot be read"):
            step_in(content, "fp16")


class TestRounding:
    """The emulation must round and overflow, or no test here could fail."""

    def test_it_rounds_and_overflows(self) -> None:
        one = np.eye(16, dtype=np.float32)
        model = model_of("b = MatMul(x, w) c = MatMul(b, w) y = MatMul(c, v)", w=300 * one, v=one / 2**16)
        set_precision(model, "fp16")
        data = ir.to_proto(model).SerializeToString()
        x = np.ones((2, 16), np.float32)
        assert not np.isfinite(run(rounding(data), {"x": x})["y"]).any()
        x = np.linspace(0.1, 0.7, 32, dtype=np.float32).reshape(2, 16)
        error = np.abs(run(rounding(data), {"x": x})["y"] / (x * 300 * 300 / 2**16) - 1)
        assert 2**-13 < error.max() < 2**-9


LAYERS = ["stem.1", "body.1", "head"]
ASCENT = Ascent(kind="adam", steps=10, lr=0.3, jitter_px=1)


@pytest.fixture(scope="module")
def graphs(pair: Pair) -> dict[str, StepGraph]:
    return {n: compile_step(pair.network, pair.generator, n, batch=3, ascent=ASCENT) for n in LAYERS}


class TestStepGraph:
    @pytest.fixture(params=LAYERS)
    def graph(self, graphs: dict[str, StepGraph], request: pytest.FixtureRequest) -> StepGraph:
        return graphs[request.param]

    @pytest.fixture
    def feeds(self, graph: StepGraph) -> dict[str, Any]:
        return random_feeds(graph)

    def test_the_checkpoints_are_cotangents_of_layer_and_image(self, graph: StepGraph) -> None:
        model = onnx.load_from_string(graph.step)
        (entry,) = [p.value for p in model.metadata_props if p.key == CHECKPOINTS_KEY]
        made = {o for node in model.graph.node for o in node.output}
        assert len(json.loads(entry)) == 2
        assert set(json.loads(entry)) <= made

    def test_close_to_fp32(self, graph: StepGraph, feeds: dict[str, Any]) -> None:
        full, half = run(graph.step, feeds), run(rounding(step_in(graph.step, "fp16")), feeds)
        np.testing.assert_allclose(half["activation"], full["activation"], rtol=1e-2, atol=1e-2)
        np.testing.assert_allclose(half["gradient"], full["gradient"], rtol=0.1)
        a, b = half["moment1.next"], full["moment1.next"]
        sizes = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        alive = sizes > 0
        assert alive.any()
        assert ((a * b).sum(1)[alive] / sizes[alive]).min() > 0.98

    @pytest.mark.parametrize("gain", [1e-9, 1e9])
    def test_the_layers_scale_does_not_matter(self, graphs: dict[str, StepGraph], gain: float) -> None:
        """A layer whose cotangent is far outside fp16's range still gives the direction that fp32 gives."""
        graph = graphs["head"]
        feeds = random_feeds(graph)
        step = with_gain(graph.step, gain)
        full, half = run(step, feeds), run(rounding(step_in(step, "fp16")), feeds)
        np.testing.assert_allclose(half["gradient"], full["gradient"], rtol=0.1)
        np.testing.assert_allclose(half["moment1.next"], full["moment1.next"], atol=0.2)
        bare = onnx.load_from_string(step)
        del bare.metadata_props[:]
        lost = run(rounding(step_in(bare.SerializeToString(), "fp16")), feeds)["gradient"]
        assert not np.allclose(lost, full["gradient"], rtol=0.1, atol=0), "without checkpoints this must fail"

    def test_a_slot_without_a_gradient_reports_zero(self, graphs: dict[str, StepGraph]) -> None:
        graph = graphs["head"]
        feeds = random_feeds(graph)
        out = run(rounding(step_in(with_gain(graph.step, 0.0), "fp16")), feeds)
        assert out["gradient"].tolist() == [0, 0, 0]
        assert np.isfinite(out["code.next"]).all()

    def test_update_and_best_stay_full(self, graph: StepGraph) -> None:
        model = onnx.load_from_string(step_in(graph.step, "fp16"))
        low = {i.name for i in model.graph.initializer if i.data_type == HALF}
        for node in model.graph.node:
            if node.name.startswith("update/"):
                assert not low & set(node.input), node.name
        kinds = {i.type.tensor_type.elem_type for i in model.graph.input}
        assert kinds == {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}


def random_feeds(graph: StepGraph) -> dict[str, Any]:
    codes = np.random.default_rng(0).normal(size=(3, SHAPE.code_dim)).astype(np.float32)
    return feeds_for(graph, codes, [1, 4, 5])


def with_gain(step: bytes, gain: float) -> bytes:
    """The step graph with the layer's cotangent multiplied, as if the activation were."""
    model = onnx.load_from_string(step)
    (entry,) = [p.value for p in model.metadata_props if p.key == CHECKPOINTS_KEY]
    name = json.loads(entry)[0]
    index, node = next((i, n) for i, n in enumerate(model.graph.node) if name in n.output)
    for use in model.graph.node:
        use.input[:] = [f"{name}/gained" if i == name else i for i in use.input]
    # the checkpoint is the gained one
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(gain, np.float32), "gain"))
    model.graph.node.insert(index + 1, onnx.helper.make_node("Mul", [name, "gain"], [f"{name}/gained"], name="gain"))
    assert node.output[0] == name
    for prop in model.metadata_props:
        if prop.key == CHECKPOINTS_KEY:
            prop.value = json.dumps([f"{name}/gained", *json.loads(entry)[1:]])
    data: bytes = model.SerializeToString()
    return data


def test_the_peak_has_room_on_both_sides() -> None:
    assert 65504 / PEAK > 2**11
    assert PEAK / 2**-14 > 2**17
