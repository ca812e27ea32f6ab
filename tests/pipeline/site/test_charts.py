import math
import re

import numpy as np
import pytest

from pipeline.site import charts


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.2, 17.9), (1e-7, 3e-7), (4, 4), (0, 0), (-5, -5), (1e6, 3e9)])
@pytest.mark.parametrize("count", [2, 5, 20])
def test_ticks_enclose_the_range_in_equal_steps(low: float, high: float, count: int) -> None:
    ticks = charts.nice_ticks(low, high, count)
    assert len(ticks) >= 2
    assert ticks[0] <= low
    assert ticks[-1] >= high
    steps = np.diff(ticks)
    assert steps == pytest.approx(np.full(len(steps), steps[0]), rel=1e-6)
    assert len(ticks) <= count + 2


@pytest.mark.parametrize("size", [1, 2, 7, 100, 3000])
def test_a_histogram_counts_every_value_once(size: int) -> None:
    values = np.random.default_rng(size).normal(5, 3, size).tolist()
    chart = charts.histogram([*values, math.nan, -math.inf])
    assert chart is not None
    counts = [int(re.search(r": (\d+) unit", bar.text)[1]) for bar in chart.bars]  # type: ignore[index]
    assert sum(counts) == size
    assert chart.low <= min(values)
    assert chart.high >= max(values)
    assert charts.LEFT <= chart.at(min(values)) <= chart.at(max(values)) <= charts.WIDTH - charts.RIGHT


def test_bars_are_as_high_as_their_counts() -> None:
    chart = charts.histogram([1.5, 1.5, 1.5, 9.5])
    assert chart is not None
    assert [bar.height for bar in chart.bars] == pytest.approx(
        [3 * chart.bars[1].height, chart.bars[1].height], abs=0.05
    )


def test_equal_values_make_a_histogram() -> None:
    chart = charts.histogram([2.0, 2.0])
    assert chart is not None
    assert len(chart.bars) == 1


def test_nothing_finite_makes_no_chart() -> None:
    assert charts.histogram([math.nan]) is None
    assert charts.trajectory([("seed 0", 10, (math.nan, -math.inf))]) is None
    assert charts.trajectory([]) is None


def test_points_of_a_trajectory_are_evenly_spaced_and_end_at_the_last_step() -> None:
    chart = charts.trajectory([("seed 0", 40, (1.0, 2.0, 4.0, 8.0)), ("seed 1", 20, (3.0, 3.0))])
    assert chart is not None
    xs = [float(x) for x in re.findall(r"[ML]([\d.]+) ", chart.lines[0].path)][1:]
    width = charts.WIDTH - charts.RIGHT - charts.LEFT
    assert xs == pytest.approx([charts.LEFT + width * part for part in (0.25, 0.5, 0.75, 1)], abs=0.01)
    assert chart.lines[1].end[0] == pytest.approx(charts.LEFT + width / 2, abs=0.01)
    heights = [float(y) for y in re.findall(r"L[\d.]+ ([\d.]+)", chart.lines[0].path)]
    assert heights == sorted(heights, reverse=True)


@pytest.mark.parametrize(
    ("value", "text"), [(12.0, "12"), (1234567.0, "1,234,567"), (-0.5, "\u22120.5"), (math.inf, "\u2013"), (0.0, "0")]
)
def test_numbers_are_readable(value: float, text: str) -> None:
    assert charts.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(12.0, "12.00"), (9999.0, "9,999"), (-0.5, "\u22120.5000"), (999.96, "1000")]
)
def test_measurements_keep_their_digits(value: float, text: str) -> None:
    assert charts.measured(value) == text
