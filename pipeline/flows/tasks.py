"""The tasks. Arguments are quoted: Prefect would otherwise walk through models and plans in search of futures."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from prefect import get_run_logger, task
from prefect.blocks.system import Secret
from prefect.cache_policies import NO_CACHE
from prefect.utilities.annotations import quote

from export.errors import ConfigError, InputError
from pipeline.build import make_reported, prepare
from pipeline.claims import Claims
from pipeline.engines import Engines
from pipeline.plan import Plan, Shard
from pipeline.progress import Reporter, opening
from pipeline.publication import Publication, publish_atlas
from pipeline.report import RunReport
from pipeline.store import DamagedShardError, StoredShard
from pipeline.workspace import Workspace

T = TypeVar("T")


def quoted(value: T) -> T:
    """``value`` as an argument that a task gets unchanged and unsearched."""
    return cast(T, quote(value))


def is_worth_retrying(task: Any, run: Any, state: Any) -> bool:
    """Wrong input stays wrong, and a damaged shard is made again first."""
    failure = state.result(raise_on_failure=False)
    return not isinstance(failure, InputError | DamagedShardError)


def let_pipeline_speak() -> None:
    """Have the pipeline's own log lines written; ``PREFECT_LOGGING_EXTRA_LOGGERS`` brings them into the run's log."""
    logging.getLogger("pipeline").setLevel(logging.INFO)


def store_options(block: str | None) -> dict[str, Any]:
    """Options of the store's file system from a Secret block that holds a JSON object; empty without a block.

    Raises:
        ConfigError: there is no such block, or it holds something else.
    """
    if block is None:
        return {}
    try:
        value: Any = Secret.load(block).get()  # type: ignore[union-attr]
    except ValueError as error:
        raise ConfigError(
            f"there is no Secret block {block!r}; make it, or leave credentials to the environment"
        ) from error
    if not isinstance(value, dict):
        raise ConfigError(f'the Secret block {block!r} must hold a JSON object such as {{"key": ..., "secret": ...}}')
    return value


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
    retry_condition_fn=is_worth_retrying,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def shard_task(
    layer: str, seed: int, first: int, last: int, shard: Shard, session: tuple[Workspace, Engines, RunReport, Reporter]
) -> StoredShard:
    """Make one shard; the first four arguments name the run."""
    workspace, engines, report, reporter = session
    try:
        return make_reported(workspace, shard, engines, report, reporter)
    except Exception:
        report.num_failed_attempts += 1
        engines.close()
        raise


@task(
    name="publish",
    retries=2,
    retry_delay_seconds=5,
    retry_condition_fn=is_worth_retrying,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def publish_task(workspace: Workspace, plan: Plan, facts: dict[str, Any], claims: Claims) -> Publication:
    """See :func:`pipeline.publication.publish_atlas`."""
    return publish_atlas(workspace, plan, facts, claims)


def publish_in_task(workspace: Workspace, plan: Plan, facts: dict[str, Any], claims: Claims) -> Publication:
    """Publish in a task run of its own."""
    return publish_task(quoted(workspace), quoted(plan), quoted(facts), quoted(claims))


@dataclass
class ShardRuns:
    """Makes shards in task runs of their own, and keeps a row of each for the table."""

    rows: list[dict[str, Any]] = field(default_factory=list)

    def make(
        self, workspace: Workspace, shard: Shard, engines: Engines, report: RunReport, reporter: Reporter
    ) -> StoredShard:
        start = time.monotonic()
        session = quoted((workspace, engines, report, reporter))
        stored = shard_task(shard.layer, shard.seed, shard.units[0], shard.units[-1], quoted(shard), session)
        self.rows.append(
            {
                "layer": shard.layer,
                "seed": shard.seed,
                "units": f"{shard.units[0]} to {shard.units[-1]}",
                "jobs": len(shard.units),
                "dead": stored.counts.get("dead", 0),
                "seconds": round(time.monotonic() - start, 1),
                "shard": f"{stored.key}/{stored.name}",
            }
        )
        return stored
