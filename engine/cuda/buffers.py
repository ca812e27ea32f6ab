"""Memory: device buffers that other libraries can view, pinned host buffers, and scratch that engines share."""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.cuda.device import NON_BLOCKING, Cuda


class Stream:
    """One non-blocking stream; all work of a runner is ordered by it."""

    def __init__(self, cuda: Cuda) -> None:
        self.cuda = cuda
        self.handle: Any = cuda.call("cudaStreamCreateWithFlags", NON_BLOCKING)

    def synchronize(self) -> None:
        """Wait until all that was enqueued has been done."""
        self.cuda.call("cudaStreamSynchronize", self.handle)

    def copy(self, target: int, source: int, num_bytes: int, kind: str) -> None:
        """Enqueue a copy; ``kind`` is ``HostToDevice``, ``DeviceToHost`` or ``DeviceToDevice``."""
        kinds = self.cuda.runtime.cudaMemcpyKind
        direction = getattr(kinds, f"cudaMemcpy{kind}")
        self.cuda.call("cudaMemcpyAsync", target, source, num_bytes, direction, self.handle)

    def close(self) -> None:
        """Destroy the stream."""
        self.cuda.call("cudaStreamDestroy", self.handle)


class DeviceBuffer:
    """An array in device memory, zeros at first; CuPy, PyTorch, Numba and PyCUDA view it by its interface.

    The buffer owns the memory: a view must not outlive it.
    """

    def __init__(self, stream: Stream, shape: tuple[int, ...], dtype: str) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)
        self.row_bytes = math.prod(shape[1:]) * self.dtype.itemsize
        self.num_bytes = math.prod(shape) * self.dtype.itemsize
        self._stream = stream
        self.address = int(stream.cuda.call("cudaMalloc", max(1, self.num_bytes)))
        stream.cuda.call("cudaMemsetAsync", self.address, 0, self.num_bytes, stream.handle)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Version 3, contiguous, with the stream that writes it."""
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address, False),
            "version": 3,
            "strides": None,
            "stream": int(self._stream.handle),
        }

    def close(self) -> None:
        """Free the memory; the stream must be idle."""
        self._stream.cuda.call("cudaFree", self.address)


class PinnedBuffer:
    """An array in page-locked host memory, from which and to which copies do not block."""

    def __init__(self, cuda: Cuda, shape: tuple[int, ...], dtype: str) -> None:
        kind = np.dtype(dtype)
        num_bytes = math.prod(shape) * kind.itemsize
        self._cuda = cuda
        self.address = int(cuda.call("cudaMallocHost", max(1, num_bytes)))
        memory: Any = (ctypes.c_uint8 * num_bytes).from_address(self.address)
        self.array: npt.NDArray[Any] = np.frombuffer(memory, kind).reshape(shape)
        self.array[...] = 0

    def close(self) -> None:
        """Free the memory; ``array`` must not be used again."""
        self.array = np.empty(0, self.array.dtype)
        self._cuda.call("cudaFreeHost", self.address)


class Scratch:
    """Memory for the engines' intermediate tensors, as large as the largest engine needs; engines on it take turns.

    ``generation`` changes whenever the address does: contexts must then be told and graphs captured again.
    """

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.address = 0
        self.num_bytes = 0
        self.generation = 0
        self.users = 0

    def reserve(self, num_bytes: int) -> None:
        """Grow to at least ``num_bytes``."""
        if num_bytes <= self.num_bytes:
            return
        self.stream.synchronize()
        self.release()
        self.address = int(self.stream.cuda.call("cudaMalloc", num_bytes))
        self.num_bytes = num_bytes
        self.generation += 1

    def release(self) -> None:
        """Free the memory."""
        if self.num_bytes:
            self.stream.cuda.call("cudaFree", self.address)
        self.address = self.num_bytes = 0
