"""What a run leaves among Prefect's artifacts: a summary, tables of layers and shards, a preview, a link."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image
from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from export.errors import InputError
from pipeline.export_sheet import write_sheet
from pipeline.plan import Plan
from pipeline.progress import opening
from pipeline.publication import Publication
from pipeline.report import RunReport
from pipeline.workspace import Workspace

PREVIEW_PX = 720
PREVIEW_UNITS = 64
MAX_SHARDS = 500
"""Rows of the table of shards."""


def leave_artifacts(
    key: str,
    workspace: Workspace,
    plan: Plan,
    shards: list[dict[str, Any]],
    publication: Publication,
    report: RunReport,
) -> None:
    """Leave everything with the run; ``plan`` is the one it began with."""
    name, facts = workspace.config.name, report.to_dict()
    create_markdown_artifact(
        _summary(name, plan, publication, facts),
        key=f"{key}-summary",
        description=f"What the last run of atlas {name} did",
    )
    rows = [{"layer": layer, **row} for layer, row in facts["layers"].items()]
    create_table_artifact(rows, key=f"{key}-layers", description=f"Layers of the last run of atlas {name}")
    create_table_artifact(
        shards[:MAX_SHARDS], key=f"{key}-shards", description=f"Shards that the last run of atlas {name} made itself"
    )
    preview = _preview(publication.index.parent.parent, plan)
    if preview is not None:
        layer, image = preview
        create_image_artifact(
            image_url=image, key=f"{key}-preview", description=f"Layer {layer} of atlas {name}, as it is published"
        )
    create_link_artifact(
        publication.url if publication.url and "://" in publication.url else publication.index.resolve().as_uri(),
        link_text=f"{name}: the atlas",
        key=f"{key}-site",
        description=f"Atlas {name}" if publication.url else f"Atlas {name} on the worker's disk",
    )


def _summary(name: str, plan: Plan, publication: Publication, facts: dict[str, Any]) -> str:
    lines = ["| layer | jobs | run now |", "| --- | ---: | ---: |"]
    lines += [f"| `{layer.info.name}` | {layer.num_jobs} | {layer.num_todo} |" for layer in plan.layers]
    state = "published" if publication.fresh else "up to date"
    jobs = facts["jobs"]
    since = f" Since the last version: {publication.changes.summary}." if publication.changes else ""
    return "\n".join(
        [
            f"# {name}",
            "",
            f"{opening(plan)}. The site is {state}, version {publication.version.name}.{since}",
            "",
            f"{jobs['made']} jobs were run here and {jobs['found']} by helpers; {jobs['dead']} units are dead. "
            f"{facts['units_per_s'] or 0:.3g} units/s, {facts['store_retries']} retries of the store, "
            f"{facts['shards']['damaged']} damaged shards made again.",
            "",
            *lines,
        ]
    )


def _preview(out: Path, plan: Plan) -> tuple[str, str] | None:
    """A contact sheet of the last layer that has one, as a small JPEG in a data URI."""
    for layer in reversed(plan.layers):
        with TemporaryDirectory() as folder:
            path = Path(folder) / "sheet.png"
            try:
                write_sheet(out, layer.info.name, [str(unit) for unit in layer.units[:PREVIEW_UNITS]], path)
            except InputError:
                continue  # the results are elsewhere, or have just been pruned
            with Image.open(path) as sheet:
                image = sheet.convert("RGB")
        image.thumbnail((PREVIEW_PX, PREVIEW_PX))
        sink = io.BytesIO()
        image.save(sink, "JPEG", quality=80)
        return layer.info.name, "data:image/jpeg;base64," + base64.b64encode(sink.getvalue()).decode("ascii")
    return None
