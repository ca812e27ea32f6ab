"""CUDA graphs: many launches recorded once and launched as one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.cuda.buffers import Stream
from export.errors import EngineError


class CudaGraph:
    """A captured sequence of work."""

    def __init__(self, stream: Stream, executable: Any) -> None:
        self._stream = stream
        self._executable = executable

    def launch(self) -> None:
        """Enqueue all of it."""
        self._stream.cuda.call("cudaGraphLaunch", self._executable, self._stream.handle)

    def close(self) -> None:
        """Destroy it; the stream must be idle."""
        self._stream.cuda.call("cudaGraphExecDestroy", self._executable)


def capture(stream: Stream, enqueue: Callable[[], None]) -> CudaGraph | None:
    """Record what ``enqueue`` puts on the stream, without running it.

    Thread-local capture on a non-default stream that is idle, as NVIDIA's trtexec does it. The same work must have run
    once before, so that nothing is initialised while capturing.

    Returns:
        None where this work cannot be captured; the stream is usable again and has done nothing.
    """
    cuda = stream.cuda
    stream.synchronize()
    cuda.call(
        "cudaStreamBeginCapture",
        stream.handle,
        cuda.runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal,
    )
    try:
        enqueue()
    except BaseException as error:  # whatever it was, the stream must not go on recording
        _, *begun = cuda.runtime.cudaStreamEndCapture(stream.handle)
        if begun and begun[0]:
            cuda.runtime.cudaGraphDestroy(begun[0])
        cuda.clear_error()
        if isinstance(error, EngineError):
            return None
        raise
    status, graph = cuda.runtime.cudaStreamEndCapture(stream.handle)
    if int(status) != 0:
        cuda.clear_error()
        return None
    executable = cuda.call("cudaGraphInstantiate", graph, 0)
    cuda.call("cudaGraphDestroy", graph)
    return CudaGraph(stream, executable)
