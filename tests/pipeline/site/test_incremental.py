from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.site import incremental
from pipeline.site.model import Atlas, HeldPictures
from pipeline.site.publish import publish, write_site
from tests.pipeline.site.samples import image_of, make_atlas, make_layer, make_result


def versioned(**changes: Any) -> Atlas:
    layers = (make_layer("a", version="1"), make_layer("b", version="1"), make_layer("c", version="1"))
    return make_atlas(*layers, **changes)


def inodes(site: Path) -> dict[str, int]:
    return {str(path.relative_to(site)): path.stat().st_ino for path in site.rglob("*") if path.is_file()}


def test_only_the_layer_that_changed_gets_new_files(tmp_path: Path) -> None:
    out, atlas = tmp_path / "site", versioned()
    publish(atlas, out)
    before = inodes(out)
    changed = replace(atlas.layers[1], version="2", pictures=HeldPictures({(u, 0): image_of(u + 9) for u in range(4)}))
    publish(replace(atlas, layers=(atlas.layers[0], changed, atlas.layers[2])), out)
    after = inodes(out)
    assert after.keys() == before.keys()
    made = {name for name in after if after[name] != before[name]}
    assert {name for name in made if name.startswith("layer/")} == {name for name in after if "layer/b/" in name}


def test_what_is_kept_equals_what_would_be_rendered(tmp_path: Path) -> None:
    out, fresh, atlas = tmp_path / "site", tmp_path / "fresh", versioned()
    publish(atlas, out)
    publish(atlas, out)
    publish(atlas, fresh)
    files = {path.relative_to(fresh): path.read_bytes() for path in fresh.rglob("*") if path.is_file()}
    assert files == {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("change", "rendered"),
    [
        ({}, ()),
        ({"run": {"date": "another"}}, ()),
        ({"title": "Another title"}, ("a", "b", "c")),
        ({"layers": (make_layer("a", version="1"), make_layer("b", version="1"))}, ("b",)),
        ({"layers": (make_layer("a", version="1", labels={0: "cat"}), make_layer("z", version="1"))}, ("a", "z")),
        ({"layers": (make_layer("a", version=""),)}, ("a",)),
    ],
)
def test_a_layer_is_rendered_again_when_its_pages_would_change(
    tmp_path: Path, change: dict[str, Any], rendered: tuple[str, ...]
) -> None:
    first, second, atlas = tmp_path / "first", tmp_path / "second", versioned()
    first.mkdir()
    second.mkdir()
    write_site(atlas, first)
    report = write_site(replace(atlas, **change), second, first)
    assert report.rendered == rendered


def test_other_templates_render_everything_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, atlas = tmp_path / "first", tmp_path / "second", versioned()
    first.mkdir()
    second.mkdir()
    write_site(atlas, first)
    monkeypatch.setattr(incremental, "code_version", lambda: "another")
    assert write_site(atlas, second, first).kept == ()


def test_a_previous_site_that_is_damaged_or_foreign_is_not_used(tmp_path: Path) -> None:
    first, second, atlas = tmp_path / "first", tmp_path / "second", versioned()
    first.mkdir()
    (first / "atlas.json").write_text('{"layers": [3]}')
    second.mkdir()
    assert write_site(atlas, second, first).kept == ()


def test_where_there_are_no_hard_links_files_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*arguments: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(incremental.os, "link", no_links)
    first, second, atlas = tmp_path / "first", tmp_path / "second", versioned()
    first.mkdir()
    second.mkdir()
    write_site(atlas, first)
    assert write_site(atlas, second, first).rendered == ()
    assert (second / "layer/a/0.html").read_bytes() == (first / "layer/a/0.html").read_bytes()
    assert (second / "layer/a/0.html").stat().st_ino != (first / "layer/a/0.html").stat().st_ino


def test_pictures_are_read_in_parts(tmp_path: Path) -> None:
    asked: list[int] = []

    class Counting(HeldPictures):
        def read(self, units: Any) -> Any:
            asked.append(len(units))
            return super().read(units)

    results = tuple(make_result(unit) for unit in range(150))
    images = {(unit, 0): image_of(0) for unit in range(150)}
    layer = replace(make_layer(results=results, num_units=150), pictures=Counting(images))
    publish(make_atlas(layer), tmp_path / "site")
    assert sorted(asked) == [22, 64, 64]
