"""The flow ``atlas``: builds or resumes one atlas and publishes it, with whatever help it gets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from prefect import flow, get_run_logger
from pydantic import Field

from pipeline.build import finish, reported
from pipeline.claims import Claims
from pipeline.config import load_config, read_overrides
from pipeline.flows.artifacts import leave_artifacts, leave_failure
from pipeline.flows.helpers import FanOut, Helpers
from pipeline.flows.reporter import RunReporter
from pipeline.flows.tasks import ShardRuns, let_pipeline_speak, plan_task, publish_in_task, quoted, store_options
from pipeline.versions import check_folder
from pipeline.workspace import open_workspace


@flow(name="atlas", persist_result=False)
def atlas(
    config: Annotated[str, Field(min_length=1)],
    layers: list[str] | None = None,
    units: str | None = None,
    seeds: Annotated[int | None, Field(ge=1)] = None,
    runtime: str | None = None,
    out: str | None = None,
    credentials: str | None = None,
    fan_out: FanOut = FanOut(),  # noqa: B008 - never changed; the form shows its defaults
) -> str:
    """Build or resume an atlas.

    Args:
        config: path of a configuration, or the bare name of one in ``deploy/atlases/``.
        layers: only these layers.
        units: only these units of every layer: ``all``, ``0:64``, ``3,17,40:50``.
        seeds: start codes per unit.
        runtime: one that ``neuron-atlas engines`` lists.
        out: folder of the results, by default ``build/NAME`` in the working directory.
        credentials: Secret block with options of the store's file system; by default the environment's.
        fan_out: how the run gets help from other workers.

    Returns:
        The page to open: a path, or the URL of the copy where the configuration publishes one.
    """
    let_pipeline_speak()
    logger = get_run_logger()
    overrides = read_overrides(",".join(layers) if layers is not None else None, units, seeds, runtime)
    settings = overrides.apply(load_config(config))
    folder = Path(out) if out else settings.default_out
    check_folder(folder)
    workspace = open_workspace(settings, folder, store_options(credentials))
    runs, key = ShardRuns(), key_of(settings.name)
    with Claims(workspace.store.blobs) as claims, reported(workspace) as report:
        reporter = RunReporter(logger.info, key, report)
        try:
            plan = plan_task(quoted(workspace))
            with Helpers(workspace, plan, fan_out, credentials, report) as helpers:
                _, publication = finish(
                    workspace,
                    claims,
                    report,
                    reporter,
                    plan,
                    make=runs.make,
                    publish=publish_in_task,
                    meanwhile=helpers.tend,
                )
        except Exception as error:
            leave_failure(key, settings.name, runs.rows, report, error)
            raise
    leave_artifacts(key, workspace, plan, runs.rows, publication, report)
    return publication.url or str(publication.index.resolve())


def key_of(name: str) -> str:
    """An atlas's name as the beginning of an artifact's key."""
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower()).strip("-")
