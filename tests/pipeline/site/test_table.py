from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq

from pipeline.site.publish import publish
from tests.pipeline.site.samples import EVIL, full_atlas, make_atlas


def test_the_table_holds_every_number_shown_one_row_per_result(tmp_path: Path) -> None:
    atlas = full_atlas(tmp_path / "study")
    table = pq.read_table(publish(atlas, tmp_path / "site").parent / "units.parquet")
    rows = {(row["layer"], row["unit"], row["seed"]): row for row in table.to_pylist()}
    assert rows.keys() == {(layer.name, r.unit, r.seed) for layer in atlas.layers for r in layer.results}
    best, other, dead = (rows["fc", 1, seed] for seed in (1, 0, 2))
    assert (best["activation"], best["spread"], best["percentile_in_layer"], best["change"]) == (9.0, 7.0, 100.0, 0.5)
    assert [row["shown"] for row in (best, other, dead)] == [True, False, False]
    assert [row["judge.score"] for row in (best, other, dead)] == [0.75, 0.25, None]
    assert (best["judge.rank"], best["judge.word"], best["judge.near"]) == (3.0, EVIL, True)
    assert (dead["status"], best["label"]) == ("dead", "tench, Tinca tinca")
    assert rows["stem", 0, 0]["judge.rank"] is None
    told = json.loads((table.schema.field("judge.score").metadata or {})[b"column"])
    assert told == {"title": "recognised " + EVIL, "description": "A share.", "form": "percent"}


def test_an_atlas_without_layers_has_an_empty_table(tmp_path: Path) -> None:
    assert len(pq.read_table(publish(make_atlas(), tmp_path / "site").parent / "units.parquet")) == 0
