"""Running studies and writing what they found to ``OUT/studies/NAME/``; a study whose inputs are the same is kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import pyarrow as pa

from export.errors import InputError
from pipeline.records import write_table
from pipeline.site.panels import Value, blocks_to_json
from pipeline.studies.base.context import STUDIES, Context
from pipeline.studies.base.key import study_key
from pipeline.studies.base.study import MissingInput, Output, Study
from pipeline.temporary import replace_file

STAMP = "study.json"
Outcome = Literal["done", "kept", "refused"]


def run_studies(
    context: Context, chosen: Sequence[Study], on_outcome: Callable[[Study, Outcome, str], None]
) -> dict[str, Outcome]:
    """Run studies one after the other; one that refuses does not stop the others.

    Args:
        context: what they read.
        chosen: the studies.
        on_outcome: told of each: study, outcome, and why it was refused or what it says in a sentence.

    Returns:
        The outcome by study. A refused study leaves a page that says why, and no numbers; where an input was not given
        and there is a former result, that stays.
    """
    outcomes: dict[str, Outcome] = {}
    for study in chosen:
        folder = context.workspace.out / STUDIES / study.name
        try:
            context.demand(study.needs)
            key = study_key(study, context)
            if _read_key(folder) == key:
                outcomes[study.name] = "kept"
                on_outcome(study, "kept", "nothing has changed")
                continue
            output = study.run(context)
        except InputError as error:
            outcomes[study.name] = "refused"
            if not (isinstance(error, MissingInput) and _read_key(folder)):  # what was found before still holds
                write_output(study, Output(f"Not reported: {error}."), folder, key="")
            on_outcome(study, "refused", str(error))
        else:
            write_output(study, output, folder, key)
            outcomes[study.name] = "done"
            on_outcome(study, "done", output.summary)
    return outcomes


def write_output(study: Study, output: Output, folder: Path, key: str) -> None:
    """Write a study's files; ``findings.json`` last, so that a study that was killed is not shown.

    Raises:
        StoreError: they cannot be written.
    """
    (folder / "findings.json").unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)  # what a former run left
    for name, data in output.files.items():
        replace_file(folder / name, data)
    if output.rows or output.blocks:
        replace_file(folder / "units.parquet", write_table(table_of(output)))
    findings = {
        "title": study.title,
        "summary": output.summary,
        "columns": [asdict(column) for column in output.columns],
        "findings": [asdict(finding) for finding in output.findings],
    }
    replace_file(folder / STAMP, (json.dumps({"key": key}) + "\n").encode())
    replace_file(folder / "findings.json", (json.dumps(findings, indent=1, allow_nan=False) + "\n").encode())


def table_of(output: Output) -> pa.Table:
    """The rows by layer (in the order in which they came), unit and seed, with the panels of whole units."""
    order = {
        layer: index for index, layer in enumerate(dict.fromkeys(key[0] for key in [*output.rows, *output.blocks]))
    }
    keys = set(output.rows) | {(layer, unit, None) for layer, unit in output.blocks}
    ranked = sorted(keys, key=lambda key: (order[key[0]], key[1], -1 if key[2] is None else key[2]))
    names = list(dict.fromkeys(name for row in output.rows.values() for name in row))
    columns: dict[str, pa.Array] = {
        "layer": pa.array([key[0] for key in ranked], pa.string()),
        "unit": pa.array([key[1] for key in ranked], pa.int32()),
        "seed": pa.array([key[2] for key in ranked], pa.int32()),
    }
    for name in names:
        values = [output.rows.get(key, {}).get(name) for key in ranked]
        columns[name] = pa.array([_plain(value) for value in values], _type_of(values))
    panels = [output.blocks.get(key[:2]) if key[2] is None else None for key in ranked]
    columns["panel"] = pa.array([blocks_to_json(blocks) if blocks else None for blocks in panels], pa.string())
    return pa.table(columns)


def _type_of(values: Sequence[Value]) -> pa.DataType:
    kinds = {type(value) for value in values if value is not None}
    for kind, found in ((str, pa.string()), (float, pa.float64()), (int, pa.int64()), (bool, pa.bool_())):
        if kind in kinds:
            return found
    return pa.float64()


def _plain(value: Value) -> Value:
    return None if isinstance(value, float) and value != value else value


def _read_key(folder: Path) -> str | None:
    try:
        (folder / "findings.json").stat()
        return str(json.loads((folder / STAMP).read_text(encoding="utf-8"))["key"]) or None
    except (OSError, ValueError, KeyError):
        return None
