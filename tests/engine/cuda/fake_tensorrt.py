"""A TensorRT that builds for the fake CUDA runtime and executes by ONNX Runtime.

It is strict where the real one is: every tensor must have an address, scratch memory is large enough and set before a
capture, and what an engine leaves in it is not zero. Signatures are checked against the real bindings in
test_contract.py.
"""

from __future__ import annotations

import enum
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime

from tests.engine.cuda.fake_cuda import FakeCuda
from tests.export.passes.rounding import rounding

HALVES = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)


class Mode(enum.Enum):
    INPUT = 1
    OUTPUT = 2


class Strategy(enum.Enum):
    STATIC = 0
    USER_MANAGED = 2


class DataType(enum.Enum):
    FLOAT = 0
    HALF = 1
    INT64 = 8


SCRATCH_BYTES = 4096
TYPES = {onnx.TensorProto.FLOAT: DataType.FLOAT, onnx.TensorProto.INT64: DataType.INT64}
NUMPY = {DataType.FLOAT: np.float32, DataType.INT64: np.int64}


class FakeContext:
    def __init__(self, cuda: FakeCuda, engine: FakeEngine) -> None:
        self._cuda, self._engine = cuda, engine
        self._addresses: dict[str, int] = {}
        self._scratch = (0, 0)
        self.refuses = False

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return name in self._engine.specs

    def set_device_memory(self, memory: int, size: int) -> None:
        assert not self._cuda.capturing, "scratch memory is set before a capture, not in it"
        self._scratch = (memory, size)

    def execute_async_v3(self, stream_handle: int) -> bool:
        missing = set(self._engine.specs) - set(self._addresses)
        if self.refuses or missing or self._scratch[1] < self._engine.device_memory_size_v2:
            if self._engine.logger is not None:
                self._engine.logger.log(FakeTensorRt.ILogger.Severity.ERROR, "Error Code 1: Cask (refused)")
            return False
        addresses, scratch = dict(self._addresses), self._scratch
        self._cuda.enqueue(stream_handle, lambda: self._engine.run(self._cuda, addresses, scratch[0]))
        return True


class FakeEngine:
    """An ONNX model as an engine; it scribbles over its scratch memory, as a real one does."""

    def __init__(self, cuda: FakeCuda, plan: bytes, scratch_bytes: int) -> None:
        proto = onnx.load_from_string(plan)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = 1
        settings.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(plan, settings, providers=["CPUExecutionProvider"])
        self._cuda = cuda
        self._modes = {v.name: Mode.INPUT for v in proto.graph.input}
        self._modes |= {v.name: Mode.OUTPUT for v in proto.graph.output}
        self.specs = {
            v.name: (TYPES[v.type.tensor_type.elem_type], tuple(d.dim_value for d in v.type.tensor_type.shape.dim))
            for v in (*proto.graph.input, *proto.graph.output)
        }
        self.num_io_tensors = len(self.specs)
        self.device_memory_size_v2 = scratch_bytes
        self.contexts: list[FakeContext] = []
        self.logger: Any = None
        self.runs = 0

    def get_tensor_name(self, index: int) -> str:
        return list(self.specs)[index]

    def get_tensor_mode(self, name: str) -> Mode:
        return self._modes[name]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.specs[name][1]

    def get_tensor_dtype(self, name: str) -> DataType:
        return self.specs[name][0]

    def create_execution_context(self, strategy: Strategy) -> FakeContext:
        assert strategy == Strategy.USER_MANAGED
        self.contexts.append(FakeContext(self._cuda, self))
        return self.contexts[-1]

    def run(self, cuda: FakeCuda, addresses: dict[str, int], scratch: int) -> None:
        cuda.view(scratch, self.device_memory_size_v2).fill(0xAB)
        arrays = {
            name: cuda.view(addresses[name], int(np.prod(shape)) * np.dtype(NUMPY[kind]).itemsize)
            .view(NUMPY[kind])
            .reshape(shape)
            for name, (kind, shape) in self.specs.items()
        }
        inputs = {n: arrays[n].copy() for n, mode in self._modes.items() if mode == Mode.INPUT}
        outputs = [n for n, mode in self._modes.items() if mode == Mode.OUTPUT]
        for name, value in zip(outputs, self._session.run(outputs, inputs), strict=True):
            arrays[name][...] = value
        self.runs += 1


