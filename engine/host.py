"""Slots that the host steps, one call of a model after another: the half of a runtime that does not depend on it.

State ping-pongs between two sets of tensors, wherever the runtime's memory puts them. The step model is bound twice,
once in each direction, so that a step reads one set and writes the other: nothing is allocated or copied between steps.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from engine.checks import TensorSpec, check_fill, check_models
from engine.memory import HostMemory, Memory
from engine.protocol import Scalars
from export import interrupts
from export.errors import EngineError, InputError
from export.manifest import StepManifest


class HostModel(Protocol):
    """A loaded ONNX model that reads and writes tensors of a memory, numpy arrays unless told."""

    @property
    def inputs(self) -> Mapping[str, TensorSpec]: ...

    @property
    def outputs(self) -> Mapping[str, TensorSpec]: ...

    def bind(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> Callable[[], None]:
        """Return a function that runs the model once, reading ``inputs`` and writing ``outputs`` where they lie.

        When it returns, the outputs are whole. The tensors stay the caller's and outlive the function.
        """
        ...


class HostRunner:
    """A :class:`~engine.protocol.Runner` over two host models; every slot starts idle (unit 0, zero code).

    A *lane* is one fixed batch with buffers and requests of its own. Several lanes step side by side, each on its share
    of the threads, and meet only when the caller looks: on small batches that beats all threads on one batch, which
    wait for each other at every operator. Slot ``i`` is row ``i % batch`` of lane ``i // batch``.
    """

    def __init__(
        self,
        runtime: str,
        manifest: StepManifest,
        step: HostModel,
        decode: HostModel,
        lanes: int = 1,
        memory: Memory | None = None,
    ) -> None:
        """Check both models against the manifest, allocate the tensors (in host memory unless told) and bind them.

        Raises:
            EngineError: a model's inputs or outputs are not what the manifest says.
        """
        check_models(manifest, step, decode)
        self.manifest = manifest
        self.num_slots = manifest.batch * lanes
        self._runtime = runtime
        where = memory or HostMemory()
        self._lanes = [_Lane(manifest, step, decode, where) for _ in range(lanes)]
        self._pool = ThreadPoolExecutor(lanes, thread_name_prefix="lane") if lanes > 1 else None

    def __enter__(self) -> HostRunner:
        return self

    def __exit__(self, *exc: object) -> None:
        self._lanes = []
        if self._pool is not None:
            self._pool.shutdown()

    def fill(self, slots: Sequence[int], units: Sequence[int], codes: npt.NDArray[np.float32]) -> None:
        """See :meth:`engine.protocol.Runner.fill`.

        Raises:
            InputError: a slot, a unit or the codes' shape is out of range.
        """
        self._check_open()
        check_fill(self.manifest, self.num_slots, slots, units, codes)
        for lane, rows, places in self._spread(slots):
            lane.fill(rows, [units[place] for place in places], codes[places])

    def step(self, count: int) -> None:
        """See :meth:`engine.protocol.Runner.step`.

        Raises:
            EngineError: the runtime failed.
        """
        self._check_open()
        try:
            self._each(lambda lane: lane.step(count))
        except Exception as error:
            raise EngineError(f"{self._runtime} failed in a step of layer {self.manifest.layer}: {error}") from error

    def scalars(self) -> Scalars:
        """See :meth:`engine.protocol.Runner.scalars`."""
        self._check_open()
        parts = [lane.scalars() for lane in self._lanes]
        return Scalars(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Scalars)})

    def codes(self, slots: Sequence[int]) -> npt.NDArray[np.float32]:
        """See :meth:`engine.protocol.Runner.codes`."""
        return self._copy("code", slots)

    def best_codes(self, slots: Sequence[int]) -> npt.NDArray[np.float32]:
        """See :meth:`engine.protocol.Runner.best_codes`."""
        return self._copy("best_code", slots)

    def _copy(self, field: str, slots: Sequence[int]) -> npt.NDArray[np.float32]:
        self._check_open()
        codes = np.empty((len(slots), self.manifest.code_dim), np.float32)
        for lane, rows, places in self._spread(slots):
            codes[places] = lane.state(field)[rows]
        return codes

    def decode(self, codes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """See :meth:`engine.protocol.Runner.decode`.

        Raises:
            EngineError: the runtime failed.
            InputError: the codes' shape is wrong.
        """
        self._check_open()
        if codes.ndim != 2 or codes.shape[1] != self.manifest.code_dim:
            raise InputError(f"codes of shape {codes.shape} cannot be decoded; give (n, {self.manifest.code_dim})")
        px, batch = self.manifest.image_px, self.manifest.batch
        images = np.empty((len(codes), 3, px, px), np.float32)
        parts = [slice(start, min(start + batch, len(codes))) for start in range(0, len(codes), batch)]

        def work(lane: _Lane) -> None:
            for part in parts[self._lanes.index(lane) :: len(self._lanes)]:
                images[part] = lane.decode(codes[part])

        try:
            self._each(work)
        except Exception as error:
            raise EngineError(f"{self._runtime} failed to decode: {error}") from error
        return images

    def _each(self, work: Callable[[_Lane], None]) -> None:
        """Do the work of every lane, side by side."""
        if self._pool is None:
            work(self._lanes[0])
        else:
            list(self._pool.map(work, self._lanes))

    def _spread(self, slots: Sequence[int]) -> Iterator[tuple[_Lane, list[int], list[int]]]:
        """(lane, its rows, their places in ``slots``) of every lane that has any of the slots."""
        for index, lane in enumerate(self._lanes):
            places = [place for place, slot in enumerate(slots) if slot // self.manifest.batch == index]
            if places:
                yield lane, [slots[place] % self.manifest.batch for place in places], places

    def _check_open(self) -> None:
        if not self._lanes:
            raise EngineError(f"this {self._runtime} engine is closed; build it again")


class _Lane:
    """One batch: its state twice, and the model bound in both directions."""

    def __init__(self, manifest: StepManifest, step: HostModel, decode: HostModel, memory: Memory) -> None:
        batch, px = manifest.batch, manifest.image_px
        self._fields, self._memory = manifest.state, memory
        self._states = tuple(
            {field.name: memory.zeros((batch, *field.shape), field.dtype) for field in self._fields} for _ in range(2)
        )
        self._unit = memory.zeros((batch,), "int64")
        self._activation, self._gradient = (memory.zeros((batch,), "float32") for _ in range(2))
        self._code = memory.zeros((batch, manifest.code_dim), "float32")
        self._image = memory.zeros((batch, 3, px, px), "float32")
        self._latest = 0  # which of the two states
        self._steps = tuple(self._bind_step(step, source) for source in (0, 1))
        self._decode = decode.bind({"code": self._code}, {"image": self._image})
        self.fill(range(batch), [0] * batch, np.zeros((batch, manifest.code_dim), np.float32))

    def state(self, field: str) -> npt.NDArray[Any]:
        """A field of the latest state, (batch, *shape), to be used at once."""
        return self._memory.read(self._states[self._latest][field])

    def fill(self, rows: Sequence[int], units: Sequence[int], codes: npt.NDArray[np.float32]) -> None:
        self._change(self._unit, rows, units)
        for field in self._fields:
            content = codes if field.initial is None else field.initial
            self._change(self._states[self._latest][field.name], rows, content)

    def _change(self, tensor: Any, rows: Sequence[int], content: Any) -> None:
        """Write some rows and leave the others as they are."""
        array = self._memory.read(tensor)
        array[rows] = content
        self._memory.write(tensor, array)

    def step(self, count: int) -> None:
        for _ in range(count):
            interrupts.check()
            self._steps[self._latest]()
            self._latest = 1 - self._latest

    def scalars(self) -> Scalars:
        """To be used at once."""
        read = self._memory.read
        return Scalars(read(self._activation), read(self._gradient), self.state("best_activation"), self.state("step"))

    def decode(self, codes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Images of at most ``batch`` codes, to be used at once."""
        rows = self._memory.read(self._code)
        rows[: len(codes)] = codes
        rows[len(codes) :] = 0
        self._memory.write(self._code, rows)
        self._decode()
        return self._memory.read(self._image)[: len(codes)]

    def _bind_step(self, model: HostModel, source: int) -> Callable[[], None]:
        names = [field.name for field in self._fields]
        before, after = self._states[source], self._states[1 - source]
        return model.bind(
            {"unit": self._unit, **{name: before[name] for name in names}},
            {
                **{name + ".next": after[name] for name in names},
                "activation": self._activation,
                "gradient": self._gradient,
            },
        )


