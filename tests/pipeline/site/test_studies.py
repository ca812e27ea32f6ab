from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from export.errors import StoreError
from pipeline.site import panels
from pipeline.site.columns import layer_numbers
from pipeline.site.gallery import make_gallery
from pipeline.site.panels import Column, Finding, Panel, Picture, blocks_to_json
from pipeline.site.reading import blocks_from_json
from pipeline.site.studies import read_studies, read_study
from tests.pipeline.site.samples import EVERY_BLOCK, make_layer


def write_study(folder: Path, rows: list[dict[str, Any]] | None = None, **findings: Any) -> Path:
    folder.mkdir(parents=True)
    facts = {"title": "A study", "summary": "What it asked.", **findings}
    (folder / "findings.json").write_text(json.dumps(facts))
    if rows is not None:
        pq.write_table(pa.Table.from_pylist(rows), folder / "units.parquet")
    return folder


def test_every_kind_of_block_survives_the_way_through_json() -> None:
    assert {type(block) for block in EVERY_BLOCK} == set(panels.BLOCKS.values())
    assert blocks_from_json(blocks_to_json(EVERY_BLOCK)) == EVERY_BLOCK


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        ({"kind": "html", "text": "<b>"}, "block 0: kind 'html' is none of text, facts"),
        ({"kind": "text"}, "block 0: text is missing"),
        ({"kind": "text", "text": 3}, "block 0.text: 3 is not a text"),
        ({"kind": "text", "text": "a", "html": "b"}, "block 0: unknown key 'html'"),
        ({"kind": "facts", "rows": [["a"]]}, r"block 0.rows\[0\]: 1 values, expected 2"),
        ({"kind": "units", "title": "t", "units": [{"layer": "a", "unit": True}]}, "True is not a number"),
    ],
)
def test_what_is_no_block_is_refused_with_its_place(raw: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        blocks_from_json(json.dumps([raw]))


def test_no_studies_no_results(tmp_path: Path) -> None:
    assert read_studies(tmp_path / "studies") == ()
    (tmp_path / "studies" / "running").mkdir(parents=True)
    assert read_studies(tmp_path / "studies") == ()


def test_a_layer_is_read_once_and_one_without_a_row_never(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = read_study(write_study(tmp_path / "a", [{"layer": "fc", "unit": 0, "score": 1.0}]))
    read, read_table = list[str](), pq.read_table

    def counted(*arguments: Any, **options: Any) -> pa.Table:
        read.extend(value for _, _, value in options.get("filters", []))
        return read_table(*arguments, **options)

    monkeypatch.setattr("pipeline.site.studies.pq.read_table", counted)
    for layer in ("fc", "stem"):
        layer_numbers(make_gallery(make_layer(layer)), (study,), None)
    assert read == ["fc"]


def test_studies_come_in_the_order_in_which_one_asks(tmp_path: Path) -> None:
    for name in ("zeta", "alpha", "tuning", "exemplars"):
        write_study(tmp_path / name)
    assert [study.name for study in read_studies(tmp_path)] == ["exemplars", "tuning", "alpha", "zeta"]


def test_a_study_is_read_by_layer_with_values_of_units_and_seeds(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"layer": "a", "unit": 1, "seed": None, "score": 0.5, "word": "cat", "panel": blocks_to_json(EVERY_BLOCK)},
        {"layer": "b", "unit": 1, "seed": None, "score": math.nan, "word": None, "panel": None},
        {"layer": "a", "unit": 2, "seed": 0, "score": 0.1, "word": None, "panel": None},
        {"layer": "a", "unit": 2, "seed": 3, "score": 0.2, "word": "dog", "panel": None},
    ]
    columns = [{"key": "score", "title": "score", "form": "percent", "sort": "low"}]
    finding = {"heading": "It holds", "figure": {"file": "f.svg", "width": 9, "height": 8, "alt": "a line"}}
    folder = write_study(tmp_path / "studies" / "judge", rows, columns=columns, findings=[finding])
    (study,) = read_studies(folder.parent)
    assert study.name == "judge"
    assert study.columns == (Column("score", "score", form="percent", sort="low"),)
    assert study.findings == (Finding("It holds", figure=Picture("f.svg", 9, 8, "a line")),)
    assert set(study.panels) == {"a", "b"}
    assert "c" not in study.panels
    assert set(study.panels["a"]) == {1, 2}
    whole, by_seed = study.panels["a"][1], study.panels["a"][2]
    assert whole.blocks == EVERY_BLOCK
    assert (whole.value("score", 7), whole.value("word", None)) == (0.5, "cat")
    assert [by_seed.value("score", seed) for seed in (0, 3, 4, None)] == [0.1, 0.2, None, None]
    assert study.panels["b"][1].value("score", 0) is None


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"title": None}, "title: None is not a text"),
        ({"columns": [{"key": "x", "title": "x", "form": "html"}]}, "'html' is none of"),
        ({"columns": [{"key": "absent", "title": "x"}]}, "'absent' is no column of units.parquet"),
        ({"findings": [{"heading": "h", "blocks": [{"kind": "?"}]}]}, r"findings\[0\].blocks\[0\]: kind"),
    ],
)
def test_a_study_that_does_not_fit_names_itself_and_the_place(
    tmp_path: Path, change: dict[str, Any], fault: str
) -> None:
    folder = write_study(tmp_path / "odd", [{"layer": "a", "unit": 0, "score": 1.0}], **change)
    with pytest.raises(StoreError, match=f"study odd cannot be shown .*{fault}"):
        read_study(folder)


def test_a_broken_panel_and_a_broken_table_name_the_study(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "odd", [{"layer": "a", "unit": 0, "panel": "[{}]"}])
    with pytest.raises(StoreError, match="study odd"):
        read_study(folder).panels["a"]
    (folder / "units.parquet").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(StoreError, match="study odd"):
        read_study(folder)
    with pytest.raises(StoreError, match="study O dd"):
        read_study(write_study(tmp_path / "O dd"))


def test_columns_that_are_no_values_are_left_to_the_study(tmp_path: Path) -> None:
    row = {"layer": "a", "unit": 0, "score": 1, "curve": [1.0, 2.0], "on": True, "word": "cat"}
    panel = read_study(write_study(tmp_path / "odd", [row])).panels["a"][0]
    assert panel.values == {"score": 1, "on": True, "word": "cat"}


def test_a_panel_is_plain_data() -> None:
    assert dataclasses.asdict(Panel({"a": 1.0})) == {"values": {"a": 1.0}, "by_seed": {}, "blocks": ()}
