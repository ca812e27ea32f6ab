"""The runner on a fake GPU, and the proof that these tests see faults: each is seeded and must be caught."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import engine.cuda
from tests.engine.cuda.battery import BATTERY
from tests.engine.seeding import Fault, assert_caught, loaded

MODULES = {name: f"engine.cuda.{name}" for name in ("device", "buffers", "graphs", "engine", "runner")}


def code(fault: Fault | None = None) -> Any:
    """The modules of engine/cuda."""
    return SimpleNamespace(**loaded(MODULES, fault))


@pytest.mark.parametrize("check", BATTERY, ids=lambda check: check.__name__)
def test_runner(check: Any) -> None:
    check(code())


FAULTS = {
    "wrong state buffer read": (
        "runner",
        "before, after = self._states[source], self._states[1 - source]",
        "before, after = self._states[1 - source], self._states[1 - source]",
    ),
    "missed feedback": (
        "runner",
        "self._steps[(self._latest + index) % 2].enqueue",
        "self._steps[self._latest].enqueue",
    ),
    "the latest side is not flipped": ("runner", "self._latest = (self._latest + part) % 2", "pass"),
    "flipped as if every graph were even": ("runner", "(self._latest + part) % 2", "self._latest"),
    "a graph of the other side": ("runner", "key = (count, self._latest)", "key = (count, 0)"),
    "a graph of another count": ("runner", "key = (count, self._latest)", "key = (0, self._latest)"),
    "stale scratch in graphs": ("runner", "if self._graphs_of != self.scratch.generation:", "if False:"),
    "stale scratch in contexts": (
        "engine",
        "if self._generation != self._scratch.generation:",
        "if self._generation < 0:",
    ),
    "scratch moved while a graph is captured": ("runner", "            context.follow()\n", "            pass\n"),
    "scratch too small": ("engine", "scratch.reserve(int(self._engine.device_memory_size_v2))", "scratch.reserve(64)"),
    "unchecked CUDA status": ("device", "if int(status) != 0:\n            raise", "if False:\n            raise"),
    "unchecked enqueue": (
        "engine",
        "if not self._context.execute_async_v3(int(stream.handle)):",
        "if self._context.execute_async_v3(int(stream.handle)) is None:",
    ),
    "scalars read before the work is done": (
        "runner",
        'source.num_bytes, "DeviceToHost")\n        self._stream.synchronize()',
        'source.num_bytes, "DeviceToHost")',
    ),
    "staging overwritten while it is read": (
        "runner",
        "self._stream.synchronize()  # an earlier copy may",
        "pass  # an earlier copy may",
    ),
    "a refill writes the old side": (
        "runner",
        "self._states[self._latest].items():\n                self._upload",
        "self._states[1 - self._latest].items():\n                self._upload",
    ),
    "a refill forgets the unit": ("runner", 'self._upload(self._unit, self._staged["unit"], first, count)', "pass"),
    "a refill writes neighbours": (
        "runner",
        "offset, num_bytes = first * target.row_bytes, count * target.row_bytes",
        "offset, num_bytes = first * target.row_bytes, (count + 1) * target.row_bytes",
    ),
    "rows from slot 0 on": (
        "runner",
        'self._stream.copy(target.address + offset, source.address + offset, num_bytes, "HostToDevice")',
        'self._stream.copy(target.address, source.address + offset, num_bytes, "HostToDevice")',
    ),
    "best codes of the old side": (
        "runner",
        "self._states[self._latest][field]",
        "self._states[1 - self._latest][field]",
    ),
    "best scalars of the old side": (
        "runner",
        "now = self._states[self._latest]",
        "now = self._states[1 - self._latest]",
    ),
    "a decode leaves old codes behind": ("runner", "self._decoder.enqueue(self._stream)\n            self", "self"),
    "warm-up counts as a step": ("runner", "self._zero(self._activation, self._gradient)", "pass"),
    "memory is leaked": ("runner", "self._stack.close()", "pass"),
    "graphs are leaked": (
        "runner",
        "self._stream.synchronize()\n        self._drop_graphs()\n        self._steps",
        "self._stream.synchronize()\n        self._steps",
    ),
    "a failed capture stops the run": (
        "graphs",
        "if int(status) != 0:\n        cuda.clear_error()\n        return None",
        "if int(status) != 0:\n        raise EngineError('capture')",
    ),
    "an error left behind by a failed capture": (
        "graphs",
        "if int(status) != 0:\n        cuda.clear_error()\n",
        "if int(status) != 0:\n",
    ),
    "a capture that a refusal has left open": (
        "graphs",
        "_, *begun = cuda.runtime.cudaStreamEndCapture(stream.handle)",
        "begun = []",
    ),
    "what was captured before a refusal is leaked": ("graphs", "cuda.runtime.cudaGraphDestroy(begun[0])", "pass"),
    "captured while work is under way": ("graphs", "    stream.synchronize()\n    cuda.call(", "    cuda.call("),
    "a view of the other side": ("runner", "return dict(self._states[self._latest])", "return dict(self._states[0])"),
    "a view of the wrong type": ("buffers", '"typestr": self.dtype.str', '"typestr": "<f4"'),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_seeded_fault_is_caught(name: str) -> None:
    assert_caught(BATTERY, code(FAULTS[name]))


def test_the_battery_is_complete() -> None:
    """Every module of the package that runs on a device is loaded by :func:`code`."""
    found = {p.stem for p in Path(engine.cuda.__path__[0]).glob("*.py")} - {"__init__", "builder"}
    assert found == set(MODULES)
