"""The site in a browser, opened from a folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.site.paths import safe_name
from tests.pipeline.site.samples import EVIL, ODD_NAMES

if TYPE_CHECKING:
    from tests.browser.conftest import Open

pytestmark = pytest.mark.browser

PAGES = ["index.html", "layer/fc/index.html", "layer/fc/1.html", "layer/fc/2.html", "layer/fc/3.html"]
PAGES += ["layer/stem/index.html", "layer/stem/0.html", "layer/empty/index.html"]
PAGES += [f"layer/{safe_name(name)}/0.html" for name in ODD_NAMES]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_opens_without_a_complaint_and_shows_its_pictures(site: Path, open_page: Open, scheme: str) -> None:
    page = open_page("index.html", color_scheme=scheme)
    for name in PAGES:
        page.goto((site / name).as_uri())
        page.evaluate("for (const image of document.images) image.loading = 'eager'")
        page.wait_for_function("[...document.images].every((image) => image.complete)")
        assert page.evaluate("[...document.images].filter((image) => !image.naturalWidth).length") == 0, name
        assert page.evaluate("getComputedStyle(document.body).maxWidth") == "1440px", name


@pytest.mark.parametrize("width", [360, 768, 1920])
def test_no_page_is_wider_than_the_screen(site: Path, open_page: Open, width: int) -> None:
    page = open_page("index.html", viewport={"width": width, "height": 700})
    for name in PAGES:
        page.goto((site / name).as_uri())
        page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name


def test_from_home_to_a_layer_to_a_unit_and_back(open_page: Open) -> None:
    page = open_page("index.html")
    page.get_by_role("link", name="Classes", exact=True).click()
    assert page.url.endswith("/layer/fc/index.html")
    page.get_by_role("link", name="tench unit 1").click()
    assert page.url.endswith("/layer/fc/1.html")
    assert page.get_by_role("heading", level=1).inner_text() == "tench, Tinca tinca"
    page.get_by_label("Breadcrumbs").get_by_role("link", name="A sample").click()
    assert page.url.endswith("/index.html")


def test_attacks_stay_text(open_page: Open) -> None:
    page = open_page("layer/fc/0.html")
    assert page.get_by_role("heading", level=1).inner_text() == EVIL
    page = open_page("index.html")
    page.get_by_label("Find a unit").fill("alert")
    assert EVIL in page.locator("#hits").inner_text()
    assert EVIL in page.locator("#run").inner_text()


def test_facts_of_the_run_are_filled_in(open_page: Open) -> None:
    page = open_page("index.html")
    text = page.locator("#run").inner_text()
    assert "2026-01-02T03:04:05+00:00" in text
    assert re.search(r"duration\s+1 min", text)


def test_sorting(open_page: Open) -> None:
    page = open_page("layer/fc/index.html")
    order = "[...document.querySelectorAll('#gallery > li')].map((item) => Number(item.dataset.unit))"
    assert page.evaluate(order) == [0, 1, 2, 3, 4, 7]
    page.get_by_label("Sort by").select_option("activation")
    assert page.evaluate(order) == [1, 4, 0, 7, 3, 2]
    page.get_by_label("Sort by").select_option("label")
    assert page.evaluate(order) == [0, 3, 4, 1, 2, 7]
    page.get_by_label("Sort by").select_option("index")
    assert page.evaluate(order) == [0, 1, 2, 3, 4, 7]


@pytest.mark.parametrize(
    ("text", "units"),
    [("TENCH", [1]), ("dead", [2]), ("7", [7]), ("nothing like it", []), ("pre-act", [3]), ("", [0, 1, 2, 3, 4, 7])],
)
def test_filtering(open_page: Open, text: str, units: list[int]) -> None:
    page = open_page("layer/fc/index.html")
    page.get_by_label("Filter").fill(text)
    shown = page.evaluate(
        "[...document.querySelectorAll('#gallery > li')].filter((item) => item.checkVisibility())"
        ".map((item) => Number(item.dataset.unit))"
    )
    assert shown == units
    assert page.locator("#shown").inner_text() == ("6 shown" if len(units) == 6 else f"{len(units)} of 6 shown")


def test_keys_lead_through_units_and_up(open_page: Open) -> None:
    page = open_page("layer/fc/3.html")
    for key, end in [
        ("ArrowRight", "/fc/4.html"),
        ("ArrowRight", "/fc/7.html"),
        ("ArrowLeft", "/fc/4.html"),
        ("Escape", "/fc/index.html"),
        ("ArrowLeft", "/empty/index.html"),
        ("ArrowUp", "/site/index.html"),
    ]:
        page.keyboard.press(key)
        page.wait_for_url(f"**{end}")
    page.goto(page.url.replace("index.html", "layer/fc/7.html"))
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(100)
    assert page.url.endswith("/fc/7.html")


def test_keys_leave_typing_and_scrolling_alone(open_page: Open) -> None:
    page = open_page("layer/fc/index.html", viewport={"width": 360, "height": 300})
    page.get_by_label("Filter").fill("ten")
    page.get_by_label("Filter").press("ArrowLeft")
    page.get_by_label("Filter").press("Escape")
    page.get_by_label("Filter").blur()
    page.mouse.wheel(0, 200)
    page.wait_for_function("scrollY > 50")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Alt+ArrowUp")
    page.wait_for_timeout(100)
    assert page.url.endswith("/fc/index.html")


@pytest.mark.parametrize(
    ("query", "first", "count"),
    [("tinca", "layer/fc/1.html", 1), ("stem 2", "layer/stem/2.html", 1), ("classes 7", "layer/fc/7.html", 1)],
)
def test_search(open_page: Open, query: str, first: str, count: int) -> None:
    page = open_page("index.html")
    page.get_by_label("Find a unit").fill(query)
    hits = page.locator("#hits a")
    assert hits.count() == count
    assert hits.first.get_attribute("href") == first
    page.wait_for_function("[...document.querySelectorAll('#hits img')].every((image) => image.naturalWidth)")
    hits.first.click()
    assert page.url.endswith(first)


def test_search_without_a_hit_says_what_to_try(open_page: Open) -> None:
    page = open_page("index.html")
    page.get_by_label("Find a unit").fill("zebra")
    assert page.locator("#hits a").count() == 0
    assert "Nothing found" in page.locator("#found").inner_text()


def test_a_random_unit_is_a_live_one(open_page: Open) -> None:
    page = open_page("index.html")
    page.get_by_role("button", name="Random unit").click()
    page.wait_for_url(re.compile(r"/layer/[^/]+/\d+\.html$"))
    assert page.locator("main img").count() > 0


def test_without_scripts_everything_is_there(open_page: Open) -> None:
    page = open_page("index.html", java_script_enabled=False)
    assert page.locator("noscript").count() == 1
    assert "run.js" in page.locator("#run + noscript").inner_text()
    assert not page.get_by_label("Find a unit").is_visible()
    page.get_by_role("link", name="Classes", exact=True).click()
    assert not page.locator("#controls").is_visible()
    assert page.locator("#gallery > li").count() == 6
    page.get_by_role("link", name="tench unit 1").click()
    page.get_by_role("link", name="unit 2").click()
    assert page.url.endswith("/layer/fc/2.html")
    assert "dead: no gradient" in page.locator("main").inner_text()


def test_links_can_be_reached_and_seen_by_keyboard(open_page: Open) -> None:
    page = open_page("layer/fc/index.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the pictures"
    for _ in range(12):
        page.keyboard.press("Tab")
        style = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert style == "solid", page.evaluate("document.activeElement.outerHTML")


CONTRAST = """(least) => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => {
    const part = (v) => ((v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = rgb(getComputedStyle(e).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const weak = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !element.checkVisibility()) continue;
    if (element.closest("title, noscript, option")) continue;
    const style = getComputedStyle(element);
    const pair = [light(rgb(element.closest("svg") ? style.fill : style.color)), light(ground(element))];
    const [low, high] = pair[0] < pair[1] ? pair : [pair[1], pair[0]];
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < least) weak.push(`${ratio.toFixed(2)}: ${texts.currentNode.data.trim()}`);
  }
  return weak;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_can_be_read(site: Path, open_page: Open, scheme: str) -> None:
    page = open_page("index.html", color_scheme=scheme)
    for name in ["index.html", "layer/fc/index.html", "layer/fc/1.html", "layer/fc/3.html"]:
        page.goto((site / name).as_uri())
        page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")
        assert page.evaluate(CONTRAST, 4.5) == [], name
        assert page.evaluate(CONTRAST, 22) != [], "the measure itself does not work"


def test_the_folder_may_lie_anywhere(site: Path, open_page: Open, tmp_path: Path) -> None:
    moved = tmp_path / "sub" / "path"
    moved.parent.mkdir()
    moved.symlink_to(site)
    page = open_page((moved / "layer/fc/1.html").as_uri())
    page.keyboard.press("Escape")
    page.wait_for_url("**/sub/path/layer/fc/index.html")
