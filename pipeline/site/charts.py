"""Geometry of charts: lines, and histograms. :mod:`pipeline.site.drawing` and the templates draw it as SVG."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

WIDTH, HEIGHT = 560, 260
"""View box of a chart."""

LEFT, RIGHT, TOP, BOTTOM = 72, 16, 16, 50
"""Margins around the plotting area."""

MAX_BINS = 40
LETTER = 9.0
"""Width of a letter of a mark's text, about, in a chart of half a screen's width."""

EN_DASH, MINUS, TIMES = "\N{EN DASH}", "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: where, and what is written there."""

    at: float
    text: str


@dataclass(frozen=True)
class Line:
    """A line: SVG path data and its end point."""

    name: str
    path: str
    end: tuple[float, float]


@dataclass(frozen=True)
class LineChart:
    """Lines over a common axis from ``low`` to ``high``; ``summary`` is what one hears who cannot see it."""

    x_title: str
    y_title: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]
    summary: str
    low: float
    high: float

    def at(self, value: float) -> float:
        """Where on the horizontal axis a value lies."""
        return round(_scale(value, self.low, self.high, LEFT, WIDTH - RIGHT), 1)


@dataclass(frozen=True)
class Bar:
    """A bin of a histogram; ``low`` and ``high`` in the axis' unit, ``what`` is counted, in the plural."""

    x: float
    y: float
    width: float
    height: float
    low: float
    high: float
    count: float
    what: str

    @property
    def text(self) -> str:
        """In words; most histograms have many bars and tell none of them."""
        what = self.what[:-1] if self.count == 1 and self.what.endswith("s") else self.what
        return f"{number(self.low)} to {number(self.high)}: {number(self.count)} {what}"


@dataclass(frozen=True)
class MarkAt:
    """A marked value: where on the horizontal axis, the text, and on which side of the line it fits."""

    x: float
    text: str
    anchor: str


@dataclass(frozen=True)
class Histogram:
    """Counts over an axis from ``low`` to ``high``."""

    x_title: str
    y_title: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    bars: tuple[Bar, ...]
    low: float
    high: float
    summary: str
    marks: tuple[MarkAt, ...] = ()

    @property
    def path(self) -> str:
        """All bars as one path, where single bars need no name."""
        floor = HEIGHT - BOTTOM
        return "".join(f"M{b.x} {floor}V{b.y}h{b.width}V{floor}z" for b in self.bars)

    def at(self, value: float) -> float:
        """Where on the horizontal axis a value lies."""
        return _scale(value, self.low, self.high, LEFT, WIDTH - RIGHT)

    def marked(self, value: float, text: str) -> Histogram:
        """The same histogram with a value marked; it must lie within the axis."""
        at = self.at(value)
        mark = MarkAt(round(at, 2), text, "end" if at > WIDTH / 2 else "start")
        return replace(self, marks=(*self.marks, mark))


def climb(curves: Sequence[tuple[str, int, Sequence[float]]]) -> LineChart | None:
    """Activation over steps, of (name, steps, curve) each; points are evenly spaced and the last lies at ``steps``.

    The first one, the unit's best, is told in words.
    """
    series = [
        (name, [steps * (i + 1) / len(curve) for i in range(len(curve))], list(curve)) for name, steps, curve in curves
    ]
    chart = line_chart(series, "steps", "activation", x_from_zero=True)
    if chart is None:
        return None
    name, xs, ys = next(line for line in series if any(map(math.isfinite, line[2])))
    points = [(x, y) for x, y in zip(xs, ys, strict=True) if math.isfinite(y)]
    first, last = points[0], points[-1]
    told = f"Activation over steps, {name}: {number(first[1])} to {number(last[1])} in {last[0]:.0f} steps."
    return replace(chart, summary=told)


def line_chart(
    series: Sequence[tuple[str, Sequence[float], Sequence[float]]],
    x_title: str,
    y_title: str,
    *,
    x_from_zero: bool = False,
) -> LineChart | None:
    """A chart of (name, x, y) each; points that are not finite are left out. None where nothing is left."""
    points = {
        name: [(x, y) for x, y in zip(xs, ys, strict=True) if math.isfinite(x) and math.isfinite(y)]
        for name, xs, ys in series
    }
    points = {name: line for name, line in points.items() if line}
    if not points:
        return None
    every = [point for line in points.values() for point in line]
    y_values = nice_ticks(min(y for _, y in every), max(y for _, y in every), 5)
    low, high = y_values[0], y_values[-1]
    first, last = 0.0 if x_from_zero else min(x for x, _ in every), max(x for x, _ in every)
    if last <= first:
        last = first + 1.0
    margin = 1e-4 * (last - first)
    x_values = [v for v in nice_ticks(first, last, 6) if first - margin <= v <= last + margin]

    def place(x: float, y: float) -> tuple[float, float]:
        return _scale(x, first, last, LEFT, WIDTH - RIGHT), _scale(y, low, high, HEIGHT - BOTTOM, TOP)

    lines = []
    x_scale, y_scale = (WIDTH - RIGHT - LEFT) / (last - first), (TOP - HEIGHT + BOTTOM) / (high - low)
    for name, line in points.items():
        placed = [(LEFT + x_scale * (x - first), HEIGHT - BOTTOM + y_scale * (y - low)) for x, y in line]
        path = "L".join([f"{x:.1f} {y:.1f}" for x, y in placed])
        end = round(placed[-1][0], 1), round(placed[-1][1], 1)
        lines.append(Line(name, f"M{path}" if len(placed) > 1 else f"M{path}h.01", end))
    told = "; ".join(
        f"{name}: {number(line[0][1])} at {number(line[0][0])} to {number(line[-1][1])} at {number(line[-1][0])}"
        for name, line in points.items()
    )
    return LineChart(
        x_title=x_title,
        y_title=y_title,
        x_ticks=tuple(Tick(round(place(v, low)[0], 2), number(v)) for v in x_values),
        y_ticks=tuple(Tick(round(place(first, v)[1], 2), number(v)) for v in y_values),
        lines=tuple(lines),
        summary=f"{y_title} over {x_title}. {told}.",
        low=first,
        high=last,
    )


