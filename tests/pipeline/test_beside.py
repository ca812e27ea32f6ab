"""Other atlases beside one: named by the configuration or the command line, and the nights before."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from export.errors import ConfigError
from pipeline.beside import hosted, other_atlases
from pipeline.build import build
from pipeline.config import AtlasConfig, Overrides, load_config, parse_config
from pipeline.progress import SilentReporter
from pipeline.site.model import Other
from pipeline.site.publish import publish
from tests.pipeline.site.samples import make_atlas, make_layer

RAW = {"name": "own", "network": {"source": "bundled:lite0"}, "layers": [{"name": "_fc"}]}


def configured(folder: Path, *compare: dict[str, str], keep: int = 7) -> AtlasConfig:
    raw = {**RAW, "compare": list(compare), "publish": {"keep": keep}}
    return parse_config(raw, "own.toml", folder=str(folder))


def test_builds_are_found_by_folder_and_addressed_from_this_site(tmp_path: Path) -> None:
    publish(make_atlas(make_layer(), title="At epoch 10"), tmp_path / "Epoch #10" / "site")
    publish(make_atlas(make_layer()), tmp_path / "plain")
    config = configured(
        tmp_path,
        {"build": "Epoch #10"},
        {"build": str(tmp_path / "plain"), "name": "p", "title": "Plain"},
        {"href": "../../elsewhere/site/", "name": "far"},
    )
    assert other_atlases(config, tmp_path / "build" / "own") == (
        Other("epoch-10", "At epoch 10", "../../../Epoch%20%2310/site"),
        Other("p", "Plain", "../../../plain"),
        Other("far", "far", "../../elsewhere/site"),
    )
    assert other_atlases(configured(tmp_path).beside([tmp_path / "plain"]), tmp_path / "out") == (
        Other("plain", "A sample", "../../plain"),
    )


@pytest.mark.parametrize(
    ("compare", "match"),
    [
        ([{"build": "nothing"}], "nothing holds no atlas .* build it first"),
        ([{"build": "one"}, {"build": "one"}], "two atlases are named 'one'"),
    ],
)
def test_what_cannot_be_shown_is_refused(tmp_path: Path, compare: list[dict[str, str]], match: str) -> None:
    publish(make_atlas(make_layer()), tmp_path / "one" / "site")
    with pytest.raises(ConfigError, match=match):
        other_atlases(configured(tmp_path, *compare), tmp_path / "out")


@pytest.mark.parametrize(
    ("compare", "match"),
    [
        ({}, "give either build"),
        ({"build": "a", "href": "b", "name": "c"}, "give either build"),
        ({"href": "../b"}, "give a name with href"),
        ({"build": "a", "name": "A!"}, r"compare\[0\].name"),
    ],
)
def test_half_told_atlases_are_refused(tmp_path: Path, compare: dict[str, str], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        configured(tmp_path, compare)


def test_a_build_refuses_an_atlas_that_is_not_there_before_any_work(tiny: Path, tmp_path: Path) -> None:
    config = load_config(str(tiny)).beside([tmp_path / "nothing"])
    with pytest.raises(ConfigError, match="holds no atlas"):
        build(config, tmp_path / "out", SilentReporter())
    assert not list((tmp_path / "out").glob("store/*/*.parquet"))


def test_the_nights_before_are_beside_on_disk_and_where_the_site_is_copied_to(tiny: Path, tmp_path: Path) -> None:
    copy, out = tmp_path / "copy", tmp_path / "out"
    text = tiny.read_text().replace("[run]\n", f'[publish]\nurl = "{copy}"\nkeep = 3\n\n[run]\n')
    for night in range(4):
        tiny.write_text(text.replace('title = "', f'title = "{night} '))
        config = Overrides(layers=("fc",), units="0:2", seeds=1).apply(load_config(str(tiny)))
        build(config, out, SilentReporter())
    found = []
    for page in (out / "site" / "compare.html", next(copy.glob("00004-*")) / "compare.html"):
        places = re.findall(r'data-href="([^"]+)"', page.read_text())
        assert [re.findall(r"0000\d", place) for place in places] == [["00003"], ["00002"]]
        for place in places:
            target = os.path.normpath(page.parent / place / "layer" / "fc" / "data.js")  # as a browser does
            assert Path(target).is_file(), place
        found.append(places)
    assert found[0] != found[1]


def test_only_addresses_of_nights_differ_on_a_host() -> None:
    page = b'<option data-href="../versions/00003-ab/site"> <option data-href="../../versions/other/site">'
    assert hosted(page) == b'<option data-href="../00003-ab"> <option data-href="../../versions/other/site">'
