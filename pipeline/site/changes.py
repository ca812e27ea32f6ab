"""What changed since the publication before, as plain data, and how to tell from two tables of units."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa

Kind = Literal["new", "gone", "higher", "lower", "died", "revived", "made again"]

TOLERANCE = 1e-6
"""Relative difference of activations below which a unit counts as unchanged."""


@dataclass(frozen=True)
class UnitChange:
    """What happened to a unit.

    Attributes:
        kind: ``made again``: by another recipe, to the same activation.
        before: best activation before; None when there was none.
        after: best activation now; None when there is none.
    """

    kind: Kind
    before: float | None
    after: float | None

    @property
    def amount(self) -> float:
        """How much the activation changed, relative to the larger one, 0 to 2; 1 where one of them is missing."""
        if self.before is None or self.after is None:
            return 1.0
        size = max(abs(self.before), abs(self.after))
        return abs(self.after - self.before) / size if size else 0.0


@dataclass(frozen=True)
class Changes:
    """Units that changed; those that did not are not listed.

    Attributes:
        since: when the other publication was made, for people: ``2026-11-23``.
        units: layer -> unit -> what happened.
        notes: further sentences, such as ``the generator was replaced``.
    """

    since: str
    units: Mapping[str, Mapping[int, UnitChange]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def changes_between(before: pa.Table, after: pa.Table, since: str, notes: tuple[str, ...] = ()) -> Changes:
    """Compare two tables as :mod:`pipeline.table` writes them: a unit's best live activation, then and now.

    Args:
        before: with the columns layer, unit, activation, status and recipe.
        after: likewise.
        since: see :class:`Changes`.
        notes: see :class:`Changes`.
    """
    old, new = _best(before), _best(after)
    units: dict[str, dict[int, UnitChange]] = {}
    for key in sorted(old.keys() | new.keys()):
        if (change := _change(old.get(key), new.get(key))) is not None:
            units.setdefault(key[0], {})[key[1]] = change
    return Changes(since, units, notes)


_Best = tuple[float | None, frozenset[str]]
"""Best live activation, and the recipes of the unit's rows."""


def _change(old: _Best | None, new: _Best | None) -> UnitChange | None:
    if old is None or new is None:
        assert old is not None or new is not None
        return UnitChange("new", None, new[0]) if new is not None else UnitChange("gone", old[0] if old else None, None)
    before, after = old[0], new[0]
    if before is None or after is None:
        if before is after:
            return None
        return UnitChange("revived" if before is None else "died", before, after)
    if math.isclose(before, after, rel_tol=TOLERANCE):
        return None if old[1] == new[1] else UnitChange("made again", before, after)
    return UnitChange("higher" if after > before else "lower", before, after)


def _best(table: pa.Table) -> dict[tuple[str, int], _Best]:
    found: dict[tuple[str, int], _Best] = {}
    columns = [table.column(name).to_pylist() for name in ("layer", "unit", "activation", "status", "recipe")]
    for layer, unit, activation, status, recipe in zip(*columns, strict=True):
        best, recipes = found.get((layer, unit), (None, frozenset()))
        if status == "done":
            best = activation if best is None else max(best, activation)
        found[layer, unit] = best, recipes | {recipe}
    return found
