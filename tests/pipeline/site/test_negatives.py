"""Negatives on the pages: shown where there are any, absent elsewhere."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from export.errors import AtlasError
from pipeline.site.model import Atlas, HeldPictures
from pipeline.site.publish import publish, write_site
from tests.pipeline.site.links import Page
from tests.pipeline.site.samples import make_atlas, make_dead, make_layer, make_negatives, make_result, odd_atlas


def of_one_layer(**changes: object) -> Atlas:
    results = (make_result(0), make_dead(1), make_result(2))
    return make_atlas(make_layer(results=results, negatives=make_negatives((0, 1), "fc"), version="1", **changes))


def test_a_unit_s_page_and_numbers_tell_what_lowers_it(tmp_path: Path) -> None:
    site = publish(odd_atlas(), tmp_path / "site").parent
    page, facts = Page(site / "layer/fc/1.html"), json.loads((site / "layer/fc/1.json").read_text())
    assert "What lowers it most: \N{MINUS SIGN}3.000" in page.text
    assert "before the activation function" not in page.text
    assert (facts["negative"]["image"], facts["negative"]["crop"]) == ("img/1-low.webp", None)
    assert facts["values"]["lowest"] == -3.0
    cropped = Page(site / "layer/stem/2.html")
    assert "before the activation function" in cropped.text
    assert "img/2-low-rf.webp" in cropped.values("src")
    assert "img/2-low.webp" in cropped.values("href")


def test_units_without_a_negative_do_not_speak_of_it(tmp_path: Path) -> None:
    site = publish(odd_atlas(), tmp_path / "site").parent
    assert "lowers it most" not in Page(site / "layer/fc/4.html").text
    assert "negative" not in json.loads((site / "layer/fc/4.json").read_text())
    assert "lowest" not in [option["value"] for option in Page(site / "layer/empty/index.html").all("option")]


def test_a_dead_unit_may_have_a_negative(tmp_path: Path) -> None:
    site = publish(of_one_layer(), tmp_path / "site").parent
    assert "What lowers it most: \N{MINUS SIGN}3.000" in Page(site / "layer/fc/1.html").text


def test_a_negative_that_failed_is_none(tmp_path: Path) -> None:
    (layer,) = of_one_layer().layers
    assert layer.negatives is not None
    dead = replace(layer.negatives, results=(make_dead(0),))
    site = publish(make_atlas(replace(layer, negatives=dead)), tmp_path / "site").parent
    assert "lowers it most" not in Page(site / "layer/fc/0.html").text


def test_a_picture_that_is_missing_is_an_error(tmp_path: Path) -> None:
    (layer,) = of_one_layer().layers
    assert layer.negatives is not None
    bare = replace(layer, negatives=replace(layer.negatives, pictures=HeldPictures({})))
    with pytest.raises(AtlasError, match="the negative of unit 0 of layer fc is missing; build again"):
        publish(make_atlas(bare), tmp_path / "site")


def test_negatives_that_come_render_the_layer_again(tmp_path: Path) -> None:
    atlas = of_one_layer()
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    without = replace(atlas, layers=(replace(atlas.layers[0], negatives=None),))
    write_site(without, first)
    assert write_site(atlas, second, first).rendered == ("fc",)
