from __future__ import annotations

from collections.abc import Callable

import pytest

from engine.protocol import Runner, Scalars
from engine.tuning import Setting, fastest, lane_choices
from export.errors import EngineError
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

    def __init__(self, num_slots: int, delay_s: float, clock: Clock) -> None:
        mlp = Mlp.random(code_dim=4, num_units=2)
        super().__init__(mlp.manifest(2), mlp)
        self.num_slots = num_slots
        self.closed = False
        self._delay_s, self._clock = delay_s, clock

    def __exit__(self, *exc: object) -> None:
        self.closed = True

    def step(self, count: int) -> None:
        self._clock.now_s += count * self._delay_s


class Bench:
    """Engines that step ``speed(setting)`` slots a second; remembers those that were built."""

    def __init__(self, speed: Callable[[Setting], float]) -> None:
        self.clock, self.built = Clock(), dict[Setting, Waiting]()
        self._speed = speed

    def open(self) -> list[Waiting]:
        return [runner for runner in self.built.values() if not runner.closed]

    def __call__(self, setting: Setting) -> Waiting:
        assert self.open() == []  # there may be memory for one
        delay_s = setting.num_slots / self._speed(setting)
        self.built[setting] = Waiting(setting.num_slots, delay_s, self.clock)
        return self.built[setting]


@pytest.mark.parametrize(
    ("speeds", "best"),
    [
        ({1: 100, 2: 133, 4: 80}, 2),
        ({1: 100, 2: 100, 4: 200}, 4),  # nothing won by two, but by four
        ({1: 100, 2: 102, 4: 102}, 1),  # less than a lane is worth
    ],
)
def test_the_fastest_lanes_are_chosen_and_their_engine_stays_if_it_was_the_last(
    speeds: dict[int, float], best: int
) -> None:
    bench = Bench(lambda setting: speeds[setting.lanes])
    found = fastest(bench, [16], list(speeds), clock=bench.clock)
    assert found.setting == Setting(16, best)
    assert {setting.lanes: speed for setting, speed in found.speeds.items()} == pytest.approx(speeds)
    assert list(found.speeds) == [Setting(16, lanes) for lanes in speeds]
    kept: list[Runner] = [bench.built[Setting(16, best)]] if best == max(speeds) else []
    assert bench.open() == kept == [runner for runner in [found.runner] if runner is not None]
    found.close()
    assert bench.open() == []


def test_an_engine_that_fails_is_closed() -> None:
    bench = Bench(lambda setting: 0 if setting.lanes == 2 else 1)  # division by zero when it is built
    with pytest.raises(ZeroDivisionError):
        fastest(bench, [16], [1, 2], clock=bench.clock)
    assert len(bench.built) == 1
    assert bench.open() == []


@pytest.mark.parametrize(
    ("speeds", "best"),
    [
        ({4: 90, 8: 95, 16: 100, 32: 120, 64: 150}, 64),
        ({4: 90, 8: 95, 16: 100, 32: 120, 64: 121}, 32),
        (
            {4: 90, 8: 99, 16: 100, 32: 101, 64: 200},
            8,
        ),  # smaller is as good; beyond a plain nobody looks
        ({4: 300, 8: 200, 16: 100, 32: 50, 64: 20}, 4),
    ],
)
def test_the_batch_grows_or_shrinks_while_it_pays(speeds: dict[int, float], best: int) -> None:
    bench = Bench(lambda setting: speeds[setting.batch])
    found = fastest(bench, list(speeds), [1], clock=bench.clock)
    assert found.setting == Setting(best, 1)
    assert best in {setting.batch for setting in found.speeds}


def test_what_does_not_fit_is_not_built() -> None:
    bench = Bench(lambda setting: setting.num_slots)
    found = fastest(bench, [4, 8, 16, 32], [1, 2], lambda setting: setting.num_slots <= 16, bench.clock)
    assert found.setting == Setting(16, 1)
    assert max(setting.num_slots for setting in bench.built) == 16
    with pytest.raises(ValueError, match="fits"):
        fastest(bench, [4], [1], lambda setting: False, bench.clock)


class Later(Waiting):
    """Has nothing done until it is looked at, as a GPU."""

    _waiting_s = 0.0

    def step(self, count: int) -> None:
        self._waiting_s += count * self._delay_s

    def scalars(self) -> Scalars:
        self._clock.now_s += self._waiting_s
        self._waiting_s = 0.0
        return super().scalars()


def test_a_step_that_is_only_asked_for_is_not_done() -> None:
    clock = Clock()
    speeds = {8: 100.0, 16: 200.0, 32: 150.0}

    def build(setting: Setting) -> Later:
        return Later(setting.num_slots, setting.num_slots / speeds[setting.batch], clock)

    found = fastest(build, list(speeds), [1], clock=clock)
    assert found.setting == Setting(16, 1)
    assert {setting.batch: speed for setting, speed in found.speeds.items()} == pytest.approx(speeds)


def test_a_batch_that_does_not_run_is_left_out_unless_it_is_the_first() -> None:
    bench = Bench(lambda setting: 100.0 * setting.batch)

    def build(setting: Setting) -> Waiting:
        if setting.batch > largest:
            raise EngineError("the GPU is out of memory")
        return bench(setting)

    largest = 64
    found = fastest(build, [16, 32, 64, 128, 256], [1], clock=bench.clock)
    assert found.setting == Setting(64, 1)
    assert found.speeds == pytest.approx({Setting(64, 1): 6400, Setting(128, 1): 0, Setting(32, 1): 3200})
    largest = 32
    with pytest.raises(EngineError, match="out of memory"):
        fastest(build, [16, 32, 64], [1], lambda setting: setting.batch > 32, clock=bench.clock)
