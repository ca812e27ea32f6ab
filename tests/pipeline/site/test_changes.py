"""The site's changes follow from the comparison that ``neuron-atlas diff`` prints."""

from __future__ import annotations

import math
from typing import Any

from pipeline.changes import Side, compare
from pipeline.site.changes import UnitChange, by_unit
from pipeline.store import Store
from pipeline.table import TableRow

Row = tuple[str, int, int, float, str, str]
"""Layer, unit, seed, activation, status, recipe."""


def side(name: str, *rows: Row) -> Side:
    found = {
        (layer, unit, seed): TableRow(layer, unit, seed, activation, 10, status, layer, recipe)
        for layer, unit, seed, activation, status, recipe in rows
    }
    return Side(name, found, Store(f"memory://{name}"))


BEFORE = side(
    "before",
    ("b", 7, 0, 1.0, "done", "k"),
    ("a", 0, 0, 1.0, "done", "k"), ("a", 0, 1, 4.0, "done", "k1"),
    ("a", 1, 0, 2.0, "done", "k"),
    ("a", 2, 0, 2.0, "done", "k"),
    ("a", 3, 0, 2.0, "done", "k"),
    ("a", 4, 0, -math.inf, "dead", "k"),
    ("a", 5, 0, 2.0, "done", "k"),
    ("a", 6, 0, -math.inf, "dead", "k"),
    ("a", 7, 0, 2.0, "done", "k"), ("a", 7, 1, 3.0, "done", "k1"),
    ("a", 8, 0, 2.0, "done", "k"),
    ("a", 9, 0, 2.0, "done", "k"), ("a", 9, 1, -math.inf, "dead", "k1"),
)  # fmt: skip
AFTER = side(
    "after",
    ("b", 0, 0, 7.0, "done", "k"),
    ("b", 7, 0, 1.0, "done", "k"),
    ("a", 0, 0, 1.0, "done", "k"), ("a", 0, 1, 4.0, "done", "k1"),
    ("a", 1, 0, 3.0, "done", "k"),
    ("a", 2, 0, 1.0, "done", "k"),
    ("a", 3, 0, -math.inf, "dead", "k"),
    ("a", 4, 0, 5.0, "done", "k"),
    ("a", 5, 0, 2.0, "done", "other"),
    ("a", 6, 0, -math.inf, "dead", "other"),
    ("a", 7, 0, 2.5, "done", "k"), ("a", 7, 1, 3.0, "done", "k1"),
    ("a", 8, 0, 2.0, "done", "k"), ("a", 8, 1, 2.5, "done", "k1"),
    ("a", 9, 0, -math.inf, "dead", "k"), ("a", 9, 1, 1.0, "done", "k1"),
)  # fmt: skip


def test_every_kind_of_change_is_told_and_what_stayed_is_not() -> None:
    expected: dict[str, dict[int, Any]] = {
        "b": {0: UnitChange("new", None, 7.0)},
        "a": {
            1: UnitChange("higher", 2.0, 3.0),
            2: UnitChange("lower", 2.0, 1.0),
            3: UnitChange("died", 2.0, None),
            4: UnitChange("revived", None, 5.0),
            5: UnitChange("made again", 2.0, 2.0),
            7: UnitChange("made again", 3.0, 3.0),  # another picture of a seed that is not the best
            8: UnitChange("higher", 2.0, 2.5),  # a further seed
            9: UnitChange("lower", 2.0, 1.0),  # one seed died, another woke up
        },
    }
    found = by_unit(compare(BEFORE, AFTER).jobs, "2026-01-01")
    assert found.units == expected
    assert list(found.units) == ["b", "a"]  # layers as they come
    assert found.since == "2026-01-01"
    assert by_unit(compare(AFTER, BEFORE).jobs, "x").units["b"] == {0: UnitChange("gone", 7.0, None)}
    assert by_unit(compare(AFTER, AFTER).jobs, "x").units == {}


def test_the_site_tells_of_the_units_that_the_comparison_lists_and_of_no_others() -> None:
    changes = compare(BEFORE, AFTER)
    listed = {(job["layer"], job["unit"]) for job in changes.to_dict()["units"]}
    told = by_unit(changes.jobs, "x").units
    assert {(layer, unit) for layer, units in told.items() for unit in units} == listed


def test_amounts_are_relative_to_the_larger_one() -> None:
    assert UnitChange("higher", 2.0, 4.0).amount == 0.5
    assert UnitChange("lower", -1.0, -4.0).amount == 0.75
    assert UnitChange("new", None, 4.0).amount == 1.0
    assert UnitChange("made again", 0.0, 0.0).amount == 0.0