class FakeTensorRt:
    """Stands for the module ``tensorrt``; a plan is the ONNX model itself.

    Attributes:
        builds: plans built.
        broken: message with which every build fails, or empty.
        foreign: plans that do not deserialise.
    """

    __name__ = "tensorrt"
    __version__ = "11.4.0.106"
    TensorIOMode = Mode
    ExecutionContextAllocationStrategy = Strategy
    NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
    BuilderFlag = SimpleNamespace(TF32="TF32", DISTRIBUTIVE_INDEPENDENCE="DISTRIBUTIVE_INDEPENDENCE")

    def __init__(self, cuda: FakeCuda, scratch_bytes: int = SCRATCH_BYTES) -> None:
        self.cuda, self.scratch_bytes = cuda, scratch_bytes
        self.builds: list[bytes] = []
        self.engines: list[FakeEngine] = []
        self.broken = ""
        self.foreign: set[bytes] = set()
        self.timing = b""

    class ILogger:
        Severity = enum.IntEnum("Severity", {"INTERNAL_ERROR": 0, "ERROR": 1, "WARNING": 2})

        def __init__(self) -> None: ...

        def log(self, severity: Any, msg: str) -> None: ...

    def Builder(self, logger: Any) -> Any:
        def build(network: Any, config: Any) -> bytes | None:
            assert (config.cleared, config.added) == (["TF32"], ["DISTRIBUTIVE_INDEPENDENCE"])
            if self.broken:
                logger.log(self.ILogger.Severity.WARNING, "a warning that is no cause")
                logger.log(self.ILogger.Severity.ERROR, self.broken)
                return None
            self.builds.append(network.model)
            return network.model

        return SimpleNamespace(
            create_network=lambda flags: SimpleNamespace(model=b""),
            create_builder_config=lambda: FakeConfig(self),
            build_serialized_network=build,
        )

    def OnnxParser(self, network: Any, logger: Any) -> Any:
        def parse(model: bytes) -> bool:
            try:
                network.model = executable(model) if onnx.load_from_string(model).graph.node else b""
            except Exception:
                network.model = b""
            return bool(network.model)

        error = SimpleNamespace(node_operator=lambda: "", node_name=lambda: "", desc=lambda: "Failed to parse")
        return SimpleNamespace(parse=parse, num_errors=1, get_error=lambda index: error)

    def Runtime(self, logger: Any) -> Any:
        def deserialize(plan: bytes) -> FakeEngine | None:
            if plan in self.foreign:
                return None
            self.engines.append(FakeEngine(self.cuda, plan, self.scratch_bytes))
            self.engines[-1].logger = logger
            return self.engines[-1]

        return SimpleNamespace(deserialize_cuda_engine=deserialize)


def executable(model: bytes) -> bytes:
    """The model, or, if some of it is fp16 or bf16, fp32 operators whose results are rounded to that."""
    weights = onnx.load_from_string(model).graph.initializer
    return rounding(model) if any(w.data_type in HALVES for w in weights) else model


class FakeConfig:
    def __init__(self, trt: FakeTensorRt) -> None:
        self._trt = trt
        self.cleared: list[str] = []
        self.added: list[str] = []
        self.timing = b""

    def clear_flag(self, flag: str) -> None:
        self.cleared.append(flag)

    def set_flag(self, flag: str) -> None:
        self.added.append(flag)

    def create_timing_cache(self, known: bytes) -> Any:
        return known if not known.startswith(b"other") else None

    def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> bool:
        if cache.startswith(b"mismatch") and not ignore_mismatch:
            return False
        self.timing = cache
        return True

    def get_timing_cache(self) -> Any:
        return SimpleNamespace(serialize=lambda: self.timing + b"+measured")
