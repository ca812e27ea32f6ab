"""``units.parquet``: one row per layer, unit and seed."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from export.errors import StoreError
from pipeline.plan import LayerPlan
from pipeline.records import Record, write_table

SCHEMA = pa.schema(
    [
        pa.field("layer", pa.string(), nullable=False),
        pa.field("unit", pa.int32(), nullable=False),
        pa.field("seed", pa.int32(), nullable=False),
        pa.field("activation", pa.float32(), nullable=False),
        pa.field("steps", pa.int32(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("target", pa.string(), nullable=False),
        pa.field("recipe", pa.string(), nullable=False),
    ]
)

Results = Mapping[tuple[str, int], Mapping[int, Record]]
"""(layer, seed) -> unit -> record."""


@dataclass(frozen=True)
class TableRow:
    """A row of the table; the fields are its columns."""

    layer: str
    unit: int
    seed: int
    activation: float
    steps: int
    status: str
    target: str
    recipe: str


def units_table(layers: Sequence[LayerPlan], results: Results) -> bytes:
    """The table as a parquet file.

    Rows are in the order of ``layers``, then by unit, then by seed; equal results make equal bytes.
    """
    rows = [
        (layer.info.name, results[layer.info.name, seed.recipe.seed][unit], seed.recipe.key)
        for layer in layers
        for unit in layer.units
        for seed in layer.seeds
    ]
    kept = [name for name in SCHEMA.names if name not in ("layer", "recipe")]
    columns = {name: [getattr(record, name) for _, record, _ in rows] for name in kept}
    columns |= {"layer": [name for name, _, _ in rows], "recipe": [key for _, _, key in rows]}
    return write_table(pa.Table.from_pydict(columns, schema=SCHEMA))


def read_rows(data: bytes) -> list[TableRow]:
    """Read what :func:`units_table` made.

    Raises:
        StoreError: it is no such table.
    """
    try:
        table = pq.read_table(io.BytesIO(data), schema=SCHEMA, use_threads=False)
    except (pa.ArrowInvalid, ValueError) as error:
        raise StoreError(f"the table of units cannot be read ({error}); build again to make it anew") from error
    return [TableRow(**row) for row in table.to_pylist()]
