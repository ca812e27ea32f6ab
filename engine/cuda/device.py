"""CUDA calls that are checked, every one of them."""

from __future__ import annotations

from typing import Any

from export.errors import EngineError

HINTS = {
    "cudaErrorMemoryAllocation": "the GPU is out of memory; use a smaller batch, or precision fp16",
    "cudaErrorInsufficientDriver": "there is no NVIDIA driver here, or it is older than the CUDA runtime; update it",
    "cudaErrorNoDevice": "no GPU is visible; check nvidia-smi and CUDA_VISIBLE_DEVICES",
    "cudaErrorNoKernelImageForDevice": "the engine was built for another GPU; delete the engine cache and build again",
    "cudaErrorIllegalAddress": "a kernel left its memory; the process must be started again",
}
NO_BINDINGS = "cuda-python is not installed; run `pip install 'cuda-python>=13'`"
NON_BLOCKING = 1  # cudaStreamNonBlocking


class Cuda:
    """The functions of ``cuda.bindings.runtime``, or of something that behaves like it."""

    def __init__(self, runtime: Any) -> None:
        self.runtime = runtime

    def call(self, function: str, *arguments: Any) -> Any:
        """Call a function and return what it returns behind its status: nothing, a value or a tuple.

        Raises:
            EngineError: the status is not success; the message names the call, the error and the remedy.
        """
        status, *values = getattr(self.runtime, function)(*arguments)
        if int(status) != 0:
            raise EngineError(self.words(function, status))
        return values[0] if len(values) == 1 else tuple(values) or None

    def words(self, function: str, status: Any) -> str:
        """What went wrong, in one sentence."""
        name = getattr(status, "name", None) or str(status)
        hint = HINTS.get(name, "see the CUDA documentation of this error")
        return f"CUDA failed in {function}: {name} ({int(status)}): {hint}"

    def clear_error(self) -> None:
        """Forget the last error, so that the next call does not report it again."""
        self.runtime.cudaGetLastError()


def load_cuda() -> Cuda:
    """CUDA by ``cuda.bindings``.

    Raises:
        EngineError: the package is not installed.
    """
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise EngineError(f"{NO_BINDINGS}: {error}") from error
    return Cuda(runtime)


def why_no_gpu() -> str:
    """Why no GPU can be used here, or an empty string. Creates no context.

    TensorRT crashes where there is no driver, so this is asked first.
    """
    try:
        from cuda.bindings import runtime
    except ImportError:
        return NO_BINDINGS
    status, count = runtime.cudaGetDeviceCount()
    if int(status) != 0:
        return Cuda(runtime).words("cudaGetDeviceCount", status)
    return "" if count else "no GPU is visible; check nvidia-smi and CUDA_VISIBLE_DEVICES"
