"""The fastest batch and lanes: measured, since they depend on the graph, the runtime and the processor."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from engine.protocol import Runner

ROUNDS = 3
WORTH = 1.03
"""What a larger setting must gain; slots cost memory, and less than this is noise."""


class Setting(NamedTuple):
    """How an engine uses the machine.

    Attributes:
        batch: slots of a lane.
        lanes: batches that step side by side.
    """

    batch: int
    lanes: int

    @property
    def num_slots(self) -> int:
        return self.batch * self.lanes


def lane_choices(threads: int) -> list[int]:
    """1, and the numbers of lanes that share ``threads`` evenly: 2 at most when there are 2 threads.

    At most four are tried: one, two, half as many as there are threads, and one for every thread.
    """
    return sorted({n for n in (1, 2, threads // 2, threads) if n >= 1 and threads % n == 0})


def fastest(
    build: Callable[[Setting], Runner],
    batches: Sequence[int],
    lanes: Sequence[int],
    fits: Callable[[Setting], bool] = lambda setting: True,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[Setting, dict[Setting, float]]:
    """Step engines of several settings and compare: first the lanes, then the batches from there on.

    Args:
        build: makes an engine.
        batches: in ascending order; the search begins at the middle one and goes up or down while it gains.
        lanes: in ascending order.
        fits: whether there is memory for a setting; only those are built.
        clock: seconds.

    Returns:
        A setting than which no larger neighbour is :data:`WORTH` times faster; and image-steps per second of all that
        were measured.

    Raises:
        ValueError: no setting fits.
        EngineError: the runtime failed.
    """
    speeds: dict[Setting, float] = {}

    def speed(setting: Setting) -> float:
        if setting not in speeds:
            speeds[setting] = _speed(build, setting, clock)
        return speeds[setting]

    fitting = [n for n in batches if fits(Setting(n, lanes[0]))]
    if not fitting:
        raise ValueError("no setting fits")
    start = fitting[min(len(batches) // 2, len(fitting) - 1)]
    best = Setting(start, lanes[0])
    for count in lanes[1:]:
        setting = Setting(start, count)
        if fits(setting) and speed(setting) > WORTH * speed(best):
            best = setting
    smaller = [Setting(n, best.lanes) for n in reversed(batches) if n < start]
    larger = [Setting(n, best.lanes) for n in batches if n > start and fits(Setting(n, best.lanes))]
    for setting in larger:
        if speed(setting) <= WORTH * speed(best):
            break
        best = setting
    for setting in smaller if best.batch == start else ():
        if speed(best) > WORTH * speed(setting):
            break
        best = setting
    speed(best)
    return best, speeds


def _speed(build: Callable[[Setting], Runner], setting: Setting, clock: Callable[[], float]) -> float:
    """Image-steps per second, the median of ROUNDS after one step that warms up."""
    with build(setting) as runner:
        spent = []
        for _ in range(ROUNDS + 1):
            start = clock()
            runner.step(1)
            spent.append(clock() - start)
        return runner.num_slots / statistics.median(spent[1:])
