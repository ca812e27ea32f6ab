"""How many lanes are fastest here: measured, since it depends on the graph, the runtime and the processor."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from engine.protocol import Runner

ROUNDS = 3
WORTH = 1.03
"""What one more lane must gain; lanes cost memory, and less than this is noise."""


def lane_choices(threads: int) -> list[int]:
    """1, and the numbers of lanes that share ``threads`` evenly: 2 at most when there are 2 threads.

    At most four are tried: one, two, half as many as there are threads, and one for every thread.
    """
    return sorted({n for n in (1, 2, threads // 2, threads) if n >= 1 and threads % n == 0})


def fastest_lanes(
    build: Callable[[int], Runner], choices: list[int], clock: Callable[[], float] = time.perf_counter
) -> tuple[int, dict[int, float]]:
    """Step an engine of each number of lanes and compare.

    Args:
        build: makes an engine of so many lanes.
        choices: numbers of lanes in ascending order.
        clock: seconds.

    Returns:
        The smallest number of lanes than which no larger one is :data:`WORTH` times faster; and image-steps per
        second of each.

    Raises:
        EngineError: the runtime failed.
    """
    speeds = {lanes: _speed(build, lanes, clock) for lanes in choices}
    best = choices[0]
    for lanes in choices[1:]:
        if speeds[lanes] > WORTH * speeds[best]:
            best = lanes
    return best, speeds


def _speed(build: Callable[[int], Runner], lanes: int, clock: Callable[[], float]) -> float:
    """Image-steps per second, the median of ROUNDS after one step that warms up."""
    with build(lanes) as runner:
        spent = []
        for _ in range(ROUNDS + 1):
            start = clock()
            runner.step(1)
            spent.append(clock() - start)
        return runner.num_slots / statistics.median(spent[1:])
