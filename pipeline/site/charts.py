"""Geometry of the two charts: activation over steps, and the histogram of a layer. Templates draw it as SVG."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 560, 260
"""View box of a chart."""

LEFT, RIGHT, TOP, BOTTOM = 72, 16, 16, 46
"""Margins around the plotting area."""

MAX_BINS = 40
EN_DASH, MINUS, TIMES = "\N{EN DASH}", "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: where, and what is written there."""

    at: float
    text: str


@dataclass(frozen=True)
class Line:
    """A trajectory: SVG path data and its end point."""

    name: str
    path: str
    end: tuple[float, float]


@dataclass(frozen=True)
class Trajectory:
    """Activation over steps, one line per seed."""

    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]
    summary: str


@dataclass(frozen=True)
class Bar:
    """A bin of a histogram."""

    x: float
    y: float
    width: float
    height: float
    text: str


@dataclass(frozen=True)
class Histogram:
    """Units by activation; ``low`` and ``high`` are the ends of the axis, in activations."""

    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    bars: tuple[Bar, ...]
    low: float
    high: float
    summary: str

    def at(self, value: float) -> float:
        """Where on the horizontal axis a value lies."""
        return _scale(value, self.low, self.high, LEFT, WIDTH - RIGHT)


def trajectory(curves: Sequence[tuple[str, int, Sequence[float]]]) -> Trajectory | None:
    """A chart of (name, steps, curve) each; points are evenly spaced and the last lies at ``steps``.

    Values that are not finite are left out. Returns None where nothing is left.
    """
    points = {
        name: [(steps * (i + 1) / len(curve), value) for i, value in enumerate(curve) if math.isfinite(value)]
        for name, steps, curve in curves
    }
    points = {name: line for name, line in points.items() if line}
    if not points:
        return None
    values = [value for line in points.values() for _, value in line]
    last = max(step for line in points.values() for step, _ in line) or 1.0
    y_values = nice_ticks(min(values), max(values), 5)
    low, high = y_values[0], y_values[-1]
    x_values = [value for value in nice_ticks(0, last, 6) if value <= last * 1.0001]

    def place(step: float, value: float) -> tuple[float, float]:
        return _scale(step, 0, last, LEFT, WIDTH - RIGHT), _scale(value, low, high, HEIGHT - BOTTOM, TOP)

    lines = []
    for name, line in points.items():
        placed = [place(*point) for point in line]
        start = f"M{placed[0][0] - 0.01:.2f} {placed[0][1]:.2f}"
        path = start + "".join(f"L{x:.2f} {y:.2f}" for x, y in placed)
        lines.append(Line(name, path, (round(placed[-1][0], 2), round(placed[-1][1], 2))))
    first = next(iter(points.values()))
    return Trajectory(
        x_ticks=tuple(Tick(round(place(v, low)[0], 2), number(v)) for v in x_values),
        y_ticks=tuple(Tick(round(place(0, v)[1], 2), number(v)) for v in y_values),
        lines=tuple(lines),
        summary=f"Activation over steps: {number(first[0][1])} to {number(first[-1][1])} in {first[-1][0]:.0f} steps.",
    )


def histogram(values: Sequence[float]) -> Histogram | None:
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
    tallest = max(counts)
    y_values = [value for value in nice_ticks(0, tallest, 4) if value == int(value)]
    top = max(y_values[-1], tallest)
    low, high = edges[0], edges[-1]
    bars = []
    for left, right, count in zip(edges, edges[1:], counts, strict=False):
        x0, x1 = (_scale(edge, low, high, LEFT, WIDTH - RIGHT) for edge in (left, right))
        y = _scale(count, 0, top, HEIGHT - BOTTOM, TOP)
        if count:
            text = f"{number(left)} to {number(right)}: {count} {'unit' if count == 1 else 'units'}"
            height = HEIGHT - BOTTOM - y
            bars.append(Bar(round(x0 + 0.5, 2), round(y, 2), round(x1 - x0 - 1, 2), round(height, 2), text))
    return Histogram(
        x_ticks=tuple(
            Tick(round(_scale(v, low, high, LEFT, WIDTH - RIGHT), 2), number(v))
            for v in nice_ticks(low, high, 7)
            if low <= v <= high
        ),
        y_ticks=tuple(Tick(round(_scale(v, 0, top, HEIGHT - BOTTOM, TOP), 2), number(v)) for v in y_values),
        bars=tuple(bars),
        low=low,
        high=high,
        summary=f"Histogram of the best activations of {len(ordered)} units, "
        f"{number(ordered[0])} to {number(ordered[-1])}, median {number(ordered[len(ordered) // 2])}.",
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
