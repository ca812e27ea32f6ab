"""The step graphs' semantics in numpy, one slot at a time: what runtimes are compared with, and a fast runner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from engine.protocol import Scalars
from export.manifest import StepManifest
from tests.engine.graphs import CODE_BOUND, TINY, learning_rates


class Objective(Protocol):
    def ascent(self, code: np.ndarray, unit: int) -> tuple[np.float32, np.ndarray]: ...

    def image(self, code: np.ndarray) -> np.ndarray: ...


class NumpyRunner:
    """A :class:`~engine.protocol.Runner` in numpy; ``fills`` and ``ages`` tell what was done to it."""

    def __init__(self, manifest: StepManifest, objective: Objective) -> None:
        self.manifest = manifest
        self.num_slots = manifest.batch
        self.fills: list[tuple[int, int]] = []  # (slot, unit)
        self.oldest = 0  # the highest step counter seen
        self._objective = objective
        self._rates = learning_rates(manifest.steps)
        batch, dim = manifest.batch, manifest.code_dim
        self._unit = [0] * batch
        self._code, self._best_code = np.zeros((2, batch, dim), np.float32)
        self._step = np.zeros(batch, np.int64)
        self._best = np.full(batch, -np.inf, np.float32)
        self._activation, self._gradient = np.zeros((2, batch), np.float32)

    def __enter__(self) -> NumpyRunner:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def fill(self, slots: Sequence[int], units: Sequence[int], codes: np.ndarray) -> None:
        for slot, unit, code in zip(slots, units, codes, strict=True):
            self.fills.append((slot, unit))
            self._unit[slot], self._code[slot], self._best_code[slot] = unit, code, 0
            self._step[slot], self._best[slot] = 0, -np.inf

    def step(self, count: int) -> None:
        for _ in range(count):
            for slot in range(self.manifest.batch):
                self._step_slot(slot)
        self.oldest = max(self.oldest, int(self._step.max()))

    def _step_slot(self, slot: int) -> None:
        code = self._code[slot].copy()
        with np.errstate(all="ignore"):
            activation, gradient = self._objective.ascent(code, self._unit[slot])
            size = np.float32(np.mean(np.abs(gradient)))
            rate = self._rates[min(self._step[slot], self.manifest.steps - 1)]
            self._code[slot] = np.clip(code + rate * gradient / max(size, np.float32(TINY)), -CODE_BOUND, CODE_BOUND)
        if activation > self._best[slot]:
            self._best[slot], self._best_code[slot] = activation, code
        self._activation[slot], self._gradient[slot] = activation, size
        self._step[slot] += 1

    def scalars(self) -> Scalars:
        return Scalars(self._activation.copy(), self._gradient.copy(), self._best.copy(), self._step.copy())

    def codes(self, slots: Sequence[int]) -> np.ndarray:
        return self._code[list(slots)]

    def best_codes(self, slots: Sequence[int]) -> np.ndarray:
        return self._best_code[list(slots)]

    def decode(self, codes: np.ndarray) -> np.ndarray:
        return np.stack([self._objective.image(code) for code in codes]).astype(np.float32)
