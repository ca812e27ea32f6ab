"""Ctrl-C in the middle of a native call, whatever the call makes of it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from engine.host import HostRunner
from engine.loop import JobResult, run_jobs
from engine.ort import OnnxRuntimeModel
from engine.slots import Job, StopRule
from tests.engine.graphs import Mlp

STEPS, POLL, PRESS_AT = 40, 20, 7
GRAPH = Mlp.random(code_dim=4, num_units=2).graph(1, STEPS)


class Interrupted(OnnxRuntimeModel):
    """During its PRESS_AT-th call Ctrl-C is pressed ``presses`` times; it makes RuntimeErrors of that."""

    def __init__(self, presses: int) -> None:
        super().__init__(GRAPH.step, "step", 1)
        self.num_calls = 0
        self._presses = presses
        self._lock = threading.Lock()

    def bind(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> Callable[[], None]:
        run = super().bind(inputs, outputs)

        def interrupted() -> None:
            with self._lock:
                self.num_calls += 1
                now = self.num_calls == PRESS_AT
            run()
            try:
                for _ in range(self._presses if now else 0):
                    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            except KeyboardInterrupt:
                raise RuntimeError("Exception from src/inference: unknown") from None

        return interrupted


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("presses", [1, 2])
def test_the_loop_ends_before_the_next_poll(lanes: int, presses: int) -> None:
    step, results = Interrupted(presses), list[JobResult]()
    before = signal.getsignal(signal.SIGINT)
    jobs = [Job(unit, seed) for unit in range(2) for seed in range(4)]
    with (
        pytest.raises(KeyboardInterrupt),
        HostRunner("fake", GRAPH.manifest, step, OnnxRuntimeModel(GRAPH.decode, "decode", 1), lanes) as runner,
    ):
        run_jobs(runner, jobs, lambda job: np.ones(4, np.float32), StopRule(STEPS), POLL, results.append)
    assert step.num_calls <= (PRESS_AT if lanes == 1 else lanes * POLL)  # lanes run on until this thread has its turn
    assert results == []
    assert signal.getsignal(signal.SIGINT) is before
