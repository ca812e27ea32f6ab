"""The Compare page in a browser: units, layers, other atlases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.site.model import Other
from pipeline.site.publish import publish
from tests.browser.conftest import eventually
from tests.pipeline.site.samples import full_atlas, make_atlas, make_layer, make_result

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.browser.conftest import Open

pytestmark = pytest.mark.browser


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
    assert "word" in rows, "a number of one of them is shown"
    eventually(page, "[...document.querySelectorAll('table img')].every((image) => image.naturalWidth)")
    page.reload()
    page.get_by_role("button", name="Remove unit 1 from the comparison").click()
    page.wait_for_url("**/compare.html#layer/stem/2")
    page.get_by_role("button", name="Start anew").click()
    page.get_by_text("Nothing to compare yet").wait_for()


def test_numbers_that_no_unit_has_are_left_out(open_page: Open) -> None:
    page = open_page("compare.html#layer/fc/4,layer/fc/7")
    page.get_by_role("link", name="unit 7").wait_for()
    told = [row.split("\t")[0].strip() for row in page.locator("#comparison tbody tr").all_inner_texts()]
    assert told == ["picture", "layer", "activation", "steps"]


def test_medians_of_studies_are_folded_and_absent_without_studies(open_page: Open) -> None:
    page = open_page("compare.html#layer/fc")
    page.get_by_role("link", name="Classes", exact=True).wait_for()
    assert "rank, median" not in page.locator("#figures").inner_text()
    page.get_by_text("Medians of what studies measured").first.click()
    rows = {
        row.split("\t")[0].strip(): row.split("\t")[1:] for row in page.locator("#measured tbody tr").all_inner_texts()
    }
    assert rows["rank, median"] == ["3"]
    page.goto(page.url.replace("#layer/fc", "#layer/stem"))
    page.get_by_role("link", name="Stem", exact=True).wait_for()
    assert not page.locator("#medians").is_visible()


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
    eventually(page, "document.querySelectorAll('#lined p')[1]?.innerText === 'tench'")
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
    # units that most of them have come first
    assert page.locator("#lined p").all_inner_texts()[:3] == ["tench", "Äpfel", "unit 9"]
    tench = page.locator("#lined > li", has_text="tench")
    assert [value.strip() for value in tench.locator("i").all_inner_texts()] == ["9.000", "10.00", "20.00"]
    assert tench.locator("b").all_inner_texts() == ["this atlas", "epoch 1", "epoch 2"]
    page.get_by_label("Line up").select_option("differ")
    eventually(page, "document.querySelectorAll('#lined p')[0]?.innerText === 'Äpfel'")
    tench.locator("a").nth(2).click()
    page.wait_for_url("**/epoch-2/layer/fc/1.html")


@pytest.mark.parametrize("address", ["elsewhere!layer/fc/1", "layer/fc/99", "layer/nothing/1"])
def test_a_unit_that_is_gone_is_told_in_a_comparison(site: Path, browser: Browser, address: str) -> None:
    page = browser.new_page()
    page.goto(f"{site.as_uri()}/compare.html#{address},layer/../1,<b>")
    page.get_by_text(f"{address} is not in this atlas").wait_for()
    assert page.locator("thead th").count() == 1
    page.close()
