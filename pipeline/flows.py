"""The Prefect flow ``atlas``: a thin shell over :mod:`pipeline.build`.

A task is a shard. The store, not Prefect's cache, decides what is done, so a retried or repeated run computes only what
is missing. Arguments are quoted: Prefect would otherwise walk through models and plans in search of futures.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.utilities.annotations import quote
from pydantic import Field

from export.errors import InputError
from pipeline.build import prepare
from pipeline.config import load_config, read_overrides
from pipeline.engines import Engines
from pipeline.lock import BuildLock
from pipeline.plan import Plan, Shard, make_plan
from pipeline.progress import opening
from pipeline.publication import Publication, publish_atlas, run_facts
from pipeline.worker import make_shard
from pipeline.workspace import Workspace, open_workspace

T = TypeVar("T")
Seeds = Annotated[int, Field(ge=1)]


def _quoted(value: T) -> T:
    """``value`` as an argument that a task gets unchanged and unsearched."""
    return cast(T, quote(value))


def _is_worth_retrying(task: Any, run: Any, state: Any) -> bool:
    """Wrong input stays wrong."""
    failure = state.result(raise_on_failure=False)
    return not isinstance(failure, InputError)


@task(name="plan", cache_policy=NO_CACHE, persist_result=False)
def plan_task(workspace: Workspace) -> Plan:
    """See :func:`pipeline.build.prepare`."""
    plan = prepare(workspace)
    get_run_logger().info(opening(plan))
    return plan


@task(
    name="shard",
    task_run_name="{layer} seed {seed}, {first} to {last}",
    retries=2,
    retry_delay_seconds=5,
    retry_condition_fn=_is_worth_retrying,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def shard_task(
    layer: str, seed: int, first: int, last: int, shard: Shard, session: tuple[Workspace, Engines]
) -> dict[str, Any]:
    """Make one shard; the first four arguments name the run."""
    start = time.monotonic()
    workspace, engines = session
    try:
        stored = make_shard(workspace, shard, engines)
    except Exception:
        engines.close()
        raise
    return {
        "layer": layer,
        "seed": seed,
        "units": f"{first} to {last}",
        "jobs": len(shard.units),
        "dead": stored.counts.get("dead", 0),
        "seconds": round(time.monotonic() - start, 1),
        "shard": f"{stored.key}/{stored.name}",
    }


@task(name="publish", retries=2, retry_delay_seconds=5, cache_policy=NO_CACHE, persist_result=False)
def publish_task(workspace: Workspace, num_made: int, duration_s: float) -> Publication:
    """See :func:`pipeline.publication.publish_atlas`."""
    return publish_atlas(workspace, make_plan(workspace), run_facts(workspace, num_made, duration_s))


@flow(name="atlas", persist_result=False)
def atlas(
    config: str,
    layers: list[str] | None = None,
    units: str | None = None,
    seeds: Seeds | None = None,
    runtime: str | None = None,
    out: str | None = None,
) -> str:
    """Build or resume an atlas.

    Args:
        config: path of a configuration, or the bare name of one in ``deploy/atlases/``.
        layers: only these layers.
        units: only these units of every layer: ``all``, ``0:64``, ``3,17,40:50``.
        seeds: start codes per unit.
        runtime: one that ``neuron-atlas engines`` lists.
        out: folder of the results, by default ``build/NAME`` in the working directory.

    Returns:
        The path of the page to open.
    """
    start = time.monotonic()
    overrides = read_overrides(",".join(layers) if layers is not None else None, units, seeds, runtime)
    settings = overrides.apply(load_config(config))
    folder = Path(out) if out else settings.default_out
    workspace = open_workspace(settings, folder)
    with BuildLock(folder), Engines(workspace) as engines:
        plan = plan_task(_quoted(workspace))
        session = _quoted((workspace, engines))
        rows = [
            shard_task(shard.layer, shard.seed, shard.units[0], shard.units[-1], _quoted(shard), session)
            for shard in plan.shards
        ]
        engines.close()
        publication = publish_task(_quoted(workspace), plan.num_todo, time.monotonic() - start)
    _report(settings.name, plan, rows, publication)
    return str(publication.index.resolve())


def _report(name: str, plan: Plan, rows: list[dict[str, Any]], publication: Publication) -> None:
    """Leave a summary, a table of shards and a link to the site with the run."""
    key = "".join(letter if letter.isalnum() else "-" for letter in name.lower()).strip("-")
    lines = ["| layer | jobs | run now |", "| --- | ---: | ---: |"]
    lines += [f"| `{layer.info.name}` | {layer.num_jobs} | {layer.num_todo} |" for layer in plan.layers]
    state = "published" if publication.fresh else "up to date"
    create_markdown_artifact(
        "\n".join([f"# {name}", "", f"{opening(plan)}. The site is {state}.", "", *lines]),
        key=f"{key}-summary",
        description=f"What the last run of atlas {name} did",
    )
    create_table_artifact(rows, key=f"{key}-shards", description=f"Shards made by the last run of atlas {name}")
    create_link_artifact(
        publication.index.resolve().as_uri(),
        link_text=f"{name}: the atlas",
        key=f"{key}-site",
        description=f"Atlas {name} on the worker's disk",
    )
