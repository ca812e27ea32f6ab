"""Search and the random unit, in a browser."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.browser.conftest import eventually

if TYPE_CHECKING:
    from tests.browser.conftest import Open

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(
    ("query", "first", "count"),
    [("tinca", "layer/fc/1.html", 1), ("stem 2", "layer/stem/2.html", 1), ("classes 7", "layer/fc/7.html", 1)],
)
def test_search(open_page: Open, query: str, first: str, count: int) -> None:
    page = open_page("layer/stem/index.html")
    page.keyboard.press("/")
    page.get_by_label("Find a unit").fill(query)
    hits = page.locator("#hits a")
    hits.first.wait_for()
    assert hits.count() == count
    assert str(hits.first.get_attribute("href")).endswith(first)
    eventually(page, "[...document.querySelectorAll('#hits img')].every((image) => image.naturalWidth)")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/{first}")


def test_hits_are_gone_through_by_arrows(open_page: Open) -> None:
    page = open_page("index.html")
    page.get_by_label("Find a unit").fill("classes")
    page.locator("#hits a").first.wait_for()
    for key, selected in [("ArrowDown", 1), ("ArrowDown", 2), ("ArrowUp", 1)]:
        page.keyboard.press(key)
        assert page.locator("#hits > a").nth(selected).get_attribute("aria-selected") == "true"
    assert page.locator("[aria-selected=true]").count() == 1
    page.keyboard.press("Escape")
    assert not page.locator("#found").is_visible()


def test_search_without_a_hit_says_what_to_try(open_page: Open) -> None:
    page = open_page("index.html")
    page.get_by_label("Find a unit").fill("zebra")
    page.locator("#found").wait_for()
    assert page.locator("#hits a").count() == 0
    assert "Nothing found" in page.locator("#count").inner_text()


def test_a_random_unit_is_a_live_one(open_page: Open) -> None:
    page = open_page("index.html")
    page.keyboard.press("r")
    page.wait_for_url(re.compile(r"/layer/[^/]+/\d+\.html$"))
    assert page.locator("main img").count() > 0
