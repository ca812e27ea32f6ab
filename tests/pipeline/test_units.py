"""Selections of units."""

from __future__ import annotations

import pytest

from export.errors import InputError
from pipeline.units import Units, parse_units, parse_units_option, select_units

LABELS = ("tench, Tinca tinca", "goldfish", "great white shark", "hen", "ostrich")


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        ("all", (0, 1, 2, 3, 4)),
        ("0:2", (0, 1)),
        ("3:", (3, 4)),
        (":2", (0, 1)),
        (":", (0, 1, 2, 3, 4)),
        ("4", (4,)),
        ("3, 0:2,3", (0, 1, 3)),
        ((4, 0, 4), (0, 4)),
        (("hen", "Goldfish"), (1, 3)),
        (("tench, Tinca tinca",), (0,)),
        (("tench",), (0,)),
        (("goldfish, Carassius auratus",), (1,)),
    ],
)
def test_units_are_selected_in_order_each_once(units: Units, expected: tuple[int, ...]) -> None:
    assert select_units(units, "fc", 5, LABELS) == expected


@pytest.mark.parametrize(
    ("units", "message"),
    [
        ("0:6", "has units 0 to 4; there is no unit 5"),
        ("7", "there is no unit 7"),
        ((1, 5), "there is no unit 5"),
        ("5:", "5:5 of layer fc are none"),
        ("3:3", "3:3 of layer fc are none"),
        (("goldfsh",), "has no class 'goldfsh'; did you mean goldfish"),
    ],
)
def test_what_the_layer_does_not_have_is_refused(units: Units, message: str) -> None:
    with pytest.raises(InputError, match=message):
        select_units(units, "fc", 5, LABELS)


def test_a_name_of_several_classes_is_refused() -> None:
    with pytest.raises(InputError, match=r"several classes 'crane': 0 \(crane, bird\), 1 \(crane, machine\)"):
        select_units(("crane",), "fc", 2, ("crane, bird", "crane, machine"))


def test_names_need_labels() -> None:
    with pytest.raises(InputError, match="have no names"):
        select_units(("hen",), "conv", 5, None)


@pytest.mark.parametrize("value", ["", "a", "1-2", "0:1:2", "-1", ",", "1,", [], [1.5], [True], {}, None, 3])
def test_other_forms_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match='"all", a range'):
        parse_units(value)


@pytest.mark.parametrize(
    ("text", "units"), [("all", "all"), ("0:3,5", "0:3,5"), ("tench, Tinca tinca", ("tench, Tinca tinca",))]
)
def test_the_option_is_a_range_or_one_name(text: str, units: Units) -> None:
    assert parse_units_option(text) == units
