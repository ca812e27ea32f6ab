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
        [3 * chart.bars[1].height, chart.bars[1].height], abs=0.2
    )


def test_equal_values_make_a_histogram() -> None:
    chart = charts.histogram([2.0, 2.0])
    assert chart is not None
    assert len(chart.bars) == 1


def test_nothing_finite_makes_no_chart() -> None:
    assert charts.histogram([math.nan]) is None
    assert charts.climb([("seed 0", 10, (math.nan, -math.inf))]) is None
    assert charts.climb([]) is None


def test_points_of_a_climb_are_evenly_spaced_and_end_at_the_last_step() -> None:
    chart = charts.climb([("seed 0", 40, (1.0, 2.0, 4.0, 8.0)), ("seed 1", 20, (3.0, 3.0))])
    assert chart is not None
    xs = [float(x) for x in re.findall(r"[ML]([\d.]+) ", chart.lines[0].path)]
    width = charts.WIDTH - charts.RIGHT - charts.LEFT
    assert xs == pytest.approx([charts.LEFT + width * part for part in (0.25, 0.5, 0.75, 1)], abs=0.06)
    assert chart.lines[1].end[0] == pytest.approx(charts.LEFT + width / 2, abs=0.06)
    heights = [float(y) for y in re.findall(r"L[\d.]+ ([\d.]+)", chart.lines[0].path)]
    assert heights == sorted(heights, reverse=True)
    assert chart.summary == "Activation over steps, seed 0: 1 to 8 in 40 steps."


def test_the_first_climb_that_has_numbers_is_told_in_words() -> None:
    chart = charts.climb([("seed 2", 40, (math.nan, math.nan)), ("seed 5", 20, (math.nan, 3.0, 4.0))])
    assert chart is not None
    assert chart.summary.startswith("Activation over steps, seed 5: 3 to 4 in 20 steps")


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


def test_a_line_chart_joins_the_points_of_each_series_and_leaves_out_what_is_not_finite() -> None:
    chart = charts.line_chart([("a", [0, 1, 2], [1.0, math.nan, 3.0]), ("b", [1], [2.0])], "x", "y")
    assert chart is not None
    assert [line.name for line in chart.lines] == ["a", "b"]
    assert chart.lines[0].path.count("L") == 1
    assert chart.lines[0].end == (charts.WIDTH - charts.RIGHT, pytest.approx(charts.TOP))
    assert "a: 1 at 0 to 3 at 2" in chart.summary


def test_counts_become_bars_and_the_axis_reaches_every_mark() -> None:
    chart = charts.histogram_of_counts(0.0, 4.0, (1, 0, 3, 2), "activation", "images", [(16.0, "synthetic")])
    assert chart is not None
    assert [(bar.low, bar.high, bar.text) for bar in chart.bars] == [
        (0.0, 1.0, "0 to 1: 1 image"),
        (2.0, 3.0, "2 to 3: 3 images"),
        (3.0, 4.0, "3 to 4: 2 images"),
    ]
    assert chart.high == 16
    (mark,) = chart.marks
    assert (mark.x, mark.anchor, mark.text) == (charts.WIDTH - charts.RIGHT, "end", "synthetic 16")
    assert chart.path.count("M") == 3


@pytest.mark.parametrize(
    ("values", "anchors"),
    [((2.0, 2.5), ["end", "start"]), ((2.5, 2.0), ["start", "end"]), ((0.1, 3.9), ["start", "end"]), ((2.1,), ["end"])],
)
def test_texts_of_marks_stand_outside_of_them_where_there_is_room(
    values: tuple[float, ...], anchors: list[str]
) -> None:
    chart = charts.histogram_of_counts(
        0.0, 4.0, (1, 2), "activation", "images", [(value, "a mark") for value in values]
    )
    assert chart is not None
    assert [mark.anchor for mark in chart.marks] == anchors


@pytest.mark.parametrize("counts", [(), (0, 0)])
def test_no_counts_no_histogram(counts: tuple[float, ...]) -> None:
    assert charts.histogram_of_counts(0.0, 1.0, counts, "x", "images") is None
