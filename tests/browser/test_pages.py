"""Every page in a browser, opened from a folder: pictures, widths, contrast, no scripts, links."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.site.paths import safe_name
from tests.browser.conftest import eventually, url_of
from tests.pipeline.site.samples import EVIL, ODD_NAMES

if TYPE_CHECKING:
    from tests.browser.conftest import Open

pytestmark = pytest.mark.browser

PAGES = [
    "index.html",
    "compare.html",
    "compare.html#layer/fc/1,layer/stem/0",
    "compare.html#layer/fc,layer/stem",
    "layer/fc/index.html",
    "layer/fc/1.html",
    "layer/fc/2.html",
    "layer/fc/3.html",
]
PAGES += ["layer/stem/index.html", "layer/stem/0.html", "layer/empty/index.html"]
PAGES += [f"layer/{safe_name(name)}/0.html" for name in ODD_NAMES]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_opens_without_a_complaint_and_shows_its_pictures(site: Path, open_page: Open, scheme: str) -> None:
    page = open_page("index.html", color_scheme=scheme)
    for name in PAGES:
        page.goto(url_of(site, name))
        if "#" in name:  # drawn by a script once its data have come
            page.locator("#comparison img, #lined img").first.wait_for(state="attached")
        page.evaluate("for (const image of document.images) image.loading = 'eager'")
        # an image that a script has just put there is complete before it has begun to load
        eventually(page, "[...document.images].every((image) => image.complete && image.naturalWidth)")
        assert page.evaluate("[...document.images].filter((image) => !image.naturalWidth).length") == 0, name
        assert page.evaluate("getComputedStyle(document.body).maxWidth") == "1440px", name


@pytest.mark.parametrize("width", [360, 768, 1920])
def test_no_page_is_wider_than_the_screen(site: Path, open_page: Open, width: int) -> None:
    page = open_page("index.html", viewport={"width": width, "height": 700})
    for name in PAGES:
        page.goto(url_of(site, name))
        page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name


def test_from_home_to_a_layer_to_a_unit_and_back(open_page: Open) -> None:
    page = open_page("index.html")
    page.locator(".layers").get_by_role("link", name="Classes", exact=True).click()
    assert page.url.endswith("/layer/fc/index.html")
    page.locator("#gallery").get_by_role("link", name="tench").click()
    assert page.url.endswith("/layer/fc/1.html")
    assert page.get_by_role("heading", level=1).inner_text() == "tench, Tinca tinca"
    page.get_by_label("Breadcrumbs").get_by_role("link", name="Layers").click()
    assert page.url.endswith("/index.html#layers")


def test_attacks_stay_text(open_page: Open) -> None:
    page = open_page("layer/fc/0.html")
    assert page.get_by_role("heading", level=1).inner_text() == EVIL
    page = open_page("index.html")
    page.get_by_label("Find a unit").fill("alert")
    page.locator("#hits a").first.wait_for()
    assert EVIL in page.locator("#hits").inner_text()
    assert EVIL in page.locator("#run").inner_text()


def test_facts_of_the_run_are_filled_in(open_page: Open) -> None:
    page = open_page("index.html")
    text = page.locator("#run").inner_text()
    assert "2026-01-02T03:04:05+00:00" in text
    assert re.search(r"duration\s+1 min", text)


def test_without_scripts_everything_is_there(open_page: Open) -> None:
    page = open_page("index.html", java_script_enabled=False)
    assert page.locator("noscript").count() == 1
    assert "run.js" in page.locator("#run + noscript").inner_text()
    assert not page.get_by_label("Find a unit").is_visible()
    page.locator(".layers").get_by_role("link", name="Classes", exact=True).click()
    assert not page.locator("#controls").is_visible()
    assert page.locator("#gallery > li").count() == 6
    page.locator("#gallery").get_by_role("link", name="tench").click()
    page.locator("a[rel=next]").click()
    assert page.url.endswith("/layer/fc/2.html")
    assert "dead: no gradient" in page.locator("main").inner_text()


def test_links_can_be_reached_and_seen_by_keyboard(open_page: Open) -> None:
    page = open_page("layer/fc/index.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
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
        page.goto(url_of(site, name))
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
