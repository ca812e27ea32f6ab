"""A deserialised TensorRT engine: what it reads and writes, and its execution contexts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.checks import TensorSpec
from engine.cuda.buffers import DeviceBuffer, Scratch, Stream
from engine.plans import failure
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

    def __init__(self, trt: Any, engine: Any, runtime: Any, messages: list[str] | None = None) -> None:
        """``runtime`` made the engine and must outlive it; ``messages`` is where its logger writes errors."""
        self._trt, self._engine, self._runtime = trt, engine, runtime
        self._messages = messages if messages is not None else []
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
        self._messages.clear()
        made = self._engine.create_execution_context(strategy)
        if made is None:
            raise EngineError(self.words("could not create an execution context"))
        scratch.reserve(int(self._engine.device_memory_size_v2))
        return Context(self, made, buffers, scratch)

    def words(self, what: str) -> str:
        """A sentence of what failed, and the cause that TensorRT has logged since the last one."""
        text = failure(self._trt, what, self._messages)
        self._messages.clear()
        return text


class Context:
    """An execution context with fixed buffers."""

    def __init__(self, engine: CudaEngine, context: Any, buffers: Mapping[str, DeviceBuffer], scratch: Scratch) -> None:
        self._engine, self._context, self._scratch = engine, context, scratch
        self._buffers = buffers  # kept alive: the context knows only addresses
        self._generation = -1
        for name, buffer in buffers.items():
            if not context.set_tensor_address(name, buffer.address):
                raise EngineError(engine.words(f"refuses the address of {name}"))

    def follow(self) -> None:
        """Use the scratch memory where it lies now; not to be left to a capture."""
        if self._generation != self._scratch.generation:
            self._context.set_device_memory(self._scratch.address, self._scratch.num_bytes)
            self._generation = self._scratch.generation

    def enqueue(self, stream: Stream) -> None:
        """Enqueue one run.

        Raises:
            EngineError: TensorRT refused; the message has the cause that it logged.
        """
        self.follow()
        if not self._context.execute_async_v3(int(stream.handle)):
            raise EngineError(self._engine.words("could not enqueue a run"))