def histogram(values: Sequence[float], x_title: str = "best activation", y_title: str = "units") -> Histogram | None:
    """A histogram with bins of equal, round width; None without finite values."""
    ordered = sorted(value for value in values if math.isfinite(value))
    if not ordered:
        return None
    wanted = max(4, min(MAX_BINS, math.ceil(2 * len(ordered) ** (1 / 3)) * 2))
    edges = nice_ticks(ordered[0], ordered[-1], wanted + 1)
    counts: list[int] = []
    for index, edge in enumerate(edges[1:], start=1):
        below = len(ordered) if index == len(edges) - 1 else bisect_right(ordered, edge)
        counts.append(below - sum(counts))
    told = (
        f"Histogram of the {x_title}s of {len(ordered)} units, "
        f"{number(ordered[0])} to {number(ordered[-1])}, median {number(ordered[len(ordered) // 2])}."
    )
    return _bars(edges, counts, (edges[0], edges[-1]), x_title, y_title, told)


def histogram_of_counts(
    low: float,
    high: float,
    counts: Sequence[float],
    x_title: str,
    y_title: str,
    marks: Sequence[tuple[float, str]] = (),
) -> Histogram | None:
    """A histogram of bins of equal width from ``low`` to ``high``; the axis reaches every mark.

    None where there is nothing to show.
    """
    marks = [mark for mark in marks if math.isfinite(mark[0])]
    if not counts or not high > low or max(counts) <= 0:
        return None
    edges = [low + (high - low) * index / len(counts) for index in range(len(counts) + 1)]
    ends = min([low, *(v for v, _ in marks)]), max([high, *(v for v, _ in marks)])
    told = f"Histogram: {number(sum(counts))} between {number(low)} and {number(high)}. "
    told += " ".join(f"{text}: {number(value)}." for value, text in marks)
    made = _bars(edges, list(counts), ends, x_title, y_title, told.strip())
    for value, text in marks:
        made = made.marked(value, f"{text} {number(value)}")
    return replace(made, marks=tuple(_apart(mark, made.marks) for mark in made.marks))


def _apart(mark: MarkAt, marks: Sequence[MarkAt]) -> MarkAt:
    """The outermost of several marks, its text outside of them where there is room."""
    room = LETTER * len(mark.text)
    if len(marks) > 1 and mark.x == max(other.x for other in marks) and mark.x + room < WIDTH - RIGHT:
        return replace(mark, anchor="start")
    if len(marks) > 1 and mark.x == min(other.x for other in marks) and mark.x - room > LEFT:
        return replace(mark, anchor="end")
    return mark


def _bars(
    edges: Sequence[float],
    counts: Sequence[float],
    ends: tuple[float, float],
    x_title: str,
    y_title: str,
    summary: str,
) -> Histogram:
    tallest = max(counts)
    whole = all(count == int(count) for count in counts)
    y_values = [value for value in nice_ticks(0, tallest, 4) if not whole or value == int(value)]
    top = max(y_values[-1], tallest)
    low, high = ends
    bars = []
    for left, right, count in zip(edges, edges[1:], counts, strict=False):
        if count:
            x0, x1 = (_scale(edge, low, high, LEFT, WIDTH - RIGHT) for edge in (left, right))
            y = _scale(count, 0, top, HEIGHT - BOTTOM, TOP)
            gap = min(1.0, 0.2 * (x1 - x0))
            x, width, height = x0 + gap / 2, x1 - x0 - gap, HEIGHT - BOTTOM - y
            place = round(x, 1), round(y, 1), round(width, 1), round(height, 1)
            bars.append(Bar(*place, left, right, count, y_title))
    return Histogram(
        x_title=x_title,
        y_title=y_title,
        x_ticks=tuple(
            Tick(round(_scale(v, low, high, LEFT, WIDTH - RIGHT), 2), number(v))
            for v in nice_ticks(low, high, 7)
            if low <= v <= high
        ),
        y_ticks=tuple(Tick(round(_scale(v, 0, top, HEIGHT - BOTTOM, TOP), 2), number(v)) for v in y_values),
        bars=tuple(bars),
        low=low,
        high=high,
        summary=summary,
    )


def nice_ticks(low: float, high: float, count: int) -> list[float]:
    """About ``count`` multiples of 1, 2 or 5 times a power of ten that enclose [low, high]; at least two."""
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        spread = abs(low) * 0.5 or 1.0
        low, high = low - spread, high + spread
    raw = (high - low) / max(1, count - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.9999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = max(0, 2 - math.floor(math.log10(step)))
    return [round(index * step, digits) for index in range(first, last + 1)]


def number(value: float) -> str:
    """A count or a tick: about four digits, no exponent where it can be avoided."""
    return _text(value, ".4g")


def measured(value: float) -> str:
    """A measurement: four digits, zeros at the end included."""
    return _text(value, "#.4g")


def _text(value: float, form: str) -> str:
    if not math.isfinite(value):
        return EN_DASH
    text = f"{value:,.0f}" if 1000 <= abs(value) < 1e15 else f"{value:{form}}".rstrip(".")
    return text.replace("-", MINUS)


def _scale(value: float, low: float, high: float, start: float, end: float) -> float:
    return start + (end - start) * (value - low) / (high - low)
