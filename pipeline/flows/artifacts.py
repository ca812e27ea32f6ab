"""What a run leaves among Prefect's artifacts: a summary, tables of layers and shards, a preview, a link.

They are for the eye: a server that does not take one is told of in the log, and the run goes on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from pipeline.flows.preview import Preview, published_preview
from pipeline.plan import Plan
from pipeline.progress import opening
from pipeline.publication import Publication
from pipeline.report import RunReport
from pipeline.workspace import Workspace

log = logging.getLogger(__name__)

MAX_SHARDS = 500
"""Rows of the table of shards."""


SILENCE_S = 300.0
"""How long nothing more is left after a server has not taken an artifact: an attempt holds up the run for a minute."""

_failed: list[float] = []
"""When, by the monotonic clock of this process, the last artifact was not taken."""


def leave(make: Callable[[], Any]) -> None:
    """Leave an artifact if the server takes it."""
    if _failed and time.monotonic() - _failed[-1] < SILENCE_S:
        return
    try:
        make()
        _failed.clear()
    except Exception as error:
        _failed[:] = [time.monotonic()]
        log.warning("an artifact could not be left with the server: %s", error or type(error).__name__)


def leave_artifacts(
    key: str,
    workspace: Workspace,
    plan: Plan,
    shards: list[dict[str, Any]],
    publication: Publication,
    report: RunReport,
) -> None:
    """Leave what a run that has published knows; ``plan`` is the one it began with."""
    name = workspace.config.name
    _leave_summary(key, name, _summary(name, plan, publication, report.to_dict()))
    leave(lambda: leave_layers(key, report))
    _leave_shards(key, name, shards)
    leave(lambda: _leave_published_preview(key, name, plan, publication))
    leave(
        lambda: create_link_artifact(
            publication.url if publication.url and "://" in publication.url else publication.index.resolve().as_uri(),
            link_text=f"{name}: the atlas",
            key=f"{key}-site",
            description=f"Atlas {name}" if publication.url else f"Atlas {name} on the worker's disk",
        )
    )


def leave_failure(key: str, name: str, shards: list[dict[str, Any]], report: RunReport, error: Exception) -> None:
    """Leave what a run that has failed knows: why, and how far it got."""
    jobs = report.to_dict()["jobs"]
    lines = [
        f"# {name}: failed",
        "",
        f"    {error}",
        "",
        f"{jobs['made']} of {jobs['asked']} jobs were run before it failed; what was stored is kept. The site that was "
        "published last is still shown. Run it again when the cause is gone: only the rest is made.",
    ]
    _leave_summary(key, name, "\n".join(lines))
    _leave_shards(key, name, shards)


def leave_layers(key: str, report: RunReport) -> None:
    """Leave the table of layers, as they are now."""
    rows = [{"layer": layer, **row} for layer, row in report.layer_rows().items()]
    name = report.workspace.config.name
    create_table_artifact(rows, key=f"{key}-layers", description=f"Layers of the last run of atlas {name}")


def leave_preview(key: str, preview: Preview) -> None:
    """Leave a contact sheet of what is being made, if anything is."""
    uri = preview.to_uri()
    if uri is not None:
        description = f"Layer {preview.layer}, as it is being made"
        create_image_artifact(image_url=uri, key=f"{key}-preview", description=description)


def _leave_published_preview(key: str, name: str, plan: Plan, publication: Publication) -> None:
    preview = published_preview(publication.index.parent.parent, plan)
    if preview is not None:
        layer, uri = preview
        description = f"Layer {layer} of atlas {name}, as it is published"
        create_image_artifact(image_url=uri, key=f"{key}-preview", description=description)


def _leave_summary(key: str, name: str, text: str) -> None:
    description = f"What the last run of atlas {name} did"
    leave(lambda: create_markdown_artifact(text, key=f"{key}-summary", description=description))


def _leave_shards(key: str, name: str, shards: list[dict[str, Any]]) -> None:
    description = f"Shards that the last run of atlas {name} made itself"
    leave(lambda: create_table_artifact(shards[:MAX_SHARDS], key=f"{key}-shards", description=description))


def _summary(name: str, plan: Plan, publication: Publication, facts: dict[str, Any]) -> str:
    lines = ["| layer | jobs | run now |", "| --- | ---: | ---: |"]
    lines += [f"| `{layer.info.name}` | {layer.num_jobs} | {layer.num_todo} |" for layer in plan.all_layers]
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
            f"{facts['failed_attempts']} failed attempts at shards, {facts['helper_retries']} helpers sent out again, "
            f"{facts['shards']['damaged']} damaged shards made again.",
            "",
            *lines,
        ]
    )
