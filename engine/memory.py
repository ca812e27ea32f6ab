"""Where the tensors of slots lie: in host memory, which models read and write themselves, or behind a device."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from engine.protocol import Array

ALIGNMENT_BYTES = 64
"""Of every buffer. A kernel may sum in another order where memory starts elsewhere; a fixed start fixes the order."""


class Memory(Protocol):
    """Makes tensors that a model can be bound to. A tensor stays where it is for as long as it lives."""

    def zeros(self, shape: tuple[int, ...], dtype: str) -> Any:
        """A tensor of zeros."""
        ...

    def read(self, tensor: Any) -> npt.NDArray[Any]:
        """Its content, to be used at once: a copy, or in host memory the tensor itself."""
        ...

    def write(self, tensor: Any, content: Array) -> None:
        """Replace its whole content; shape and dtype are those of the tensor."""
        ...


class HostMemory:
    """Tensors are numpy arrays; reading one gives the array itself, so that nothing is copied."""

    def zeros(self, shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
        """See :meth:`Memory.zeros`."""
        return aligned_zeros(shape, dtype)

    def read(self, tensor: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """See :meth:`Memory.read`."""
        return tensor

    def write(self, tensor: npt.NDArray[Any], content: Array) -> None:
        """See :meth:`Memory.write`."""
        if content is not tensor:
            tensor[...] = content


def aligned_zeros(shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
    """Zeros that start at a multiple of ALIGNMENT_BYTES."""
    num_bytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    memory = np.zeros(num_bytes + ALIGNMENT_BYTES, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT_BYTES
    return memory[start : start + num_bytes].view(dtype).reshape(shape)
