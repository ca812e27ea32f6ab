"""What a build tells while it works."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from engine.loop import JobResult
from export.network import LayerInfo
from pipeline.config import LayerSection
from pipeline.plan import LayerPlan, Plan, SeedPlan, Shard
from pipeline.progress import LineReporter, LiveReporter, Tally, format_duration, make_reporter, opening
from tests.pipeline.recipes import make_recipe


def make_plan(num_units: int, num_done: int = 0, name: str = "features.denseblock4.denselayer32.conv2") -> Plan:
    units = tuple(range(num_units))
    layer = LayerPlan(
        LayerSection(name=name),
        LayerInfo(name, name, (num_units, 7, 7), None),
        units,
        (SeedPlan(make_recipe(layer=name), (), units[num_done:]),),
    )
    shards = (Shard(name, "key", 0, units[num_done:]),) if num_done < num_units else ()
    return Plan((layer,), shards)


def make_result(unit: int, activation: float = 2.0, status: str = "done") -> JobResult:
    nothing = np.zeros(0, np.float32)
    return JobResult(unit, 0, status, np.float32(activation), 10, nothing, nothing, np.zeros((1, 1, 3), np.uint8))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_lines_come_at_the_interval_and_when_a_layer_is_complete() -> None:
    lines: list[str] = []
    clock = Clock()
    plan = make_plan(100, name="conv")
    with LineReporter(lines.append, interval_s=10, clock=clock) as reporter:
        reporter.start(plan)
        reporter.begin_shard(plan.shards[0])
        for unit in range(100):
            clock.now += 0.5
            reporter.record(make_result(unit, status="dead" if unit < 5 else "done"), "conv")
        reporter.end_shard(plan.shards[0])
    assert lines[0] == "100 of 100 jobs to run in 1 shards"
    assert lines[1] == "conv: 20/100 units, 2/s, 0:40, mean 2, 5 dead"
    assert lines[-1] == "conv: 100/100 units, 2/s, 0:00, mean 2, 5 dead"
    assert len(lines) == 6


def test_a_line_waits_for_the_end_of_a_burst() -> None:
    lines: list[str] = []
    clock = Clock()
    plan = make_plan(32, name="conv")
    with LineReporter(lines.append, interval_s=10, clock=clock) as reporter:
        reporter.start(plan)
        reporter.begin_shard(plan.shards[0])
        for burst in range(2):
            clock.now += 20
            for unit in range(16):
                reporter.record(make_result(16 * burst + unit), "conv")
        reporter.end_shard(plan.shards[0])
    assert lines[1:] == [
        "conv: 16/32 units, 0.8/s, 0:20, mean 2, 0 dead",
        "conv: 32/32 units, 0.8/s, 0:00, mean 2, 0 dead",
    ]


def test_what_is_done_counts_as_done_but_not_as_speed() -> None:
    clock = Clock()
    tally = Tally.of(make_plan(10, num_done=6).layers[0])
    tally.started = 0.0
    tally.add(make_result(6))
    clock.now = 2.0
    assert (tally.done, tally.total, tally.rate(clock.now)) == (7, 10, 0.5)
    assert tally.cells(clock.now)["left"] == "0:06"


@pytest.mark.parametrize("activation", [float("nan"), float("-inf")])
def test_the_mean_leaves_out_what_is_dead_or_not_finite(activation: float) -> None:
    tally = Tally(3, 0)
    for result in (make_result(0, 4.0), make_result(1, activation, "dead")):
        tally.add(result)
    assert (tally.mean(), tally.dead) == (4.0, 1)


def test_a_live_display_fits_80_columns_and_shows_every_number() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=25, color_system=None)
    clock = Clock()
    plan = make_plan(1000)
    with LiveReporter(console, clock=clock) as reporter:
        reporter.start(plan)
        reporter.begin_shard(plan.shards[0])
        for unit in range(512):
            clock.now += 8.0
            reporter.record(make_result(unit, 12345.678), "conv")
        clock.now += 1
        width = max(len(line.rstrip()) for line in _render(reporter).splitlines())
        text = _render(reporter)
    assert width <= 80
    for part in ("features.denseblo", "512/1000", "0.125/s", "1:05:04", "mean 1.23e+04", "0 dead"):
        assert part in text


def test_a_build_with_nothing_to_do_says_so_and_shows_no_bars() -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=80, color_system=None)
    plan = make_plan(4, num_done=4)
    with LiveReporter(console) as reporter:
        reporter.start(plan)
    assert file.getvalue().strip() == "nothing to do: 4 of 4 jobs are already in the store"
    assert opening(make_plan(4, num_done=1)) == "3 of 4 jobs to run in 1 shards, 1 are already in the store"


def test_what_keeps_jobs_waiting_is_said_in_a_log_and_above_the_bars() -> None:
    lines: list[str] = []
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=80, color_system=None)
    for reporter in (LineReporter(lines.append), LiveReporter(console)):
        with reporter:
            reporter.start(make_plan(4))
            reporter.note("showing [12] candidate starts")
    assert lines[1:] == ["showing [12] candidate starts"]
    assert "showing [12] candidate starts" in file.getvalue()


def test_a_log_gets_lines_and_a_terminal_bars() -> None:
    assert isinstance(make_reporter(Console(file=io.StringIO())), LineReporter)
    assert isinstance(make_reporter(Console(file=io.StringIO(), force_terminal=True)), LiveReporter)


def test_durations() -> None:
    assert [format_duration(s) for s in (0.2, 59.6, 61, 3600, 36125)] == ["0:00", "1:00", "1:01", "1:00:00", "10:02:05"]


def _render(reporter: LiveReporter) -> str:
    console = Console(file=io.StringIO(), width=80, color_system=None)
    console.print(reporter._progress.get_renderable())
    return console.file.getvalue()  # type: ignore[attr-defined]
