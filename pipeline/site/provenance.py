"""Cards and recipes as rows of a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from pipeline.site.charts import TIMES, number

FIRST = ("title", "description", "source", "licence", "license", "digest", "input", "output", "command")
"""Keys that come first; the others follow in the card's order."""

MONOSPACED = ("digest", "command", "key", "sha256", "network", "generator", "prior", "recipe key")


@dataclass(frozen=True)
class Row:
    """A fact: its name, its text, a web address it links to (or empty), and whether it is set in monospace."""

    name: str
    text: str
    href: str
    mono: bool


def card_rows(card: Mapping[str, Any]) -> tuple[Row, ...]:
    """Rows of a card; what is missing or empty is skipped."""
    order = [key for key in FIRST if key in card] + [key for key in card if key not in FIRST]
    return rows({key: card[key] for key in order})


def rows(facts: Mapping[str, Any]) -> tuple[Row, ...]:
    """One row per fact, in order; what is None or empty is skipped."""
    made = []
    for key, value in facts.items():
        text = as_text(value)
        if text:
            name = str(key).replace("_", " ")
            mono = name.lower() in MONOSPACED or name.lower().endswith(" digest")
            made.append(Row(name, text, text if _is_web_address(text) else "", mono))
    return tuple(made)


def as_text(value: object) -> str:
    """A JSON-like value to be read by people."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return number(value)
    if isinstance(value, Mapping):
        if {"height", "width"} <= value.keys():
            rest = {key: part for key, part in value.items() if key not in ("height", "width")}
            return "; ".join(filter(None, (f"{value['height']} {TIMES} {value['width']} px", as_text(rest))))
        parts = ((str(key).replace("_", " "), as_text(part)) for key, part in value.items())
        return "; ".join(f"{key} {text}" for key, text in parts if text)
    if isinstance(value, list | tuple):
        return ", ".join(filter(None, map(as_text, value)))
    return str(value).strip()


def _is_web_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc) and not any(c.isspace() for c in text)
