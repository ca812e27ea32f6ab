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


def numeric_column(rows: Sequence[Sequence[str]], index: int) -> bool:
    """Whether a table's column holds numbers alone, so that it is set flush right."""
    return all(_NUMBER.fullmatch(row[index].strip()) for row in rows if index < len(row))


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
    environment.globals["numeric_column"] = numeric_column
    for name in environment.list_templates():
        environment.get_template(name)
    return lambda template, context: environment.get_template(template).render(context).encode("utf-8", "replace")
