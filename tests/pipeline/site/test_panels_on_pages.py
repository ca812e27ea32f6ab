"""Studies and changes on the pages: everything they give is shown, escaped; what they do not give leaves nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.site.panels import Panel, Table
from pipeline.site.publish import publish, write_site
from tests.pipeline.site.links import Page, check_links, check_reached
from tests.pipeline.site.samples import EVIL, full_atlas, make_png, make_study, odd_atlas


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("full")
    return publish(full_atlas(folder / "study"), folder / "site").parent


@pytest.fixture(scope="module")
def parsed(site: Path) -> Mapping[str, Page]:
    return {str(path.relative_to(site)): Page(path) for path in sorted(site.rglob("*.html"))}


def test_links_hold_with_studies_and_changes_too(site: Path, parsed: Mapping[str, Page]) -> None:
    check_links(site, parsed)
    check_reached(site, parsed)


def test_a_panel_shows_values_seeds_and_every_block(parsed: Mapping[str, Page]) -> None:
    page = parsed["layer/fc/1.html"]
    for text in ("A study " + EVIL, "What it asked.", "25\N{NARROW NO-BREAK SPACE}%", "75\N{NARROW NO-BREAK SPACE}%"):
        assert text in page.text
    for text in ("exemplars " + EVIL, "similar", "natural images", "tuning", "numbers"):
        assert text in page.text
    assert f"{EVIL} 9.5" in page.text
    links = page.values("href")
    assert "../../layer/stem/1.html" in links
    assert "../../layer/fc/2.html" in links
    assert "../../findings.html#judge" in links
    assert not any("99" in link or "/no/" in link for link in links)
    assert "../../study/judge/sub/a%20b.png" in page.values("src")
    (part,) = [image for image in page.all("image") if "study" in str(image["href"])]
    assert (part["href"], part["width"]) == ("../../study/judge/sub/a%20b.png", "16")
    assert "8 0 8 8" in page.values("viewbox")


def test_a_long_table_is_folded_on_a_unit_s_page_and_open_among_the_findings(tmp_path: Path) -> None:
    table = Table("pointers", ("rank", "path"), tuple((str(rank), f"picture {rank}") for rank in range(9)))
    study = make_study(tmp_path / "study")
    panels = {"fc": {1: Panel(blocks=(table,)), 3: Panel(blocks=(replace(table, rows=table.rows[:8]),))}}
    study = replace(study, panels=panels, findings=(replace(study.findings[0], blocks=(table,)),))
    site = publish(odd_atlas(studies=(study,)), tmp_path / "site").parent
    folded, short, findings = (Page(site / name) for name in ("layer/fc/1.html", "layer/fc/3.html", "findings.html"))
    assert [len(page.all("details")) for page in (folded, short, findings)] == [1, 0, 0]
    assert "pointers (9)" in folded.text
    assert all("picture 7" in page.text for page in (folded, short, findings))


def test_units_that_a_study_does_not_know_have_no_panel(parsed: Mapping[str, Page]) -> None:
    for name in ("layer/fc/0.html", "layer/stem/0.html"):
        assert "A study" not in parsed[name].text
        assert not [attrs for attrs in parsed[name].all("section") if attrs.get("class") == "panel"]
    assert "A study" in parsed["layer/fc/3.html"].text


def test_columns_of_a_study_are_sort_keys_of_the_layers_it_covers(site: Path, parsed: Mapping[str, Page]) -> None:
    keys = [option["value"] for option in parsed["layer/fc/index.html"].all("option")]
    assert [key for key in keys if key and "judge" in key] == ["judge.score", "judge.rank", "judge.near"]
    assert "change" in keys
    assert not any("judge" in str(o["value"]) for o in parsed["layer/stem/index.html"].all("option"))
    data = json.loads((site / "layer/fc/data.js").read_text().partition(" = ")[2].rstrip(";\n"))
    columns = {column["key"]: column for column in data["columns"]}
    assert columns["judge.score"]["values"] == [None, 0.75, None, None, None, None]
    assert columns["judge.word"]["values"][1] == EVIL
    assert (columns["judge.rank"]["sort"], columns["judge.near"]["values"][1]) == ("low", True)
    assert columns["change"]["values"] == [None, 0.5, 1.0, None, None, None]


def test_the_raw_numbers_hold_what_studies_and_changes_say(site: Path) -> None:
    facts = json.loads((site / "layer/fc/1.json").read_text())
    assert facts["studies"]["judge"]["by_seed"] == {"0": {"score": 0.25}, "1": {"score": 0.75, "near": True}}
    assert facts["values"]["judge.score"] == 0.75
    assert facts["change"] == {"kind": "higher", "before": 4.5, "after": 9.0}
    assert json.loads((site / "layer/fc/0.json").read_text())["studies"] == {}


def test_findings_have_a_page_of_their_own(site: Path, parsed: Mapping[str, Page]) -> None:
    page = parsed["findings.html"]
    assert "It holds " + EVIL in page.text
    assert "Two " + EVIL in page.text
    assert "judge" in page.values("id")
    assert "study/judge/sub/a%20b.png" in page.values("src")
    assert (site / "study/judge/sub/a b.png").read_bytes() == make_png(7)
    assert not (site / "study/judge/notes.txt").exists()
    assert "findings.html#judge" in parsed["index.html"].values("href")


def test_changes_are_on_the_first_page_and_on_the_units(parsed: Mapping[str, Page]) -> None:
    home = parsed["index.html"]
    assert "Changes since 2026-01-01" in home.text
    assert "2 gone, 1 higher, 1 died" in home.text
    assert "The generator was replaced " + EVIL in home.text
    assert "4.500 \N{RIGHTWARDS ARROW} 9.000" in home.text
    assert "higher, 4.500 \N{RIGHTWARDS ARROW} 9.000" in parsed["layer/fc/1.html"].text
    assert "publication before" not in parsed["layer/fc/0.html"].text


def test_everything_is_escaped(site: Path) -> None:
    for path in site.rglob("*.html"):
        assert "<script>alert" not in path.read_text(encoding="utf-8"), path


def test_without_studies_and_changes_nothing_of_them_is_there(tmp_path: Path) -> None:
    site = publish(odd_atlas(), tmp_path / "site").parent
    assert not (site / "findings.html").exists()
    assert not (site / "study").exists()
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert "findings.html" not in text
        assert "Changes since" not in text
        assert 'class="panel"' not in text


def test_a_study_that_changes_renders_its_layers_again_and_no_others(tmp_path: Path) -> None:
    atlas = full_atlas(tmp_path / "study")
    atlas = replace(atlas, layers=tuple(replace(layer, version=layer.name) for layer in atlas.layers))
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    for folder in (first, second, third):
        folder.mkdir()
    assert write_site(atlas, first).kept == ()
    assert write_site(atlas, second, first).rendered == ()
    study = make_study(tmp_path / "study")
    study = replace(study, panels={"fc": {1: Panel({"rank": 4})}})
    assert write_site(replace(atlas, studies=(study,)), third, second).rendered == ("fc",)
