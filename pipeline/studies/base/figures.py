"""Figures as SVG, drawn by matplotlib; equal data make equal bytes under one version of it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from export.errors import InputError

WIDTH_IN, HEIGHT_IN, DPI = 6.4, 3.6, 100
COLOURS = ("#2f6f9f", "#c8553d", "#5b8c5a", "#8e6c8a", "#b08b2e", "#555555")
STYLE: Any = {
    "svg.hashsalt": "neuron-atlas",
    "svg.fonttype": "path",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "figure.dpi": DPI,
}


@dataclass
class Drawing:
    """A figure being drawn: ``axes`` to draw on, ``svg`` once it is done."""

    axes: Any
    svg: bytes = field(default=b"")


@contextmanager
def figure(height: float = HEIGHT_IN) -> Iterator[Drawing]:
    """A figure with one pair of axes, of :data:`WIDTH_IN` x ``height`` inches.

    Raises:
        InputError: matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError(f"figures need matplotlib ({error}); run: pip install 'neuron-atlas[studies]'") from error
    with matplotlib.rc_context(STYLE):
        sheet = Figure(figsize=(WIDTH_IN, height), layout="constrained")
        FigureCanvasSVG(sheet)
        drawing = Drawing(sheet.add_subplot())
        yield drawing
        sink = io.BytesIO()
        sheet.savefig(sink, format="svg", metadata={"Date": None})
        drawing.svg = sink.getvalue()


def size_px(height: float = HEIGHT_IN) -> tuple[int, int]:
    """(width, height) in pixels of a figure of this height."""
    return round(WIDTH_IN * DPI), round(height * DPI)
