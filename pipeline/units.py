"""Selecting units of a layer: ``all``, ranges, numbers, names of classes."""

from __future__ import annotations

import re
from collections.abc import Sequence

from export.errors import InputError, suggestion

Units = str | tuple[int, ...] | tuple[str, ...]
"""``"all"``; ``"0:64"``, ``"0:8,12,100:"`` (ends exclusive, as in Python); a list of numbers; a list of class names."""

FORMS = '"all", a range such as "0:64", a list of numbers, or a list of class names'

_PART = re.compile(r"(?P<start>\d+)?(?P<colon>:)?(?P<end>\d+)?$")


def parse_units(value: object) -> Units:
    """Check the form of a selection; ranges are checked by :func:`select_units`, which knows the layer.

    Raises:
        ValueError: it is not one of the forms of :data:`Units`.
    """
    if isinstance(value, str):
        if value == "all" or _ranges(value) is not None:
            return value
        raise ValueError(FORMS)
    if isinstance(value, list | tuple) and value:
        if all(isinstance(v, int) and not isinstance(v, bool) and v >= 0 for v in value):
            return tuple(value)
        if all(isinstance(v, str) and v for v in value):
            return tuple(value)
    raise ValueError(FORMS)


def parse_units_option(text: str) -> Units:
    """Read ``--units``: as in a configuration, or the name of one class."""
    text = text.strip()
    if text == "all" or _ranges(text) is not None:
        return text
    return (text,)


def select_units(units: Units, layer: str, num_units: int, labels: Sequence[str] | None) -> tuple[int, ...]:
    """The selected units in ascending order, each once.

    Args:
        units: the selection.
        layer: for messages.
        num_units: units are 0 to ``num_units - 1``.
        labels: names of the layer's units, None when they have none.

    Raises:
        InputError: a unit the layer does not have, an empty range, or a class without such a name.
    """
    if units == "all":
        return tuple(range(num_units))
    chosen: set[int] = set()
    if isinstance(units, str):
        for start, end in _ranges(units) or []:
            stop = num_units if end is None else end
            _check_range(layer, num_units, start, stop)
            chosen.update(range(start, stop))
        return tuple(sorted(chosen))
    for unit in units:
        index = _named(unit, layer, labels) if isinstance(unit, str) else unit
        _check_range(layer, num_units, index, index + 1)
        chosen.add(index)
    return tuple(sorted(chosen))


def _named(name: str, layer: str, labels: Sequence[str] | None) -> int:
    if not labels:
        raise InputError(f"the units of layer {layer} have no names, so there is no unit {name!r}; give numbers")
    lowered = [label.lower() for label in labels]
    if name.lower() in lowered:
        return lowered.index(name.lower())
    wanted = _synonyms(name)
    alike = [index for index, label in enumerate(lowered) if wanted & _synonyms(label)]
    if len(alike) == 1:
        return alike[0]
    if alike:
        listing = ", ".join(f"{index} ({labels[index]})" for index in alike)
        raise InputError(f"layer {layer} has several classes {name!r}: {listing}; give a number")
    raise InputError(f"layer {layer} has no class {name!r}{suggestion(name, labels)}")


def _synonyms(label: str) -> set[str]:
    """``"tench, Tinca tinca"`` names one class twice."""
    return {part.strip().lower() for part in label.split(",")} - {""}


def _check_range(layer: str, num_units: int, start: int, stop: int) -> None:
    if start >= stop:
        raise InputError(f"units {start}:{stop} of layer {layer} are none; a range's end must lie above its start")
    if stop > num_units:
        raise InputError(
            f"layer {layer} has units 0 to {num_units - 1}; there is no unit {max(start, num_units)}, choose fewer"
        )


def _ranges(text: str) -> list[tuple[int, int | None]] | None:
    """``"0:8,12,100:"`` as [(0, 8), (12, 13), (100, None)]; None when it has another form."""
    found: list[tuple[int, int | None]] = []
    for part in text.split(","):
        match = _PART.match(part.strip())
        if not match or not part.strip() or not (match["start"] or match["colon"]):
            return None
        start = int(match["start"] or 0)
        if match["colon"]:
            found.append((start, int(match["end"]) if match["end"] else None))
        else:
            found.append((start, start + 1))
    return found
