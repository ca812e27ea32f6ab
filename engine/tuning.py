"""The fastest batch and lanes: measured, since they depend on the graph, the runtime and the processor."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from engine.protocol import Runner
from export.errors import EngineError

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


@dataclass(frozen=True)
class Tuned:
    """What a measurement found.

    Attributes:
        setting: the fastest.
        speeds: image-steps per second of all that were measured.
        runner: the engine of ``setting``, where it was the last that was measured: it is the caller's, who closes it.
    """

    setting: Setting
    speeds: dict[Setting, float]
    runner: Runner | None

    def close(self) -> None:
        """Free the engine."""
        if self.runner is not None:
            self.runner.__exit__(None, None, None)


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
) -> Tuned:
    """Step engines of several settings and compare: first the lanes, then the batches from there on.

    Args:
        build: makes an engine; one is closed before the next is made.
        batches: in ascending order; the search begins at the middle one and goes up or down while it gains.
        lanes: in ascending order.
        fits: whether there is memory for a setting; only those are built.
        clock: seconds.

    Returns:
        A setting than which no larger neighbour is :data:`WORTH` times faster.

    Raises:
        ValueError: no setting fits.
        EngineError: the runtime failed with the first setting; of the others, those with which it fails are left out.
    """
    bench = _Bench(build, clock)
    try:
        best = _search(bench.speed, batches, lanes, fits)
        bench.speed(best)
        return Tuned(best, bench.speeds, bench.take(best))
    finally:
        bench.close()


def _search(
    speed: Callable[[Setting], float],
    batches: Sequence[int],
    lanes: Sequence[int],
    fits: Callable[[Setting], bool],
) -> Setting:
    fitting = [n for n in batches if fits(Setting(n, lanes[0]))]
    if not fitting:
        raise ValueError("no setting fits")
    start = fitting[min(len(batches) // 2, len(fitting) - 1)]
    best = Setting(start, lanes[0])
    for count in lanes[1:]:
        setting = Setting(start, count)
        if fits(setting) and WORTH * speed(best) < speed(setting):
            best = setting
    smaller = [Setting(n, best.lanes) for n in reversed(batches) if n < start]
    larger = [Setting(n, best.lanes) for n in batches if n > start and fits(Setting(n, best.lanes))]
    for setting in larger:
        if WORTH * speed(best) >= speed(setting):
            break
        best = setting
    for setting in smaller if best.batch == start else ():
        if speed(best) > WORTH * speed(setting):
            break
        best = setting
    return best


class _Bench:
    """Measures settings, each once; the engine of the last one stays, until another is made."""

    def __init__(self, build: Callable[[Setting], Runner], clock: Callable[[], float]) -> None:
        self.speeds: dict[Setting, float] = {}
        self._build, self._clock = build, clock
        self._last: tuple[Setting, Runner] | None = None

    def speed(self, setting: Setting) -> float:
        """Image-steps per second, the median of ROUNDS after one step that warms up; 0 where it does not run.

        Raises:
            EngineError: the first that is asked for does not run.
        """
        if setting not in self.speeds:
            self.close()
            try:
                self.speeds[setting] = self._measure(setting)
            except EngineError:
                if not self.speeds:
                    raise
                self.speeds[setting] = 0.0  # of a GPU's memory nobody knows the size beforehand
        return self.speeds[setting]

    def _measure(self, setting: Setting) -> float:
        runner = self._build(setting).__enter__()
        self._last = setting, runner
        spent = []
        for _ in range(ROUNDS + 1):
            start = self._clock()
            runner.step(1)
            runner.scalars()  # a GPU has the step done only when its result is looked at
            spent.append(self._clock() - start)
        return runner.num_slots / statistics.median(spent[1:])

    def take(self, setting: Setting) -> Runner | None:
        """The engine of a setting, if it is still there; no longer closed here."""
        if self._last is None or self._last[0] != setting:
            return None
        runner, self._last = self._last[1], None
        return runner

    def close(self) -> None:
        last, self._last = self._last, None
        if last is not None:
            last[1].__exit__(None, None, None)
