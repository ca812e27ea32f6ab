from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import numpy_helper

import export.serialise
from export.serialise import LARGE, serialise


def chain(**weights: np.ndarray) -> ir.Model:
    """``x + sum(w)``, element for element, in float32."""
    graph = ir.Graph([], [], nodes=[], name="chain", opset_imports={"": 21})
    shape = next(iter(weights.values())).shape
    value = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(shape))
    graph.inputs.append(value)
    for name, array in weights.items():
        weight = ir.Value(name=name, const_value=ir.tensor(array, name=name))
        weight.shape, weight.dtype = ir.Shape(array.shape), weight.const_value.dtype
        graph.register_initializer(weight)
        nodes = [ir.node("Cast", [weight], {"to": 1}), ir.node("Add", [value])]
        nodes[1].resize_inputs(2)
        nodes[1].replace_input_with(1, nodes[0].outputs[0])
        graph.extend(nodes)
        value = nodes[1].outputs[0]
    value.name, value.shape, value.dtype = "y", ir.Shape(shape), ir.DataType.FLOAT
    graph.outputs.append(value)
    return ir.Model(graph, ir_version=10, metadata_props={"layers": "{}"})


def arrays(count: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    dtypes = [np.float32, np.float16, np.float64, np.int64, np.int32, ml_dtypes.bfloat16]
    return {f"w{i}": rng.normal(size=(count,)).astype(dtype) for i, dtype in enumerate(dtypes)}


@pytest.mark.parametrize("count", [3, LARGE])
def test_it_parses_to_the_same_model(count: int) -> None:
    model = chain(**arrays(count))
    expected = ir.to_proto(model)
    found = onnx.load_from_string(serialise(model))
    onnx.checker.check_model(found, full_check=True)

    def by_name(proto: onnx.ModelProto) -> dict[str, bytes]:
        return {t.name: numpy_helper.to_array(t).tobytes() + str(t.data_type).encode() for t in proto.graph.initializer}

    assert by_name(found) == by_name(expected)
    for proto in (found, expected):
        proto.graph.ClearField("initializer")
        kept = [info for info in proto.graph.value_info if not info.name.startswith("w")]
        proto.graph.ClearField("value_info")
        proto.graph.value_info.extend(kept)
    assert found == expected


def test_a_runtime_reads_it() -> None:
    weights = {name: array for name, array in arrays(LARGE).items() if array.dtype != ml_dtypes.bfloat16}
    session = onnxruntime.InferenceSession(serialise(chain(**weights)), providers=["CPUExecutionProvider"])
    x = np.ones(LARGE, np.float32)
    expected = x + sum(array.astype(np.float32) for array in weights.values())
    np.testing.assert_allclose(session.run(None, {"x": x})[0], expected, rtol=1e-5, atol=1e-5)


def test_equal_models_give_equal_bytes_and_the_model_keeps_its_weights() -> None:
    model = chain(**arrays(LARGE))
    assert serialise(model) == serialise(model) == serialise(chain(**arrays(LARGE)))
    assert set(model.graph.initializers) == set(arrays(1))


def test_what_is_not_contiguous_is_written_in_order() -> None:
    array = np.arange(2 * LARGE, dtype=np.float32).reshape(2, LARGE).T
    (found,) = onnx.load_from_string(serialise(chain(w=array))).graph.initializer
    np.testing.assert_array_equal(numpy_helper.to_array(found), array)


def test_more_than_protobuf_reads_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    part = bytes(1 << 20)
    monkeypatch.setattr(export.serialise, "_initializer", lambda name, value: [part] * (1 << 11))
    with pytest.raises(ValueError, match=r"2\.0 GiB"):
        serialise(chain(w=np.zeros(LARGE, np.float32)))
