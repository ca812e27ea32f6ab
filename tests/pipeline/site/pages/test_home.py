"""The first page: the recipe that layers share, and changes in few words."""

from __future__ import annotations

import pytest

from pipeline.site.changes import UnitChange
from pipeline.site.pages.home import common_recipe, told

ARROW, MINUS = "\N{RIGHTWARDS ARROW}", "\N{MINUS SIGN}"


def test_the_recipe_on_the_first_page_is_what_layers_share() -> None:
    shared = {"ascent": {"steps": 40}, "seed": 0, "network": "n" * 64}
    found = common_recipe([{**shared, "layer": "stem", "batch": 8}, {**shared, "layer": "fc", "batch": 16}])
    assert [(row.name, row.text) for row in found] == [("ascent", "steps 40"), ("seed", "0")]
    assert common_recipe([]) == ()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (UnitChange("higher", -1.0, 2.0), f"{MINUS}1.000 {ARROW} 2.000"),
        (UnitChange("new", None, 3.0), "new, 3.000"),
        (UnitChange("died", 3.0, None), "died, was 3.000"),
        (UnitChange("gone", None, None), "gone"),
        (UnitChange("made again", 3.0, 3.0), "made again"),
    ],
)
def test_a_change_is_told_in_few_words(change: UnitChange, text: str) -> None:
    assert told(change) == text
