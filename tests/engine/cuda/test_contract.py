"""The names and arguments this package uses, against the real libraries: none of them needs a GPU to be looked at."""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import engine.cuda
from engine.plans import architectures, build_plan
from export.errors import EngineError
from export.passes.precision import step_in
from tests.engine.cuda.fake_cuda import FakeCuda
from tests.engine.cuda.fake_tensorrt import FakeConfig, FakeContext, FakeEngine
from tests.engine.graphs import Mlp, conv_graph

SOURCES = "".join(p.read_text(encoding="utf-8") for p in Path(engine.cuda.__path__[0]).glob("*.py"))
CALLS = sorted(set(re.findall(r'"(cuda[A-Z]\w+)"', SOURCES)) - set(re.findall(r'"(cudaError\w+)"', SOURCES)))
CALLS = sorted({*CALLS, *re.findall(r"runtime\.(cuda(?!MemcpyKind|StreamCaptureMode)[A-Z]\w+)", SOURCES)})

NEEDED = {
    "Builder": ["create_network", "create_builder_config", "build_serialized_network"],
    "OnnxParser": ["parse", "num_errors", "get_error"],
    "ParserError": ["desc", "node_name", "node_operator"],
    "IBuilderConfig": ["clear_flag", "set_flag", "create_timing_cache", "set_timing_cache", "get_timing_cache"],
    "ITimingCache": ["serialize"],
    "Runtime": ["deserialize_cuda_engine"],
    "ICudaEngine": [
        "num_io_tensors", "get_tensor_name", "get_tensor_mode", "get_tensor_shape", "get_tensor_dtype",
        "create_execution_context", "device_memory_size_v2",
    ],
    "IExecutionContext": ["set_tensor_address", "set_device_memory", "execute_async_v3"],
    "BuilderFlag": ["TF32", "DISTRIBUTIVE_INDEPENDENCE"],
    "NetworkDefinitionCreationFlag": ["STRONGLY_TYPED"],
    "TensorIOMode": ["INPUT", "OUTPUT"],
    "ExecutionContextAllocationStrategy": ["USER_MANAGED"],
    "DataType": ["FLOAT", "HALF", "BF16", "INT64", "INT32", "BOOL"],
    "ILogger": ["Severity", "log"],
}  # fmt: skip
ENTRY_POINTS = (
    "createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL", "createInferRuntime_INTERNAL",
    "createNvOnnxParser_INTERNAL", "createNvOnnxParserRefitter_INTERNAL", "getBuilderPluginRegistry",
    "getNvOnnxParserVersion", "getPluginRegistry", "initLibNvInferPlugins",
)  # fmt: skip
PROGRAM = """
import ctypes, inspect, json, sys
for path in {stubs!r}:
    ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
import {module} as trt
needed = json.loads(sys.argv[1])
missing = [c + "." + n for c, names in needed.items() for n in names
           if inspect.getattr_static(getattr(trt, c, None), n, None) is None]
print(json.dumps({{"missing": missing, "docs": {{
    n: (inspect.getattr_static(trt.IExecutionContext, n).__doc__ or "").splitlines()[0]
    for n in ("set_tensor_address", "set_device_memory", "execute_async_v3")}}}}))
"""


class TestCuda:
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="cuda-python is not installed")

    def test_the_calls_are_known(self) -> None:
        assert len(CALLS) >= 15

    @pytest.mark.parametrize("name", CALLS)
    def test_the_real_function_takes_what_the_fake_takes(self, name: str) -> None:
        first = (getattr(self.runtime, name).__doc__ or "").strip().splitlines()[0]
        match = re.fullmatch(rf"{name}\((.*)\)", first)
        assert match, first
        real = [part for part in match.group(1).split(",") if part.strip()]
        assert len(real) == len(inspect.signature(getattr(FakeCuda, name)).parameters) - 1

    def test_enums(self) -> None:
        for kind in ("HostToDevice", "DeviceToHost"):
            assert getattr(self.runtime.cudaMemcpyKind, f"cudaMemcpy{kind}") is not None
        assert self.runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal is not None

    def test_every_hint_is_for_a_real_error(self) -> None:
        from engine.cuda.device import HINTS

        for name in HINTS:
            assert name in self.runtime.cudaError_t.__members__


@pytest.mark.parametrize("module", ["tensorrt_bindings", "tensorrt_rtx"])
def test_the_real_bindings_have_what_is_used(module: str, tmp_path: Path) -> None:
    """TensorRT's libraries are not needed: ones with the same names and entry points satisfy the loader."""
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    stubs = []
    if module == "tensorrt_bindings":
        if shutil.which("gcc") is None:
            pytest.skip("no gcc to make empty libraries with")
        source = tmp_path / "empty.c"
        source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in ENTRY_POINTS))
        for name in ("libnvinfer.so.11", "libnvinfer_plugin.so.11", "libnvonnxparser.so.11"):
            path = tmp_path / name
            command = ["gcc", "-shared", "-fPIC", str(source), f"-Wl,-soname,{name}", "-o", str(path)]
            subprocess.run(command, check=True)
            stubs.append(str(path))
    program = PROGRAM.format(stubs=stubs, module=module)
    ran = subprocess.run([sys.executable, "-c", program, json.dumps(NEEDED)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["missing"] == []
    for name, doc in found["docs"].items():
        fake = list(inspect.signature(getattr(FakeContext, name)).parameters)
        assert re.findall(r"(\w+):", doc)[: len(fake)] == fake, doc
    assert FakeEngine is not None
    assert FakeConfig is not None


class TestRealBuilds:
    """TensorRT for RTX builds without a GPU."""

    @pytest.fixture(scope="class")
    @classmethod
    def trt(cls) -> object:
        return pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")

    @pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
    def test_builds_and_builds_the_same_again(self, trt: object, precision: str) -> None:
        step = step_in(conv_graph(batch=2, side=16, channels=4).step, precision)
        plans = {build_plan(trt, step, "step", target="SM89") for _ in range(2)}
        assert len(plans) == 1

    def test_every_architecture_has_its_plan(self, trt: object) -> None:
        step = Mlp.random(code_dim=48, num_units=9).graph(2).step
        assert {"SM80", "SM86", "SM89", "SM120"} <= set(architectures(trt))
        for target in ("SM80", "SM86", "SM89", "SM120"):
            assert build_plan(trt, step, "step", target=target)

    def test_messages(self, trt: object) -> None:
        graph = Mlp.random(code_dim=48, num_units=9).graph(2)
        with pytest.raises(EngineError, match=r"cannot build for 'SM42'; it can for: .*SM89"):
            build_plan(trt, graph.step, "step", target="SM42")
        with pytest.raises(EngineError, match="refuses the step graph"):
            build_plan(trt, b"not a model", "step", target="SM89")

    def test_a_refused_operator_is_named(self, trt: object) -> None:
        import onnx

        node = onnx.helper.make_node("MaxPool", ["x"], ["y", "i"], name="pool/with/indices", kernel_shape=[2, 2])
        infos = [
            onnx.helper.make_tensor_value_info(n, kind, [1, 1, *shape])
            for n, kind, shape in (
                ("x", onnx.TensorProto.FLOAT, (4, 4)),
                ("y", onnx.TensorProto.FLOAT, (3, 3)),
                ("i", onnx.TensorProto.INT64, (3, 3)),
            )
        ]
        made = onnx.helper.make_graph([node], "g", infos[:1], infos[1:])
        model = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
        with pytest.raises(EngineError, match="MaxPool 'pool/with/indices'"):
            build_plan(trt, model.SerializeToString(), "step", target="SM89")
