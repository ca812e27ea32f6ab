"""A layer's page in a browser: sorting, filtering, keys, the larger view."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import eventually

if TYPE_CHECKING:
    from tests.browser.conftest import Open

pytestmark = pytest.mark.browser

ORDER = "[...document.querySelectorAll('#gallery > li')].map((i) => Number(/(\\d+).html/.exec(i.firstChild.href)[1]))"
SHOWN = ORDER.replace("].map", "].filter((i) => i.checkVisibility()).map")


def test_sorting(open_page: Open) -> None:
    page = open_page("layer/fc/index.html")
    assert page.evaluate(ORDER) == [0, 1, 2, 3, 4, 7]
    page.get_by_label("Sort").select_option("activation")
    assert page.evaluate(ORDER) == [1, 4, 0, 7, 3, 2]
    page.get_by_role("button", name="Turn the order round").click()
    assert page.evaluate(ORDER) == [7, 0, 4, 1, 3, 2]
    page.get_by_role("button", name="Turn the order round").click()
    page.get_by_label("Sort").select_option("label")
    assert page.evaluate(ORDER) == [0, 3, 4, 1, 2, 7]
    page.get_by_label("Sort").select_option("unit")
    assert page.evaluate(ORDER) == [0, 1, 2, 3, 4, 7]


def test_captions_follow_what_is_sorted_by(open_page: Open) -> None:
    page = open_page("layer/fc/index.html")
    tench = page.locator("#gallery").get_by_role("link", name="tench")
    assert tench.inner_text().split() == ["tench", "9.000"]
    page.get_by_label("Sort").select_option("spread")
    expect(tench).to_have_text(re.compile(r"^\s*tench\s+7\.000\s*$"), use_inner_text=True)
    page.get_by_label("Sort").select_option("unit")
    expect(tench).to_have_text(re.compile(r"^\s*tench\s+9\.000\s*$"), use_inner_text=True)


@pytest.mark.parametrize(
    ("text", "units"),
    [("TENCH", [1]), ("7", [7]), ("nothing like it", []), ("", [0, 1, 2, 3, 4, 7])],
)
def test_filtering_by_text(open_page: Open, text: str, units: list[int]) -> None:
    page = open_page("layer/fc/index.html")
    page.get_by_label("Filter").fill(text)
    assert page.evaluate(SHOWN) == units
    assert page.locator("#shown").inner_text() == ("6 shown" if len(units) == 6 else f"{len(units)} of 6 shown")


@pytest.mark.parametrize(
    ("which", "units"), [("dead", [2]), ("live", [0, 1, 3, 4, 7]), ("labelled", [0, 1, 3, 4]), ("pre", [3])]
)
def test_filtering_by_kind(open_page: Open, which: str, units: list[int]) -> None:
    page = open_page(f"layer/fc/index.html?show={which}")
    assert page.evaluate(SHOWN) == units
    page.get_by_label("Show").select_option("all")
    assert len(page.evaluate(SHOWN)) == 6


def test_a_bar_of_the_histogram_narrows_the_gallery(open_page: Open) -> None:
    page = open_page("layer/fc/index.html")
    bar = page.locator("#spread rect[data-low]").last
    low, high = (float(str(bar.get_attribute(f"data-{end}"))) for end in ("low", "high"))
    bar.click()
    assert page.evaluate(SHOWN) == [unit for unit, value in {0: 1, 1: 9, 4: 5, 7: -3}.items() if low <= value <= high]
    page.get_by_role("button", name="activation").click()
    assert len(page.evaluate(SHOWN)) == 6


def test_arrows_move_among_the_units_and_enter_opens(open_page: Open) -> None:
    page = open_page("layer/fc/index.html")
    page.locator("#gallery a").first.focus()
    focused = "document.activeElement.getAttribute('href')"
    for key, unit in [("ArrowRight", 1), ("End", 7), ("ArrowLeft", 4), ("Home", 0)]:
        page.keyboard.press(key)
        assert page.evaluate(focused) == f"{unit}.html", key
    assert page.evaluate("document.querySelectorAll('#gallery a[tabindex=\"0\"]').length") == 1
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_url("**/fc/1.html")


def test_a_unit_pointed_at_is_shown_larger(open_page: Open) -> None:
    page = open_page("layer/fc/index.html")
    assert not page.locator("#preview").is_visible()
    page.locator("#gallery").get_by_role("link", name="tench").hover()
    page.locator("#preview").wait_for()
    eventually(page, "document.querySelector('#preview img').naturalWidth")
    assert page.locator("#preview img").get_attribute("src") == "img/1-s1.webp"
    assert "activation 9" in page.locator("#preview").inner_text()
    page.locator("h1").hover()
    page.locator("#preview").wait_for(state="hidden")
