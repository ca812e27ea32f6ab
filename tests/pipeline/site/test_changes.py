from __future__ import annotations

import math
from typing import Any

import pyarrow as pa

from pipeline.site.changes import UnitChange, changes_between


def table(*rows: tuple[str, int, int, float, str, str]) -> pa.Table:
    names = ("layer", "unit", "seed", "activation", "status", "recipe")
    return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows])


def test_every_kind_of_change_is_told_and_what_stayed_is_not() -> None:
    before = table(
        ("a", 0, 0, 1.0, "done", "k"), ("a", 0, 1, 4.0, "done", "k1"),
        ("a", 1, 0, 2.0, "done", "k"),
        ("a", 2, 0, 2.0, "done", "k"),
        ("a", 3, 0, 2.0, "done", "k"),
        ("a", 4, 0, -math.inf, "dead", "k"),
        ("a", 5, 0, 2.0, "done", "k"),
        ("a", 6, 0, -math.inf, "dead", "k"),
    )  # fmt: skip
    after = table(
        ("a", 0, 0, 4.0, "done", "k"), ("a", 0, 1, 1.0, "done", "k1"),
        ("a", 1, 0, 3.0, "done", "k"),
        ("a", 2, 0, 1.0, "done", "k"),
        ("a", 3, 0, -math.inf, "dead", "k"),
        ("a", 4, 0, 5.0, "done", "k"),
        ("a", 5, 0, 2.0, "done", "other"),
        ("a", 6, 0, -math.inf, "dead", "other"),
        ("b", 0, 0, 7.0, "done", "k"),
    )  # fmt: skip
    found = changes_between(before, after, "2026-01-01")
    expected: dict[str, dict[int, Any]] = {
        "a": {
            1: UnitChange("higher", 2.0, 3.0),
            2: UnitChange("lower", 2.0, 1.0),
            3: UnitChange("died", 2.0, None),
            4: UnitChange("revived", None, 5.0),
            5: UnitChange("made again", 2.0, 2.0),
        },
        "b": {0: UnitChange("new", None, 7.0)},
    }
    assert found.units == expected
    assert changes_between(after, before, "x").units["b"] == {0: UnitChange("gone", 7.0, None)}
    assert changes_between(after, after, "x").units == {}


def test_amounts_are_relative_to_the_larger_one() -> None:
    assert UnitChange("higher", 2.0, 4.0).amount == 0.5
    assert UnitChange("lower", -1.0, -4.0).amount == 0.75
    assert UnitChange("new", None, 4.0).amount == 1.0
    assert UnitChange("made again", 0.0, 0.0).amount == 0.0
