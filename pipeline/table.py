"""``units.parquet``: one row per layer, unit and seed."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from export.errors import StoreError
from pipeline.plan import LayerPlan
from pipeline.records import Record, write_table
from pipeline.temporary import SUFFIX, is_leftover, temporary_name

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


def replace_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; one that holds these bytes already is left alone.

    Raises:
        StoreError: it cannot be written.
    """
    part = path.with_name(temporary_name(path.name))
    try:
        if path.is_file() and path.read_bytes() == data:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StoreError(f"{path} cannot be written: {error.strerror}; choose another folder with --out") from error


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left half written by :func:`replace_file`."""
    for path in folder.glob(f".*{SUFFIX}"):
        if is_leftover(path.name, 0.0):
            path.unlink(missing_ok=True)
