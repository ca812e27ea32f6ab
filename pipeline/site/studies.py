"""Finding the studies of a build: ``OUT/studies/*/``, in the form that :mod:`pipeline.site.panels` describes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from export.errors import StoreError
from pipeline.site.panels import Block, Column, Finding, Panel, StudyResult, Value
from pipeline.site.reading import blocks_from_json, read_as

ORDER = ("exemplars", "tuning", "similar", "recognisability", "memorisation", "diversity", "priors", "invariance")
"""Studies that come first on the pages, what one looks for first; others follow by name."""

KEYS = ("layer", "unit", "seed", "panel")
"""Columns of ``units.parquet`` that are not values."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


def read_studies(folder: Path) -> tuple[StudyResult, ...]:
    """Every study under ``folder``, in the order of :data:`ORDER`; none where there is no such folder.

    A folder without ``findings.json`` is a study that has not ended, and is skipped.

    Raises:
        StoreError: a study's files cannot be read or do not fit.
    """
    if not folder.is_dir():
        return ()
    found = {path.parent.name: path.parent for path in folder.glob("*/findings.json")}
    names = [name for name in ORDER if name in found] + sorted(found.keys() - set(ORDER))
    return tuple(read_study(found[name]) for name in names)


def read_study(folder: Path) -> StudyResult:
    """One study; its panels are read when they are asked for.

    Raises:
        StoreError: its files cannot be read or do not fit.
    """
    name = folder.name
    try:
        if not _NAME.fullmatch(name):
            raise ValueError("a study's folder is named in lower-case letters, digits, '-' and '_'")
        raw = json.loads((folder / "findings.json").read_text(encoding="utf-8"))
        if not isinstance(raw, dict):
            raise ValueError("findings.json: not an object")
        columns = read_as(tuple[Column, ...], raw.pop("columns", []), "columns")
        findings = read_as(tuple[Finding, ...], raw.pop("findings", []), "findings")
        title, summary = (read_as(str, raw.get(key), key) for key in ("title", "summary"))
        panels = Panels(folder / "units.parquet", name) if (folder / "units.parquet").is_file() else {}
        if isinstance(panels, Panels) and (missing := [c.key for c in columns if c.key not in panels.value_names]):
            raise ValueError(f"columns: {missing[0]!r} is no column of units.parquet")
        return StudyResult(name, title, summary, columns, panels, findings, str(folder))
    except (OSError, ValueError) as error:
        raise _unreadable(name, error) from error


class Panels(Mapping[str, Mapping[int, Panel]]):
    """Panels of a study, layer by layer, straight from its ``units.parquet``; what was read is not kept."""

    def __init__(self, path: Path, study: str) -> None:
        """Raises ValueError or OSError if the file is no such table."""
        self._path, self._study = path, study
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
        if not {"layer", "unit"} <= set(schema.names):
            raise ValueError("units.parquet has no columns layer and unit")
        kept = [field.name for field in schema if _is_value(field.type)]
        self.value_names = tuple(name for name in kept if name not in KEYS)

    @cached_property
    def _layers(self) -> tuple[str, ...]:
        column = pq.read_table(self._path, columns=["layer"]).column("layer")
        return tuple(pc.unique(column.cast(pa.string())).to_pylist())

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def __contains__(self, layer: object) -> bool:
        return layer in self._layers

    def __getitem__(self, layer: str) -> dict[int, Panel]:
        if layer not in self._layers:
            raise KeyError(layer)
        try:
            table = pq.read_table(self._path, filters=[("layer", "==", layer)])
            rows: dict[int, list[dict[str, Any]]] = {}
            for row in table.to_pylist():
                rows.setdefault(int(row["unit"]), []).append(row)
            return {unit: self._panel(found) for unit, found in rows.items()}
        except (OSError, ValueError, pa.ArrowException) as error:
            raise _unreadable(self._study, error) from error

    def _panel(self, rows: list[dict[str, Any]]) -> Panel:
        values: dict[str, Value] = {}
        by_seed: dict[int, dict[str, Value]] = {}
        blocks: list[Block] = []
        for row in rows:
            seed = row.get("seed")
            target = values if seed is None else by_seed.setdefault(int(seed), {})
            target |= {name: row[name] for name in self.value_names if row[name] is not None}
            if row.get("panel"):
                blocks += blocks_from_json(row["panel"])
        return Panel(values, by_seed, tuple(blocks))


def _is_value(kind: pa.DataType) -> bool:
    """Whether a cell can be a :data:`Value`; lists, times and the like are for the study's own use."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    tests = (
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_boolean,
        pa.types.is_string,
        pa.types.is_large_string,
    )
    return any(test(kind) for test in tests)


def _unreadable(study: str, error: Exception) -> StoreError:
    return StoreError(f"study {study} cannot be shown ({error}); run it again, or remove its folder")
