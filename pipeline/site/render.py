"""Templates, with autoescaping and no undefined names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.site import charts, drawing

HERE = Path(__file__).parent

Render = Callable[[str, dict[str, Any]], bytes]
"""(template, context) -> UTF-8 page."""


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
    for name in environment.list_templates():
        environment.get_template(name)
    return lambda template, context: environment.get_template(template).render(context).encode("utf-8", "replace")
