from __future__ import annotations

import pytest

from engine.tuning import fastest_lanes, lane_choices
from tests.engine.graphs import Mlp
from tests.engine.reference import NumpyRunner


@pytest.mark.parametrize(
    ("threads", "choices"), [(1, [1]), (2, [1, 2]), (3, [1, 3]), (4, [1, 2, 4]), (16, [1, 2, 8, 16])]
)
def test_lanes_share_the_threads_evenly(threads: int, choices: list[int]) -> None:
    assert lane_choices(threads) == choices


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Waiting(NumpyRunner):
    """Takes ``delay_s`` a step, whatever its number of slots."""

    def __init__(self, lanes: int, delay_s: float, clock: Clock) -> None:
        mlp = Mlp.random(code_dim=4, num_units=2)
        super().__init__(mlp.manifest(2), mlp)
        self.num_slots = 2 * lanes
        self.closed = False
        self._delay_s, self._clock = delay_s, clock

    def __exit__(self, *exc: object) -> None:
        self.closed = True

    def step(self, count: int) -> None:
        self._clock.now_s += count * self._delay_s


@pytest.mark.parametrize(
    ("delays", "best"),
    [
        ({1: 0.02, 2: 0.03, 4: 0.1}, 2),  # 100, 133, 80 slots a second
        ({1: 0.02, 2: 0.04, 4: 0.04}, 4),  # nothing won by two, but by four
        ({1: 0.02, 2: 0.0398, 4: 0.0797}, 1),  # less than a lane is worth
    ],
)
def test_the_fastest_is_chosen_and_every_engine_is_closed(delays: dict[int, float], best: int) -> None:
    clock = Clock()
    runners = {lanes: Waiting(lanes, delay, clock) for lanes, delay in delays.items()}
    found, speeds = fastest_lanes(runners.__getitem__, list(delays), clock)
    assert found == best
    assert speeds.keys() == delays.keys()
    assert all(runner.closed for runner in runners.values())
