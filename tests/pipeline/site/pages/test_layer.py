"""A layer's page: what its units can be sorted by."""

from __future__ import annotations

from pathlib import Path

from pipeline.site.columns import layer_numbers
from pipeline.site.gallery import make_gallery
from pipeline.site.pages.layer import sort_groups
from tests.pipeline.site.samples import full_atlas, odd_atlas


def test_sort_keys_are_grouped_by_study(tmp_path: Path) -> None:
    atlas = full_atlas(tmp_path)
    classes = make_gallery(atlas.layers[-1])
    groups = sort_groups(layer_numbers(classes, atlas.studies, atlas.changes))
    assert [(title, [column.key for column in columns]) for title, columns in groups] == [
        ("", ["activation", "steps", "spread", "lowest", "change"]),
        (atlas.studies[0].title, ["judge.score", "judge.rank", "judge.near"]),
    ]


def test_without_studies_and_changes_there_are_only_an_atlas_own_keys() -> None:
    stem = make_gallery(odd_atlas().layers[0])
    (own,) = sort_groups(layer_numbers(stem, (), None))
    assert own[0] == ""
    assert [column.key for column in own[1]] == ["activation", "steps", "lowest"]
