"""What templates are given beside their context."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pipeline.site.render import column_classes


@pytest.mark.parametrize(
    ("rows", "classes"),
    [
        ((), ["n", "n"]),
        ((("1", "a"), ("\N{MINUS SIGN}2.5e3", "b"), ("\N{EN DASH}", "c")), ["n", "s"]),
        ((("8% [2%, 26%]", "a path that is longer than a line of a narrow screen"),), ["s", ""]),
        ((("1", "2"), ("3",)), ["n", "n"]),
        ((("12 %", "1,234"), (" 3 %", "x")), ["n", "s"]),
    ],
)
def test_columns_of_numbers_and_of_short_texts_are_known(rows: Sequence[Sequence[str]], classes: list[str]) -> None:
    assert column_classes(("a", "b"), rows) == classes
