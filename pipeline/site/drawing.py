"""Charts and films as SVG, and rows of tables. In Python, since a unit's page has some two hundred numbers of these and
an atlas some ten thousand pages: the templates took half of the time of a whole site for them. Texts are escaped here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

from markupsafe import Markup, escape

from pipeline.site.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, LineChart, Tick

NUM_STYLES = 4
"""Kinds of lines that the style sheet tells apart."""


class Axes(Protocol):
    """What has axes: a line chart, a histogram."""

    @property
    def x_title(self) -> str: ...
    @property
    def y_title(self) -> str: ...
    @property
    def x_ticks(self) -> tuple[Tick, ...]: ...
    @property
    def y_ticks(self) -> tuple[Tick, ...]: ...


class Cell(Protocol):
    """A frame of a film: where it begins in the strip, and what is said of it."""

    @property
    def left(self) -> int: ...
    @property
    def told(self) -> str: ...


class Strip(Protocol):
    """A film: one picture of square cells."""

    @property
    def src(self) -> str: ...
    @property
    def width(self) -> int: ...
    @property
    def side(self) -> int: ...


def axes(chart: Axes) -> Markup:
    """Grid, ticks, axis and titles, one element a line."""
    grid = "".join([f"M{LEFT} {tick.at}H{WIDTH - RIGHT}" for tick in chart.y_ticks])
    marks = "\n".join(
        [f'<text x="{LEFT - 8}" y="{tick.at + 4.5}">{escape(tick.text)}</text>' for tick in chart.y_ticks]
    )
    return Markup(
        f'<path class="grid" d="{grid}"/>\n<g class="ticks" text-anchor="end">\n{marks}\n</g>\n'
        f"{_horizontal(chart.x_ticks, chart.x_title)}"
        f'<text class="axis-name" transform="translate(17 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)"'
        f' text-anchor="middle">{escape(chart.y_title)}</text>'
    )


def lines(chart: LineChart) -> Markup:
    """The lines and their end points, the first one on top."""
    last = len(chart.lines) - 1
    return Markup(
        "\n".join(
            [
                f'<path class="line series-{(last - index) % NUM_STYLES}" d="{line.path}"/>\n'
                f'<circle class="dot series-{(last - index) % NUM_STYLES}" cx="{line.end[0]}" cy="{line.end[1]}"'
                ' r="4"/>'
                for index, line in enumerate(reversed(chart.lines))
            ]
        )
    )


def frame(film: Strip, cell: Cell, *, labelled: bool = True) -> Markup:
    """A cell of a film."""
    name = f'role="img" aria-label="{escape(cell.told)}"' if labelled else 'aria-hidden="true"'
    return Markup(
        f'<svg viewBox="{cell.left} 0 {film.side} {film.side}" {name}>'
        f'<image href="{escape(film.src)}" width="{film.width}" height="{film.side}"/></svg>'
    )


def table_rows(rows: Sequence[Sequence[str]], classes: Sequence[str]) -> Markup:
    """Rows of a table, headed by their first cells; ``classes`` of the columns, empty for none."""
    opened = [f'<td class="{name}">' if name else "<td>" for name in classes]
    return Markup(
        "\n".join(
            [
                f'<tr><th scope="row">{escape(row[0])}</th>'
                + "".join([f"{tag}{escape(cell)}</td>" for tag, cell in zip(opened[1:], row[1:], strict=False)])
                + "</tr>"
                for row in rows
                if row
            ]
        )
    )


@lru_cache(maxsize=256)
def _horizontal(ticks: Sequence[Tick], title: str) -> str:
    marks = "\n".join([f'<text x="{tick.at}" y="{HEIGHT - BOTTOM + 20}">{escape(tick.text)}</text>' for tick in ticks])
    return (
        f'<g class="ticks" text-anchor="middle">\n{marks}\n</g>\n'
        f'<path class="axis" d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>\n'
        f'<text class="axis-name" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">'
        f"{escape(title)}</text>\n"
    )
