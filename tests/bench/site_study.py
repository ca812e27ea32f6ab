"""A placeholder study for the site at full size: what a unit's panel holds when studies were run."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.site.model import Layer
from pipeline.site.panels import (
    Block,
    Histogram,
    Mark,
    StudyResult,
    Table,
    UnitLink,
    Units,
    blocks_to_json,
)
from pipeline.site.studies import read_study

SCHEMA = pa.schema([("layer", pa.string()), ("unit", pa.int32()), ("percentile", pa.float64()), ("panel", pa.string())])
COUNTS = tuple(float(round(400 * 2 ** (-((bin - 20) ** 2) / 60))) for bin in range(64))
NUM_POINTERS, NUM_SIMILAR = 19, 12


def write_study(folder: Path, layers: tuple[Layer, ...]) -> StudyResult:
    """A study of every unit: a number, a histogram of natural activations, similar units, a table of exemplars."""
    folder.mkdir(parents=True)
    facts = {
        "title": "Placeholders",
        "summary": "As much as the studies of exemplars, tuning and similar units leave together.",
        "columns": [{"key": "percentile", "title": "percentile among pictures", "form": "percentile"}],
        "findings": [{"heading": "None", "text": "Nothing was measured."}],
    }
    (folder / "findings.json").write_text(json.dumps(facts))
    with pq.ParquetWriter(folder / "units.parquet", SCHEMA, compression="ZSTD") as writer:
        for layer in layers:
            rows = [
                {"layer": layer.name, "unit": unit, "percentile": 99.0, "panel": blocks_to_json(_blocks(layer, unit))}
                for unit in range(layer.num_units)
            ]
            writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
    return read_study(folder)


def _blocks(layer: Layer, unit: int) -> tuple[Block, ...]:
    marks = (Mark(21.5 + unit % 7, "synthetic"), Mark(14.0, "best picture"))
    similar = tuple(
        UnitLink(layer.name, (unit * 31 + step) % layer.num_units, f"0.{90 - step}") for step in range(NUM_SIMILAR)
    )
    pointers = tuple(
        ("top", f"{30 - rank:.2f}", f"n{unit:08d}", f"imagenet_sample/n{unit:08d}/{rank:04d}.webp", "0,0 to 128,128")
        for rank in range(NUM_POINTERS)
    )
    return (
        Histogram("Synthetic against natural activation", "activation", -4.0, 12.0, COUNTS, marks),
        Units("Most similar units by response", similar),
        Table("Exemplars as pointers", ("kind", "activation", "class", "path", "part seen"), pointers),
    )
