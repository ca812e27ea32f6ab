"""An atlas as one tar: the table, lossless pictures, codes. For sharing, and for reading without this package.

::

    units.parquet                   one row per layer, unit and seed
    images/FOLDER/UNIT-sSEED.png    pictures of live results; FOLDER is the layer's in the site
    codes/FOLDER/sSEED.npz          units (N,) int32 and codes (N, D) float32 of live results
"""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from export.errors import StoreError
from pipeline.atlas import BuiltAtlas
from pipeline.site.paths import safe_name
from pipeline.temporary import temporary_name


def write_pack(atlas: BuiltAtlas, output: Path) -> int:
    """Write the tar, whole or not at all; equal atlases make equal bytes. One shard is in memory at a time.

    Args:
        atlas: see :func:`pipeline.atlas.open_atlas`.
        output: ``.tar``.

    Returns:
        The number of pictures.

    Raises:
        StoreError: the store cannot be read, or the file not written.
    """
    part = output.with_name(temporary_name(output.name))
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(part, "w", format=tarfile.PAX_FORMAT) as tar:
            count = _fill(atlas, tar)
        os.replace(part, output)
    except OSError as error:
        raise StoreError(f"{output} cannot be written: {error.strerror or error}; choose another place") from error
    finally:
        part.unlink(missing_ok=True)
    return count


def _fill(atlas: BuiltAtlas, tar: tarfile.TarFile) -> int:
    count = 0
    _add(tar, "units.parquet", _parquet(atlas.table))
    for layer in atlas.layers:
        folder = safe_name(layer)
        for seed in atlas.seeds(layer):
            units, codes = [], []
            for record in atlas.records(layer, seed=seed):
                if record.status == "done":
                    _add(tar, f"images/{folder}/{record.unit}-s{seed}.png", record.image)
                    units.append(record.unit)
                    codes.append(record.code)
                    count += 1
            if units:
                sink = io.BytesIO()
                np.savez(sink, units=np.asarray(units, np.int32), codes=np.stack(codes))
                _add(tar, f"codes/{folder}/s{seed}.npz", sink.getvalue())
    return count


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o644
    tar.addfile(entry, io.BytesIO(content))


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="ZSTD")
    return sink.getvalue()
