"""A unit's page in a browser: keys, and the film of the climb."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.browser.conftest import Open

pytestmark = pytest.mark.browser


def test_keys_lead_through_units_and_up(open_page: Open) -> None:
    page = open_page("layer/fc/3.html")
    for key, end in [
        ("ArrowRight", "/fc/4.html"),
        ("ArrowRight", "/fc/7.html"),
        ("ArrowLeft", "/fc/4.html"),
        ("Escape", "/fc/index.html"),
        ("[", "/empty/index.html"),
        ("Escape", "/site/index.html#layers"),
    ]:
        page.keyboard.press(key)
        page.wait_for_url(f"**{end}")
    page.goto(page.url.replace("index.html#layers", "layer/fc/7.html"))
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(100)
    assert page.url.endswith("/fc/7.html")
    page.keyboard.press("c")
    page.wait_for_url("**/compare.html#layer/fc/7")


def test_keys_leave_typing_alone(open_page: Open) -> None:
    page = open_page("layer/fc/index.html")
    page.get_by_label("Filter").fill("ten")
    for key in ("ArrowLeft", "c", "r", "[", "Escape"):
        page.get_by_label("Filter").press(key)
    page.get_by_label("Filter").blur()
    page.keyboard.press("Alt+ArrowLeft")
    page.wait_for_timeout(100)
    assert page.url.endswith("/fc/index.html")


def test_the_film_is_scrubbed_by_pointer_keys_and_play(open_page: Open) -> None:
    page = open_page("layer/fc/1.html")
    scrub, told, screen = page.get_by_label("Step of the climb"), page.locator("#told"), page.locator("#screen > svg")
    assert (told.inner_text(), screen.get_attribute("viewBox")) == ("step 40, activation 2.000", "192 0 64 64")
    scrub.focus()
    page.keyboard.press("ArrowLeft")
    assert page.url.endswith("/layer/fc/1.html")
    assert (told.inner_text(), screen.get_attribute("viewBox")) == ("step 20, activation 1.000", "128 0 64 64")
    assert scrub.get_attribute("aria-valuetext") == "step 20, activation 1.000"
    place = "document.querySelector('#climb .cursor').getBoundingClientRect().left"
    right = page.evaluate(place)
    page.locator("#frames > li").first.click()
    assert (told.inner_text(), scrub.input_value()) == ("start", "0")
    assert page.evaluate(place) < right
    page.get_by_role("button", name="Play").click()
    page.get_by_role("button", name="Stop").wait_for()
    page.get_by_role("button", name="Play").wait_for()
    assert told.inner_text() == "step 40, activation 2.000"


def test_without_scripts_a_film_is_a_strip(open_page: Open) -> None:
    page = open_page("layer/fc/1.html", java_script_enabled=False)
    assert not page.locator("#scrubber").is_visible()
    assert page.locator("#frames > li").all_inner_texts() == ["start", "5", "20", "40"]
    names = [page.locator("#frames svg").nth(index).get_attribute("aria-label") for index in range(4)]
    assert names == ["start", "step 5", "step 20, activation 1.000", "step 40, activation 2.000"]
    assert page.locator("#film").count() == 1
    page.goto(page.url.replace("fc/1.html", "fc/4.html"))
    assert page.locator("#film").count() == 0
