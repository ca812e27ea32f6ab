from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.errors import AtlasError, InputError, StoreError
from pipeline.site.model import HeldPictures, Other
from pipeline.site.paths import safe_name
from pipeline.site.publish import publish
from pipeline.temporary import temporary_name
from tests.pipeline.site.links import Page, check_links, check_reached
from tests.pipeline.site.samples import (
    EVIL,
    ODD_NAMES,
    SIDE,
    image_of,
    make_atlas,
    make_dead,
    make_layer,
    make_result,
    odd_atlas,
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(odd_atlas(), tmp_path_factory.mktemp("build") / "site").parent


@pytest.fixture(scope="module")
def parsed(site: Path) -> dict[str, Page]:
    return {str(path.relative_to(site)): Page(path) for path in sorted(site.rglob("*.html"))}


def test_there_is_a_page_per_layer_and_unit(site: Path, parsed: dict[str, Page]) -> None:
    atlas = odd_atlas()
    expected = {"index.html"} | {f"layer/{safe_name(layer.name)}/index.html" for layer in atlas.layers}
    expected |= {f"layer/{safe_name(y.name)}/{r.unit}.html" for y in atlas.layers for r in y.results}
    expected |= {"compare.html"}
    assert set(parsed) == expected


def test_every_link_leads_to_a_file_and_none_leaves_the_folder(site: Path, parsed: dict[str, Page]) -> None:
    check_links(site, parsed)


def test_every_file_is_reached_from_the_home_page(site: Path, parsed: dict[str, Page]) -> None:
    check_reached(site, parsed)


def test_ids_are_unique_and_references_resolve(parsed: dict[str, Page]) -> None:
    for name, page in parsed.items():
        ids = page.values("id")
        assert len(set(ids)) == len(ids), name
        for reference in [*page.values("aria-labelledby"), *page.values("for")]:
            assert reference in ids, name


def test_pictures_that_no_text_names_have_a_text_and_a_size(site: Path, parsed: dict[str, Page]) -> None:
    for name, page in parsed.items():
        for image in page.all("img"):
            if image["alt"]:
                with Image.open((site / name).parent / str(image["src"])) as picture:
                    assert (str(picture.width), str(picture.height)) == (image["width"], image["height"])
        if re.search(r"/\d+\.html$", name):
            shown = [image for image in page.all("img") if str(image["src"]).startswith("img/")]
            assert all(image["alt"] for image in shown)


def test_nothing_is_inline_and_the_policy_is_strict(parsed: dict[str, Page]) -> None:
    for page in parsed.values():
        policies = [m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
        assert policies == [policies[0]]
        assert str(policies[0]).startswith(
            "default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'self'"
        )
        assert not page.values("style")
        assert all(script.get("src") for script in page.all("script"))
        assert not any(key.startswith("on") for _, attrs in page.tags for key in attrs)
        assert [tag for tag, _ in page.tags].count("h1") == 1


def test_what_users_wrote_is_escaped(site: Path, parsed: dict[str, Page]) -> None:
    unit = parsed["layer/fc/0.html"]
    assert EVIL in unit.text
    for path in site.rglob("*.html"):
        assert "<script>alert" not in path.read_text(encoding="utf-8")
    assert not any("javascript" in link for page in parsed.values() for link in page.values("href"))
    assert 'a "quoted" & odd\u2028name' in parsed["layer/fc/3.html"].text


def test_data_scripts_hold_plain_ascii_json(site: Path) -> None:
    for name, variable in (("run.js", "NEURON_ATLAS_RUN"), ("search.js", "NEURON_ATLAS_SEARCH")):
        match = re.fullmatch(rf"window\.{variable} = (.*);\n", (site / name).read_text(encoding="ascii"))
        assert match
        assert json.loads(match[1])


def test_search_data_know_every_unit(site: Path) -> None:
    layers = json.loads((site / "search.js").read_text().partition(" = ")[2].rstrip(";\n"))
    fc = next(layer for layer in layers if layer["name"] == "fc")
    assert fc["units"] == [[0, 5], [7, 8]]
    assert fc["best"] == [0, 1, -1, 0, 0, 0]
    assert fc["labels"]["1"] == "tench, Tinca tinca"
    for layer in layers:
        units = [unit for start, end in layer["units"] for unit in range(start, end)]
        for unit, seed in zip(units, layer["best"], strict=True):
            crop = "-rf" if layer["crop"] else ""
            if seed >= 0:
                assert (site / layer["folder"] / "img" / f"{unit}-s{seed}{crop}.webp").is_file()


def test_data_of_a_layer_are_in_the_order_of_its_page(site: Path) -> None:
    text = (site / "layer/fc/data.js").read_text(encoding="ascii")
    match = re.fullmatch(r'\(window\.NEURON_ATLAS_LAYERS \?\?= {}\)\["layer/fc"\] = (.*);\n', text)
    assert match
    facts = json.loads(match[1])
    assert [column["key"] for column in facts["columns"]] == ["activation", "steps", "spread", "lowest"]
    assert facts["columns"][0]["values"] == [1.0, 9.0, None, 50.0, 5.0, -3.0]
    assert facts["columns"][2]["values"] == [None, 7.0, None, None, None, None]
    assert facts["columns"][3]["values"] == [None, -3.0, None, None, None, None]
    assert (facts["best"], facts["pre"], facts["seeds"]) == ([0, 1, -1, 0, 0, 0], [3], [0, 1])
    assert facts["other_seeds"] == {"0": [0], "2": [], "3": [0], "4": [0], "7": [0]}


def test_dead_units_are_tombstones_without_a_picture(site: Path, parsed: dict[str, Page]) -> None:
    tombs = [attrs for attrs in parsed["layer/fc/index.html"].all("span") if attrs.get("class") == "f dead"]
    assert len(tombs) == 1
    assert "dead: no gradient" in parsed["layer/fc/2.html"].text
    assert pictures(parsed["layer/fc/2.html"]) == []
    assert not list(site.glob("layer/fc/img/2-*"))
    assert not (site / "layer/fc/img/1-s2.webp").exists()
    assert "seed 2: no gradient" in parsed["layer/fc/1.html"].text


def test_a_layer_without_results_says_so(parsed: dict[str, Page]) -> None:
    page = parsed["layer/empty/index.html"]
    assert "No units of this layer have been made yet." in page.text
    assert pictures(page) == []
    assert "0 of 10 units" in page.text


def test_several_seeds_are_all_shown_the_best_first(site: Path, parsed: dict[str, Page]) -> None:
    assert pictures(parsed["layer/fc/1.html"]) == ["img/1-s1.webp", "img/1-s0.webp", "img/1-low.webp"]


def test_cells_of_a_sprite_show_the_best_seed_of_their_unit(site: Path, parsed: dict[str, Page]) -> None:
    cells = [image for image in parsed["layer/fc/index.html"].all("img") if str(image["src"]).startswith("grid/")]
    places = [(image["src"], image["class"]) for image in cells]
    assert places == [("grid/0.webp", f"x{column} y0") for column in (0, 1, 3, 4, 5)]
    with Image.open(site / "layer/fc/grid/0.webp") as opened:
        sprite = np.asarray(opened.convert("RGB").crop((128, 0, 256, 128)).resize((SIDE, SIDE)), float)
    with Image.open(io.BytesIO(image_of(1, 1))) as opened:
        best = np.asarray(opened, float)
    with Image.open(io.BytesIO(image_of(1, 0))) as opened:
        other = np.asarray(opened, float)
    assert np.abs(sprite - best).mean() < 0.5 * np.abs(sprite - other).mean()


def test_early_layers_show_what_the_unit_sees_and_outline_it(site: Path, parsed: dict[str, Page]) -> None:
    page = parsed["layer/stem/0.html"]
    assert pictures(page) == ["img/0-s0-rf.webp", "img/0-s0.webp", "img/0-low-rf.webp"]
    outline = next(attrs for attrs in page.all("rect") if attrs.get("class") == "over")
    assert (outline["x"], outline["y"], outline["width"], outline["height"]) == ("0", "6", "3", "4")
    assert not any(attrs.get("class") == "over" for attrs in parsed["layer/fc/0.html"].all("rect"))


def test_a_pre_activation_is_told(parsed: dict[str, Page]) -> None:
    assert "its pre-activation was maximised: fc.pre" in parsed["layer/fc/3.html"].text
    assert "pre-activation" not in parsed["layer/fc/4.html"].text
    assert "Left out: 1 unit whose pre-activation was maximised" in parsed["layer/fc/index.html"].text


def test_units_lead_to_their_neighbours_and_up(parsed: dict[str, Page]) -> None:
    keys = {a["data-key"]: a["href"] for a in parsed["layer/fc/4.html"].all("a") if "data-key" in a}
    compare = "../../compare.html#layer/fc/4"
    assert keys == {"up": "index.html", "prev": "3.html", "next": "7.html", "compare": compare}
    assert "prev" not in {a.get("data-key") for a in parsed["layer/fc/0.html"].all("a")}
    assert "next" not in {a.get("data-key") for a in parsed["layer/fc/7.html"].all("a")}


def test_the_raw_numbers_of_a_unit(site: Path) -> None:
    facts = json.loads((site / "layer/fc/1.json").read_text())
    assert [result["activation"] for result in facts["results"]] == [9.0, 2.0, None]
    assert facts["results"][0]["curve"] == [2.25, 4.5, 6.75, 9.0]
    assert facts["results"][2] == {
        "seed": 2, "status": "dead", "activation": None, "steps": 10, "target": "fc", "curve": [0.0, None],
        "image": None, "crop": None,
    }  # fmt: skip
    assert facts["percentile_in_layer"] == 100.0
    assert facts["values"] == {"activation": 9.0, "steps": 40, "spread": 7.0, "lowest": -3.0}
    assert facts["label"] == "tench, Tinca tinca"
    assert json.loads((site / "layer/fc/0.json").read_text())["recipe_key"] == "0123456789abcdef0123"


def test_published_images_are_near_the_lossless_ones(tmp_path: Path) -> None:
    pixels = np.add.outer(np.linspace(0, 120, 64), np.linspace(0, 120, 64))[..., None] * np.array([1.0, 0.5, 0.2])
    sink = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(sink, "PNG")
    layer = make_layer(results=(make_result(0),), images={(0, 0): sink.getvalue()}, image_px=64)
    site = publish(make_atlas(layer), tmp_path / "site").parent
    with Image.open(site / "layer/fc/img/0-s0.webp") as shown:
        assert np.abs(np.asarray(shown.convert("RGB"), float) - pixels).mean() < 3


def test_cards_are_shown_without_what_is_missing(parsed: dict[str, Page]) -> None:
    page = parsed["index.html"]
    assert "Net & co" in page.text
    assert "224 \N{MULTIPLICATION SIGN} 200 px; channels RGB" in page.text
    assert "licence" not in [t.strip() for t in page.text.splitlines()]
    assert "https://example.org/net" in page.values("href")


def test_a_card_without_a_title_will_do(tmp_path: Path) -> None:
    index = publish(make_atlas(make_layer(), network={}, generator={}, run={}), tmp_path / "site")
    assert "an image network" in Page(index).text


def test_equal_results_make_equal_bytes_whatever_the_run(tmp_path: Path) -> None:
    first = publish(odd_atlas(), tmp_path / "a").parent
    second = publish(odd_atlas(run={"date": "another", "duration_s": 1.0}), tmp_path / "b" / "c").parent
    files = {path.relative_to(first) for path in first.rglob("*") if path.is_file()}
    assert files == {path.relative_to(second) for path in second.rglob("*") if path.is_file()}
    differing = {str(name) for name in files if (first / name).read_bytes() != (second / name).read_bytes()}
    assert differing == {"run.js"}


def test_permalinks_do_not_depend_on_what_else_is_published(tmp_path: Path) -> None:
    layer = odd_atlas().layers[1]
    alone = publish(make_atlas(layer), tmp_path / "site").parent
    assert layer.name == ODD_NAMES[0]
    assert (alone / "layer/~047model~047~conv.1~047~relu~032output/0.html").is_file()


def test_a_site_is_replaced_as_a_whole(tmp_path: Path) -> None:
    out = tmp_path / "site"
    publish(make_atlas(make_layer("old")), out)
    publish(make_atlas(make_layer("new")), out)
    assert not (out / "layer/old").exists()
    assert (out / "layer/new/0.html").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_a_failure_leaves_the_old_site_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "site"
    publish(make_atlas(make_layer()), out)
    before = (out / "index.html").read_bytes()
    with pytest.raises(AtlasError, match="is not a PNG"):
        publish(make_atlas(make_layer("other", (make_result(0),), {(0, 0): b"no"})), out)
    assert (out / "index.html").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    name = temporary_name("site")
    machine = name.split(".")[2].split("-")[0]
    leftover = tmp_path / f".site.{machine}-999999999-00000000.tmp"
    leftover.mkdir()
    in_progress = tmp_path / name
    in_progress.mkdir()
    publish(make_atlas(make_layer()), tmp_path / "site")
    assert not leftover.exists()
    assert in_progress.exists()


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(StoreError, match="something else than a site"):
        publish(make_atlas(make_layer()), tmp_path)
    with pytest.raises(StoreError, match="not a folder"):
        publish(make_atlas(make_layer()), tmp_path / "thesis.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_place_that_cannot_be_written_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        publish(make_atlas(make_layer()), tmp_path / "file" / "site")


def test_doubled_layers_and_results_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="comes twice"):
        publish(make_atlas(make_layer("a"), make_layer("a")), tmp_path / "site")
    with pytest.raises(InputError, match="two results"):
        publish(make_atlas(make_layer(results=(make_result(0), make_dead(0)))), tmp_path / "site")


@pytest.mark.parametrize("names", [("a", "a"), ("a!b",), ("",), ("a/b",)])
def test_misnamed_atlases_to_compare_with_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    others = tuple(Other(name, "title", "../x") for name in names)
    with pytest.raises(InputError, match="to compare with need names"):
        publish(make_atlas(make_layer(), others=others), tmp_path / "site")


def test_an_atlas_without_layers(tmp_path: Path) -> None:
    assert "no layers yet" in Page(publish(make_atlas(), tmp_path / "site")).text


def test_a_layer_of_dead_units_alone(tmp_path: Path) -> None:
    site = publish(make_atlas(make_layer(results=(make_dead(0), make_dead(1)))), tmp_path / "site").parent
    assert "every unit shown is dead" in Page(site / "index.html").text
    assert pictures(Page(site / "layer/fc/index.html")) == []


def test_the_pages_of_a_layer_of_two_thousand_units_stay_light(tmp_path: Path) -> None:
    image = image_of(0)
    results = tuple(make_result(unit) for unit in range(2048))
    labels = {unit: f"a label of usual length {unit}" for unit in range(2048)}
    images = dict.fromkeys(((unit, 0) for unit in range(2048)), image)
    layer = make_layer(results=results, images=images, num_units=2048, labels=labels)
    site = publish(make_atlas(layer), tmp_path / "site").parent
    page = site / "layer/fc/index.html"
    assert page.stat().st_size < 350_000
    assert (site / "layer/fc/data.js").stat().st_size < 140_000
    assert all(cell["loading"] == "lazy" for cell in Page(page).all("img") if cell["alt"] == "" and "class" in cell)
    assert len(list((site / "layer/fc/grid").iterdir())) == 8


def test_a_picture_that_is_missing_is_told(tmp_path: Path) -> None:
    layer = replace(make_layer(), pictures=HeldPictures({}))
    with pytest.raises(AtlasError, match="unit 0, seed 0 of layer fc is missing"):
        publish(make_atlas(layer), tmp_path / "site")


def pictures(page: Page) -> list[str]:
    """Pictures of units on a page."""
    sources = [str(image["src"]) for image in page.all("img") if "src" in image]
    return [source for source in sources if not source.endswith("icon.svg")]
