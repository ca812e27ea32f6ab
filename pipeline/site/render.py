"""Templates, with autoescaping and no undefined names."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.site import charts, drawing

HERE = Path(__file__).parent

Render = Callable[[str, dict[str, Any]], bytes]
"""(template, context) -> UTF-8 page."""


_NUMBER = re.compile(rf"[{charts.MINUS}+-]?[\d.,]+(e[{charts.MINUS}+-]?\d+)?\s*%?|[{charts.EN_DASH}-]?")


_SHORT = 24
"""Letters of a cell that is not broken into lines."""


def column_classes(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Per column of a table its class: ``n`` where it holds numbers alone, set flush right; ``s`` where all cells are
    short; else nothing. Asked once per table: there may be one on each of ten thousand pages.
    """
    num_columns = max(map(len, [head, *rows]))
    columns = [[row[index].strip() for row in rows if index < len(row)] for index in range(num_columns)]
    return ["n" if all(map(_NUMBER.fullmatch, c)) else "s" if max(map(len, c)) <= _SHORT else "" for c in columns]


def make_renderer() -> Render:
    """The templates of the site, all read now: what is upgraded meanwhile does not show in half of a site."""
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        auto_reload=False,
    )
    environment.filters["number"] = charts.number
    environment.filters["measured"] = charts.measured
    frame = ("WIDTH", "HEIGHT", "LEFT", "RIGHT", "TOP", "BOTTOM")
    environment.globals["chart"] = {name: getattr(charts, name) for name in frame}
    environment.globals["drawing"] = drawing
    environment.globals["column_classes"] = column_classes
    for name in environment.list_templates():
        environment.get_template(name)
    return lambda template, context: environment.get_template(template).render(context).encode("utf-8", "replace")