def num_threads(options: Mapping[str, object]) -> int:
    """Option ``threads``; 0 (the default) is every core this process may use.

    Raises:
        InputError: it is not a count.
    """
    threads = options.get("threads", 0)
    if not isinstance(threads, int) or isinstance(threads, bool) or threads < 0:
        raise InputError(f"threads must be a whole number, 0 for all cores, not {threads!r}")
    if threads:
        return threads
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def num_lanes(options: Mapping[str, object], threads: int | None = None) -> int:
    """Option ``lanes``: batches that step side by side; 1 unless told.

    Raises:
        InputError: it is no count, or there are more lanes than ``threads``, if given.
    """
    lanes = options.get("lanes", 1)
    if not isinstance(lanes, int) or isinstance(lanes, bool) or not 1 <= lanes <= (threads or lanes):
        limit = f"from 1 to the {threads} threads" if threads else "from 1"
        raise InputError(f"lanes must be a whole number {limit}, not {lanes!r}")
    return lanes


def chosen_precision(options: Mapping[str, object], offered: Sequence[str], runtime: str) -> str:
    """Option ``precision``; the first of those offered unless told.

    Raises:
        InputError: the runtime does not offer it here.
    """
    precision = options.get("precision", offered[0])
    if precision not in offered:
        raise InputError(f"{runtime} cannot run {precision} here; choose one of: {', '.join(offered)}")
    return str(precision)
