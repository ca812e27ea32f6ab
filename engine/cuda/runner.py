"""Slots whose state lives in device memory. Between two looks of the host, nothing crosses the bus.

State ping-pongs between two sets of buffers: one context reads the first and writes the second, another the other way
round. ``step(k)`` is one CUDA-graph launch of k runs; a graph is captured the first time a k is asked for, from either
side. Where capture is refused, the same work is enqueued run by run.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from itertools import groupby

import numpy as np
import numpy.typing as npt

from engine.checks import check_fill, check_models
from engine.cuda.buffers import DeviceBuffer, PinnedBuffer, Scratch, Stream
from engine.cuda.engine import Context, CudaEngine
from engine.cuda.graphs import CudaGraph, capture
from engine.protocol import Scalars
from export.errors import EngineError, InputError
from export.manifest import StepManifest

LONGEST_GRAPH = 64
"""Steps in one graph; longer requests are several launches."""


class CudaRunner:
    """A :class:`~engine.protocol.Runner` on one GPU; every slot starts idle (unit 0, zero code).

    Attributes:
        scratch: memory for intermediate tensors, and the stream; runners that take turns may share it.
    """

    def __init__(
        self,
        runtime: str,
        manifest: StepManifest,
        step: CudaEngine,
        decode: CudaEngine,
        scratch: Scratch,
        *,
        graphs: bool = True,
    ) -> None:
        """Allocate, bind and warm up.

        Args:
            runtime: for messages.
            manifest: of the step graph.
            step: its engine.
            decode: the engine of its decode graph.
            scratch: memory and stream, shared with other runners of the same thread, or this one's alone.
            graphs: capture steps as CUDA graphs.

        Raises:
            EngineError: the engines are not what the manifest says, or CUDA failed.
        """
        self.manifest, self.num_slots = manifest, manifest.batch
        self._runtime, self._graphs_wanted = runtime, graphs
        self.scratch = scratch
        self._stream: Stream = scratch.stream
        self._latest = 0
        self._graphs: dict[tuple[int, int], CudaGraph | None] = {}
        self._graphs_of = scratch.generation
        self._open = True
        self._stack = ExitStack()
        self._steps: tuple[Context, ...] = ()
        self._decoder: Context | None = None
        scratch.users += 1
        try:
            check_models(manifest, step, decode)
            self._allocate(step, decode)
        except BaseException:
            self.__exit__()
            raise

    def _allocate(self, step: CudaEngine, decode: CudaEngine) -> None:
        manifest, batch, px = self.manifest, self.manifest.batch, self.manifest.image_px
        shapes = {f.name: ((batch, *f.shape), f.dtype) for f in manifest.state}
        self._states = tuple({n: self._device(*spec) for n, spec in shapes.items()} for _ in range(2))
        self._unit = self._device((batch,), "int64")
        self._activation, self._gradient = (self._device((batch,), "float32") for _ in range(2))
        self._code = self._device((batch, manifest.code_dim), "float32")
        self._image = self._device((batch, 3, px, px), "float32")
        self._staged = {n: self._pinned(*spec) for n, spec in {**shapes, "unit": ((batch,), "int64")}.items()}
        self._read = {
            n: self._pinned(*spec)
            for n, spec in {
                "activation": ((batch,), "float32"),
                "gradient": ((batch,), "float32"),
                "best_activation": ((batch,), "float32"),
                "step": ((batch,), "int64"),
                "best_code": ((batch, manifest.code_dim), "float32"),
            }.items()
        }
        self._shown_code = self._pinned((batch, manifest.code_dim), "float32")
        self._shown_image = self._pinned((batch, 3, px, px), "float32")
        self._steps = tuple(self._context(step, source) for source in (0, 1))
        self._decoder = decoder = decode.context({"code": self._code, "image": self._image}, self.scratch)
        self.fill(range(batch), [0] * batch, np.zeros((batch, manifest.code_dim), np.float32))
        for context in (self._steps[1], self._steps[0], decoder):  # warm up; the latest state is only read last
            context.enqueue(self._stream)
        self._stream.synchronize()
        self.fill(range(batch), [0] * batch, np.zeros((batch, manifest.code_dim), np.float32))
        self._zero(self._activation, self._gradient)

    def _context(self, step: CudaEngine, source: int) -> Context:
        before, after = self._states[source], self._states[1 - source]
        following = {f"{name}.next": buffer for name, buffer in after.items()}
        outputs = {**following, "activation": self._activation, "gradient": self._gradient}
        spare = {n: self._device(s.shape, s.dtype) for n, s in step.outputs.items() if n not in outputs}
        return step.context({"unit": self._unit, **before, **outputs, **spare}, self.scratch)

    def __enter__(self) -> CudaRunner:
        return self

    def __exit__(self, *exc: object) -> None:
        if not self._open:
            return
        self._open = False
        self._stream.synchronize()
        self._drop_graphs()
        self._steps, self._decoder = (), None  # engines and their weights go with them
        self._stack.close()
        self.scratch.users -= 1
        if not self.scratch.users:
            self.scratch.release()
            self._stream.close()

    def fill(self, slots: Sequence[int], units: Sequence[int], codes: npt.NDArray[np.float32]) -> None:
        """See :meth:`engine.protocol.Runner.fill`. Only the rows of these slots are written.

        Raises:
            EngineError: CUDA failed.
            InputError: a slot, a unit or the codes' shape is out of range.
        """
        self._check_open()
        check_fill(self.manifest, self.num_slots, slots, units, codes)
        self._stream.synchronize()  # an earlier copy may still read the staging memory
        rows = list(slots)
        self._staged["unit"].array[rows] = units
        for field in self.manifest.state:
            self._staged[field.name].array[rows] = codes if field.initial is None else field.initial
        for first, count in _runs(rows):
            self._upload(self._unit, self._staged["unit"], first, count)
            for name, buffer in self._states[self._latest].items():
                self._upload(buffer, self._staged[name], first, count)

    def step(self, count: int) -> None:
        """See :meth:`engine.protocol.Runner.step`.

        Raises:
            EngineError: CUDA or TensorRT failed.
        """
        self._check_open()
        while count > 0:
            part = min(count, LONGEST_GRAPH)
            graph = self._graph(part) if self._graphs_wanted else None
            if graph is None:
                self._enqueue(part)
            else:
                graph.launch()
            self._latest = (self._latest + part) % 2
            count -= part

    def scalars(self) -> Scalars:
        """See :meth:`engine.protocol.Runner.scalars`."""
        self._check_open()
        now = self._states[self._latest]
        sources = {
            "activation": self._activation,
            "gradient": self._gradient,
            "best_activation": now["best_activation"],
            "step": now["step"],
        }
        for name, source in sources.items():
            self._stream.copy(self._read[name].address, source.address, source.num_bytes, "DeviceToHost")
        self._stream.synchronize()
        return Scalars(**{name: self._read[name].array.copy() for name in sources})

    def codes(self, slots: Sequence[int]) -> npt.NDArray[np.float32]:
        """See :meth:`engine.protocol.Runner.codes`."""
        return self._rows("code", slots)

    def best_codes(self, slots: Sequence[int]) -> npt.NDArray[np.float32]:
        """See :meth:`engine.protocol.Runner.best_codes`."""
        return self._rows("best_code", slots)

    def _rows(self, field: str, slots: Sequence[int]) -> npt.NDArray[np.float32]:
        self._check_open()
        source, target = self._states[self._latest][field], self._read["best_code"]
        for first, count in _runs(slots):
            offset, num_bytes = first * source.row_bytes, count * source.row_bytes
            self._stream.copy(target.address + offset, source.address + offset, num_bytes, "DeviceToHost")
        self._stream.synchronize()
        rows: npt.NDArray[np.float32] = target.array[list(slots)]
        return rows

    def decode(self, codes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """See :meth:`engine.protocol.Runner.decode`.

        Raises:
            EngineError: CUDA or TensorRT failed.
            InputError: the codes' shape is wrong.
        """
        self._check_open()
        if codes.ndim != 2 or codes.shape[1] != self.manifest.code_dim:
            raise InputError(f"codes of shape {codes.shape} cannot be decoded; give (n, {self.manifest.code_dim})")
        assert self._decoder is not None
        images = np.empty((len(codes), *self._image.shape[1:]), np.float32)
        for start in range(0, len(codes), self.num_slots):
            part = codes[start : start + self.num_slots]
            self._shown_code.array[: len(part)] = part
            self._shown_code.array[len(part) :] = 0
            self._stream.copy(self._code.address, self._shown_code.address, self._code.num_bytes, "HostToDevice")
            self._decoder.enqueue(self._stream)
            self._stream.copy(self._shown_image.address, self._image.address, self._image.num_bytes, "DeviceToHost")
            self._stream.synchronize()
            images[start : start + len(part)] = self._shown_image.array[: len(part)]
        return images

    def device_state(self) -> dict[str, DeviceBuffer]:
        """The latest state where it lies, to be viewed by other libraries; an odd count of steps moves it."""
        self._check_open()
        return dict(self._states[self._latest])

    def _graph(self, count: int) -> CudaGraph | None:
        if self._graphs_of != self.scratch.generation:  # their addresses are stale
            self._stream.synchronize()
            self._drop_graphs()
            self._graphs_of = self.scratch.generation
        for context in self._steps:
            context.follow()
        key = (count, self._latest)
        if key not in self._graphs:
            self._graphs[key] = capture(self._stream, lambda: self._enqueue(count))
        return self._graphs[key]

    def _enqueue(self, count: int) -> None:
        for index in range(count):
            self._steps[(self._latest + index) % 2].enqueue(self._stream)

    def _drop_graphs(self) -> None:
        graphs, self._graphs = self._graphs, {}
        for graph in graphs.values():
            if graph is not None:
                graph.close()

    def _upload(self, target: DeviceBuffer, source: PinnedBuffer, first: int, count: int) -> None:
        offset, num_bytes = first * target.row_bytes, count * target.row_bytes
        self._stream.copy(target.address + offset, source.address + offset, num_bytes, "HostToDevice")

    def _zero(self, *buffers: DeviceBuffer) -> None:
        for buffer in buffers:
            self._stream.cuda.call("cudaMemsetAsync", buffer.address, 0, buffer.num_bytes, self._stream.handle)

    def _device(self, shape: tuple[int, ...], dtype: str) -> DeviceBuffer:
        buffer = DeviceBuffer(self._stream, shape, dtype)
        self._stack.callback(buffer.close)
        return buffer

    def _pinned(self, shape: tuple[int, ...], dtype: str) -> PinnedBuffer:
        buffer = PinnedBuffer(self._stream.cuda, shape, dtype)
        self._stack.callback(buffer.close)
        return buffer

    def _check_open(self) -> None:
        if not self._open:
            raise EngineError(f"this {self._runtime} engine is closed; build it again")


def _runs(slots: Sequence[int]) -> list[tuple[int, int]]:
    """(first, count) of every run of consecutive slots, so that neighbours are copied together."""
    runs = []
    for _, group in groupby(enumerate(sorted(slots)), key=lambda pair: pair[1] - pair[0]):
        members = [slot for _, slot in group]
        runs.append((members[0], len(members)))
    return runs
