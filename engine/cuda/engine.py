"""A deserialised TensorRT engine: what it reads and writes, and its execution contexts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.checks import TensorSpec
from engine.cuda.buffers import DeviceBuffer, Scratch, Stream
from export.errors import EngineError

DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT64": "int64",
    "INT32": "int32",
    "BOOL": "bool",
}


class CudaEngine:
    """An engine of the module ``tensorrt`` or ``tensorrt_rtx``.

    Attributes:
        inputs: shape and dtype by name.
        outputs: shape and dtype by name.
    """

    def __init__(self, trt: Any, engine: Any, runtime: Any) -> None:
        """``runtime`` made the engine and must outlive it."""
        self._trt, self._engine, self._runtime = trt, engine, runtime
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        modes = {name: engine.get_tensor_mode(name) for name in names}
        self.inputs = {n: self._spec(n) for n in names if modes[n] == trt.TensorIOMode.INPUT}
        self.outputs = {n: self._spec(n) for n in names if modes[n] == trt.TensorIOMode.OUTPUT}

    def _spec(self, name: str) -> TensorSpec:
        dtype = self._engine.get_tensor_dtype(name).name
        return TensorSpec(tuple(self._engine.get_tensor_shape(name)), DTYPES.get(dtype, dtype))

    def context(self, buffers: Mapping[str, DeviceBuffer], scratch: Scratch) -> Context:
        """An execution context bound to buffers, its intermediate tensors in ``scratch``."""
        strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        made = self._engine.create_execution_context(strategy)
        if made is None:
            raise EngineError("TensorRT could not create an execution context; the GPU may be out of memory")
        scratch.reserve(int(self._engine.device_memory_size_v2))
        return Context(made, buffers, scratch)


class Context:
    """An execution context with fixed buffers."""

    def __init__(self, context: Any, buffers: Mapping[str, DeviceBuffer], scratch: Scratch) -> None:
        self._context, self._scratch = context, scratch
        self._buffers = buffers  # kept alive: the context knows only addresses
        self._generation = -1
        for name, buffer in buffers.items():
            if not context.set_tensor_address(name, buffer.address):
                raise EngineError(f"TensorRT refuses the address of {name}; the engine is of another graph")

    def enqueue(self, stream: Stream) -> None:
        """Enqueue one run.

        Raises:
            EngineError: TensorRT refused; its log has the cause.
        """
        if self._generation != self._scratch.generation:
            self._context.set_device_memory(self._scratch.address, self._scratch.num_bytes)
            self._generation = self._scratch.generation
        if not self._context.execute_async_v3(int(stream.handle)):
            raise EngineError("TensorRT could not enqueue a step; its log above has the cause")
