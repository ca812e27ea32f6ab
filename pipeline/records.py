"""Records: what is kept of a job, and the parquet file of a shard."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from engine.slots import Status

SCHEMA = pa.schema(
    [
        pa.field("unit", pa.int32(), nullable=False),
        pa.field("seed", pa.int32(), nullable=False),
        pa.field("activation", pa.float32(), nullable=False),
        pa.field("steps", pa.int32(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("target", pa.string(), nullable=False),
        pa.field("curve", pa.list_(pa.float32()), nullable=False),
        pa.field("code", pa.list_(pa.float32()), nullable=False),
        pa.field("image", pa.binary(), nullable=False),
        pa.field("film_steps", pa.list_(pa.int32())),
        pa.field("film", pa.binary()),
    ],
    metadata={"records": "2"},
)
"""Version 2 added the film; files of version 1 are read as without one."""


@dataclass(frozen=True, eq=False)
class Record:
    """What is kept of a job.

    Attributes:
        unit: index in its layer.
        seed: of its start code.
        activation: the best, of ``target``.
        steps: done.
        status: ``done`` or ``dead``.
        target: the tensor that was maximised: the layer, or its pre-activation where the layer was dead.
        curve: float32, the activation at each poll.
        code: (code_dim,) float32, the best code.
        image: PNG, (image_px, image_px) RGB.
        film_steps: steps after which each cell of ``film`` was the picture; the last cell is ``image``, at ``steps``.
        film: WebP, one row of square cells, see :mod:`pipeline.films`; empty where none was kept.
    """

    unit: int
    seed: int
    activation: float
    steps: int
    status: Status
    target: str
    curve: npt.NDArray[np.float32]
    code: npt.NDArray[np.float32]
    image: bytes
    film_steps: tuple[int, ...] = ()
    film: bytes = b""


def best_of(records: Iterable[Record], layer: str) -> Record | None:
    """The record of a unit that is shown: of those that are not dead, those of the layer before those of its
    pre-activation, the one of the highest activation; of equal ones the first seed. None where all are dead."""
    done = [record for record in records if record.status == "done"]
    own = [record for record in done if record.target == layer] or done
    return max(own, key=lambda record: (record.activation, -record.seed), default=None)


def to_parquet(records: Sequence[Record]) -> bytes:
    """Write a parquet file; equal records make equal bytes under one version of pyarrow."""
    columns = {name: [getattr(record, name) for record in records] for name in SCHEMA.names}
    return write_table(pa.Table.from_pydict(columns, schema=SCHEMA), uncompressed=("image", "film"))


def from_parquet(data: bytes) -> list[Record]:
    """Read what :func:`to_parquet` wrote."""
    table = pq.read_table(io.BytesIO(data), schema=SCHEMA, use_threads=False)
    plain = table.drop_columns(["curve", "code", "film_steps", "film"]).to_pylist()
    arrays = {name: _rows(table.column(name)) for name in ("curve", "code")}
    steps, films = (table.column(name).to_pylist() for name in ("film_steps", "film"))
    return [
        Record(
            **row,
            curve=arrays["curve"][index],
            code=arrays["code"][index],
            film_steps=tuple(steps[index] or ()),
            film=films[index] or b"",
        )
        for index, row in enumerate(plain)
    ]


def write_table(table: pa.Table, uncompressed: Sequence[str] = ()) -> bytes:
    """A parquet file whose bytes depend on the table alone."""
    compression = {name: "NONE" if name in uncompressed else "ZSTD" for name in table.column_names}
    compression |= {f"{name}.list.element": "ZSTD" for name in table.column_names}
    sink = io.BytesIO()
    pq.write_table(
        table,
        sink,
        version="2.6",
        data_page_version="1.0",
        compression=compression,
        use_dictionary=[name for name in ("layer", "status", "target", "recipe") if name in table.column_names],
        row_group_size=max(1, len(table)),
        write_statistics=True,
    )
    return sink.getvalue()


def _rows(column: pa.ChunkedArray) -> list[npt.NDArray[np.float32]]:
    return [np.asarray(row.values, np.float32) for row in column]
