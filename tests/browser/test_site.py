"""The site in a browser, opened from a folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from pipeline.site.model import Other
from pipeline.site.paths import safe_name
from pipeline.site.publish import publish
from tests.browser.conftest import eventually, url_of
from tests.pipeline.site.samples import EVIL, ODD_NAMES, full_atlas, make_atlas, make_layer, make_result

if TYPE_CHECKING:
    from playwright.sync_api import Browser

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


def test_units_are_compared_and_the_address_keeps_them(open_page: Open) -> None:
    page = open_page("layer/fc/1.html")
    page.get_by_role("link", name="Compare with others").click()
    page.get_by_role("link", name="tench").wait_for()
    page.get_by_label("Find a unit").fill("stem 2")
    page.locator("#hits a").first.wait_for()
    page.keyboard.press("Enter")
    page.get_by_role("link", name="unit 2").wait_for()
    assert page.url.endswith("compare.html#layer/fc/1,layer/stem/2")
    rows = {row.split("\t")[0].strip(): row.split("\t")[1:] for row in page.locator("tbody tr").all_inner_texts()}
    assert rows["activation"] == ["9.000", "3.000"]
    eventually(page, "[...document.querySelectorAll('table img')].every((image) => image.naturalWidth)")
    page.reload()
    page.get_by_role("button", name="Remove unit 1 from the comparison").click()
    page.wait_for_url("**/compare.html#layer/stem/2")
    page.get_by_role("button", name="Start anew").click()
    page.get_by_text("Nothing to compare yet").wait_for()


def test_units_of_another_atlas_stand_beside_those_of_this_one(site: Path, open_page: Open, tmp_path: Path) -> None:
    other = make_atlas(make_layer(results=(make_result(0), make_result(1, activation=-8.0))))
    publish(other, site.parent / "other")
    own = full_atlas(tmp_path / "judge", others=(Other("before", "The night before", "../other"),))
    page = open_page((publish(own, site.parent / "own").parent / "compare.html").as_uri() + "#layer/fc/1,layer/fc/7")
    page.get_by_role("button", name="Add", exact=True).click()
    page.wait_for_url("**/compare.html#layer/fc/1,layer/fc/7,before!layer/fc/1,before!layer/fc/7")
    page.get_by_text("The night before").nth(1).wait_for()
    rows = {row.split("\t")[0].strip(): row.split("\t")[1:] for row in page.locator("tbody tr").all_inner_texts()}
    assert rows["activation"] == ["9.000", "\N{MINUS SIGN}3.000", "\N{MINUS SIGN}8.000", ""]
    eventually(page, "[...document.querySelectorAll('table img')].every((image) => image.naturalWidth)")
    page.get_by_role("link", name="unit 1").click()
    page.wait_for_url("**/other/layer/fc/1.html")


def test_whole_layers_are_compared_rank_by_rank(open_page: Open) -> None:
    page = open_page("layer/fc/index.html")
    page.get_by_role("link", name="Compare with another layer").click()
    page.get_by_role("link", name="Classes", exact=True).wait_for()
    page.get_by_label("A whole layer").select_option("Stem")
    page.get_by_role("button", name="Add layer").click()
    page.wait_for_url("**/compare.html#layer/fc,layer/stem")
    page.get_by_role("link", name="Stem", exact=True).wait_for()
    rows = [row.split("\t") for row in page.locator("#figures tbody tr").all_inner_texts()]
    facts = {row[0].strip(): [cell.strip() for cell in row[1:3]] for row in rows}
    assert (facts["units"], facts["dead"]) == (["6", "3"], ["1", "0"])
    assert facts["activation, median"] == ["5.000", "2.000"]
    first = page.locator("#lined > li", has_text="rank 1").locator("a")
    assert [link.get_attribute("href") for link in first.all()] == ["layer/fc/3.html", "layer/stem/2.html"]
    eventually(page, "[...document.querySelectorAll('#lined img')].every((image) => image.naturalWidth)")
    page.get_by_label("Line up").select_option("unit by unit")
    assert page.locator("#lined p").all_inner_texts()[1] == "tench"
    page.get_by_role("button", name="Remove layer Classes from the comparison").click()
    page.wait_for_url("**/compare.html#layer/stem")


def test_one_layer_of_several_atlases_is_a_film_strip_of_its_units(site: Path, open_page: Open, tmp_path: Path) -> None:
    names = [f"epoch-{number}" for number in (1, 2)]
    for number, name in enumerate(names, start=1):
        results = tuple(make_result(unit, activation=float(unit * number * 10)) for unit in (1, 4, 9))
        publish(make_atlas(make_layer(results=results)), site.parent / name)
    others = tuple(Other(name, name.replace("-", " "), f"../{name}") for name in (*names, "gone"))
    own = publish(full_atlas(tmp_path / "judge", others=others), site.parent / "last").parent
    page = open_page((own / "compare.html").as_uri() + "#layer/fc,epoch-1!layer/fc,epoch-2!layer/fc")
    page.locator("#figures").get_by_text("epoch 2").wait_for()
    assert page.get_by_label("Line up").input_value() == "unit"
    tench = page.locator("#lined > li", has_text="tench")
    assert [value.strip() for value in tench.locator("i").all_inner_texts()] == ["9.000", "10.00", "20.00"]
    assert tench.locator("b").all_inner_texts() == ["Classes", "epoch 1", "epoch 2"]
    page.get_by_label("Line up").select_option("differ")
    assert page.locator("#lined p").all_inner_texts()[0] == "Äpfel"
    tench.locator("a").nth(2).click()
    page.wait_for_url("**/epoch-2/layer/fc/1.html")


@pytest.mark.parametrize("address", ["elsewhere!layer/fc/1", "layer/fc/99", "layer/nothing/1"])
def test_a_unit_that_is_gone_is_told_in_a_comparison(site: Path, browser: Browser, address: str) -> None:
    page = browser.new_page()
    page.goto(f"{site.as_uri()}/compare.html#{address},layer/../1,<b>")
    page.get_by_text(f"{address} is not in this atlas").wait_for()
    assert page.locator("thead th").count() == 1
    page.close()


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


def test_a_random_unit_is_a_live_one(open_page: Open) -> None:
    page = open_page("index.html")
    page.keyboard.press("r")
    page.wait_for_url(re.compile(r"/layer/[^/]+/\d+\.html$"))
    assert page.locator("main img").count() > 0


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
