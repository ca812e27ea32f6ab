"""The site's ``units.parquet``: every number that it shows, one row per layer, unit and seed."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.site.columns import LayerNumbers
from pipeline.site.panels import Form, StudyResult

OWN = [
    pa.field("layer", pa.string()),
    pa.field("unit", pa.int32()),
    pa.field("seed", pa.int32()),
    pa.field("label", pa.string()),
    pa.field("shown", pa.bool_()),
    pa.field("status", pa.string()),
    pa.field("target", pa.string()),
    pa.field("activation", pa.float32()),
    pa.field("steps", pa.int32()),
    pa.field("percentile_in_layer", pa.float64()),
    pa.field("spread", pa.float64()),
    pa.field("lowest", pa.float64()),
    pa.field("change", pa.float64()),
]
"""``shown``: the seed that stands for its unit; from ``percentile_in_layer`` on the values are the unit's."""

TYPES: dict[Form, pa.DataType] = {"text": pa.string(), "yesno": pa.bool_()}
"""Arrow types of studies' columns that are not numbers."""


def units_schema(studies: Iterable[StudyResult]) -> pa.Schema:
    """Columns of every atlas, then ``STUDY.KEY`` of every study, with their titles and descriptions as metadata."""
    fields = list(OWN)
    for study in studies:
        for column in study.columns:
            told = {"title": column.title, "description": column.description, "form": column.form}
            kind = TYPES.get(column.form, pa.float64())
            fields.append(pa.field(f"{study.name}.{column.key}", kind, metadata={"column": json.dumps(told)}))
    return pa.schema(fields)


def layer_rows(numbers: LayerNumbers, schema: pa.Schema) -> pa.Table:
    """A layer's rows, by unit and seed."""
    rows: list[dict[str, Any]] = []
    panels = {study.name: found for study, found in numbers.studies}
    for unit in numbers.gallery.units:
        values, standing = numbers.values(unit), numbers.gallery.standing(unit)
        for result in sorted(unit.results, key=lambda result: result.seed):
            row: dict[str, Any] = {
                "layer": unit.layer.name,
                "unit": unit.unit,
                "seed": result.seed,
                "label": unit.label or None,
                "shown": unit.best is not None and unit.best.seed == result.seed,
                "status": result.status,
                "target": result.target,
                "activation": result.activation,
                "steps": result.steps,
                "percentile_in_layer": standing.percentile if standing else None,
                "spread": values.get("spread"),
                "lowest": values.get("lowest"),
                "change": values.get("change"),
            }
            for name in schema.names[len(OWN) :]:
                study, _, key = name.partition(".")
                panel = panels.get(study, {}).get(unit.unit)
                row[name] = _as(schema.field(name).type, panel.value(key, result.seed) if panel else None)
            rows.append(row)
    return pa.Table.from_pylist(rows, schema=schema)


def write_units(tables: Iterable[pa.Table], schema: pa.Schema) -> bytes:
    """The parquet file; equal tables make equal bytes under one version of pyarrow."""
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, schema, compression="ZSTD") as writer:
        for table in tables:
            if len(table):
                writer.write_table(table)
    return sink.getvalue()


def _as(kind: pa.DataType, value: Any) -> Any:
    if value is None:
        return None
    if pa.types.is_string(kind):
        return str(value)
    return bool(value) if pa.types.is_boolean(kind) else float(value)
