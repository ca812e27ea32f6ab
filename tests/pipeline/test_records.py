"""Which record of a unit is shown."""

from __future__ import annotations

import numpy as np

from engine.slots import Status
from pipeline.records import Record, best_of


def record(seed: int, activation: float, status: Status = "done", target: str = "conv") -> Record:
    nothing = np.zeros(0, np.float32)
    return Record(
        unit=3,
        seed=seed,
        activation=activation,
        steps=10,
        status=status,
        target=target,
        curve=nothing,
        code=nothing,
        image=b"",
        film_steps=(),
    )


def test_the_best_is_alive_of_the_layer_itself_the_highest_and_the_first() -> None:
    dead, before = record(0, 9.0, status="dead"), record(1, 8.0, target="conv.before")
    low, high, equal = record(2, 1.0), record(3, 2.0), record(4, 2.0)
    assert best_of([equal, dead, before, low, high], "conv") is high
    assert best_of([dead, before], "conv") is before
    assert best_of([dead], "conv") is None
    assert best_of([], "conv") is None
