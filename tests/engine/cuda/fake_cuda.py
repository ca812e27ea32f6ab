"""A CUDA runtime whose device memory is numpy.

It is strict where a GPU is: work on a stream runs when it is synchronised, never before; memory is checked by
address and size; what is freed cannot be read; a graph replays addresses as they were when it was captured; while a
stream is captured nothing runs and synchronising is an error. Signatures are checked against the real bindings in
test_contract.py.
"""

from __future__ import annotations

import ctypes
import enum
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

Work = Callable[[], None]
FIRST_ADDRESS = 0x10_0000_0000


class Error(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorStreamCaptureUnsupported = 900
    cudaErrorIllegalAddress = 700


class Kind(enum.IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2
    cudaMemcpyDeviceToDevice = 3


class Illegal(Exception):
    """What would be an illegal address on a GPU: a bug, reported at once."""


class FakeCuda:
    """Stands for the module ``cuda.bindings.runtime``.

    Attributes:
        calls: names of the functions called.
        failing: function names that return an error, with the error.
        capture_works: whether EndCapture succeeds.
    """

    cudaMemcpyKind = Kind
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)

    def __init__(self, memory_bytes: int = 1 << 30) -> None:
        self.calls: list[str] = []
        self.failing: dict[str, Error] = {}
        self.capture_works = True
        self.free_bytes = memory_bytes
        self._device: dict[int, np.ndarray] = {}
        self._host: dict[int, Any] = {}
        self._streams: dict[int, list[Work]] = {}
        self._captured: dict[int, list[Work]] = {}
        self._graphs: dict[int, list[Work]] = {}
        self._next = FIRST_ADDRESS

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("cuda") and name[4].isupper() and name not in ("cudaMemcpyKind", "cudaStreamCaptureMode"):
            self.calls.append(name)
            if name in self.failing:
                error = self.failing[name]
                return lambda *arguments: (error, 0)
        return object.__getattribute__(self, name)

    # memory

    def cudaMalloc(self, size: int) -> tuple[Error, int]:
        if size > self.free_bytes:
            return Error.cudaErrorMemoryAllocation, 0
        self.free_bytes -= size
        address = self._address(size)
        rng = np.random.default_rng(address)
        self._device[address] = rng.integers(0, 255, size, np.uint8)  # what malloc gives is not zero
        return Error.cudaSuccess, address

    def cudaFree(self, devPtr: int) -> tuple[Error]:
        if devPtr not in self._device:
            return (Error.cudaErrorInvalidValue,)
        assert not any(self._streams.values()), "freed while work is under way"
        self.free_bytes += len(self._device.pop(devPtr))
        return (Error.cudaSuccess,)

    def cudaMallocHost(self, size: int) -> tuple[Error, int]:
        memory = (ctypes.c_uint8 * size)()
        address = ctypes.addressof(memory)
        self._host[address] = memory
        return Error.cudaSuccess, address

    def cudaFreeHost(self, ptr: int) -> tuple[Error]:
        if self._host.pop(ptr, None) is None:
            return (Error.cudaErrorInvalidValue,)
        return (Error.cudaSuccess,)

    def cudaMemsetAsync(self, devPtr: int, value: int, count: int, stream: int) -> tuple[Error]:
        return self.enqueue(stream, lambda: self.view(devPtr, count).fill(value))

    def cudaMemcpyAsync(self, dst: int, src: int, count: int, kind: Kind, stream: int) -> tuple[Error]:
        def copy() -> None:
            into = self._pinned(dst, count) if kind == Kind.cudaMemcpyDeviceToHost else self.view(dst, count)
            out_of = self._pinned(src, count) if kind == Kind.cudaMemcpyHostToDevice else self.view(src, count)
            into[:] = out_of

        return self.enqueue(stream, copy)

    # streams and graphs

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Error, int]:
        assert flags == 1, "a blocking stream cannot be captured beside others"
        handle = self._address(1)
        self._streams[handle] = []
        return Error.cudaSuccess, handle

    def cudaStreamSynchronize(self, stream: int) -> tuple[Error]:
        if stream in self._captured:
            return (Error.cudaErrorStreamCaptureUnsupported,)
        queue = self._streams[stream]
        while queue:
            queue.pop(0)()
        return (Error.cudaSuccess,)

    def cudaStreamDestroy(self, stream: int) -> tuple[Error]:
        assert not self._streams.pop(stream), "destroyed with work under way"
        return (Error.cudaSuccess,)

    def cudaStreamBeginCapture(self, stream: int, mode: int) -> tuple[Error]:
        assert not self._streams[stream], "captured with work under way"
        self._captured[stream] = []
        return (Error.cudaSuccess,)

    @property
    def capturing(self) -> bool:
        """Whether a stream is recording."""
        return bool(self._captured)

    def cudaStreamEndCapture(self, stream: int) -> tuple[Error, Any]:
        work = self._captured.pop(stream)
        if not self.capture_works:
            return Error.cudaErrorStreamCaptureUnsupported, None
        handle = self._address(1)
        self._graphs[handle] = work
        return Error.cudaSuccess, handle

    def cudaGraphInstantiate(self, graph: int, flags: int) -> tuple[Error, int]:
        handle = self._address(1)
        self._graphs[handle] = list(self._graphs[graph])
        return Error.cudaSuccess, handle

    def cudaGraphLaunch(self, graphExec: int, stream: int) -> tuple[Error]:
        self._streams[stream] += self._graphs[graphExec]
        return (Error.cudaSuccess,)

    def cudaGraphExecDestroy(self, graphExec: int) -> tuple[Error]:
        del self._graphs[graphExec]
        return (Error.cudaSuccess,)

    def cudaGraphDestroy(self, graph: int) -> tuple[Error]:
        del self._graphs[graph]
        return (Error.cudaSuccess,)

    def cudaGetLastError(self) -> tuple[Error]:
        return (Error.cudaSuccess,)

    def cudaGetDeviceCount(self) -> tuple[Error, int]:
        return Error.cudaSuccess, 1

    def cudaGetDevice(self) -> tuple[Error, int]:
        return Error.cudaSuccess, 0

    def cudaGetDeviceProperties(self, device: int) -> tuple[Error, Any]:
        return Error.cudaSuccess, SimpleNamespace(major=8, minor=9, name=b"Fake L4")

    # what the fake engine uses

    def enqueue(self, stream: int, work: Work) -> tuple[Error]:
        (self._captured[stream] if stream in self._captured else self._streams[stream]).append(work)
        return (Error.cudaSuccess,)

    def view(self, address: int, count: int) -> np.ndarray:
        """``count`` bytes of device memory."""
        for start, memory in self._device.items():
            if start <= address < start + len(memory):
                if address + count > start + len(memory):
                    raise Illegal(f"{count} bytes at {address:#x} leave their allocation")
                return memory[address - start : address - start + count]
        raise Illegal(f"{address:#x} is not device memory")

    def allocations(self) -> tuple[int, int, int, int]:
        """Live device and pinned allocations, streams and graphs."""
        return len(self._device), len(self._host), len(self._streams), len(self._graphs)

    def _pinned(self, address: int, count: int) -> np.ndarray:
        for start, memory in self._host.items():
            if start <= address and address + count <= start + len(memory):
                return np.frombuffer(memory, np.uint8)[address - start : address - start + count]
        raise Illegal(f"{address:#x} is not pinned memory")

    def _address(self, size: int) -> int:
        address = self._next
        self._next += 512 + size + -size % 512
        return address
