"""Building an atlas: plan, shards, table, site. Plain functions; the flow is a shell over them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.errors import AtlasError
from pipeline.beside import other_atlases
from pipeline.check import check_plan
from pipeline.claims import Claims
from pipeline.config import AtlasConfig
from pipeline.engines import Engines
from pipeline.gate import device_gate
from pipeline.plan import Plan, Shard, make_plan
from pipeline.predict import check_room, predict
from pipeline.progress import Reporter
from pipeline.publication import Publication, publish_atlas, run_facts
from pipeline.report import RunReport
from pipeline.retention import prune
from pipeline.store import DamagedShardError, StoredShard
from pipeline.temporary import remove_leftovers
from pipeline.versions import check_folder
from pipeline.work import work
from pipeline.worker import make_shard
from pipeline.workspace import Workspace, open_workspace

log = logging.getLogger(__name__)

REPAIRS = 3
"""How often a build makes damaged shards again before it gives up on the store."""

MakeWith = Callable[[Workspace, Shard, Engines, RunReport, Reporter], StoredShard]
Publish = Callable[[Workspace, Plan, dict[str, Any], Claims], Publication]


@dataclass(frozen=True)
class BuildReport:
    """What a build did.

    Attributes:
        num_jobs: asked for.
        num_made: run by this build; the others were in the store, or made by others.
        index: the page to open.
        published: whether table and site were written; False when they were up to date.
        duration_s: of the whole build.
    """

    num_jobs: int
    num_made: int
    index: Path
    published: bool
    duration_s: float


def build(
    config: AtlasConfig, out: Path, reporter: Reporter, store_options: Mapping[str, Any] | None = None
) -> BuildReport:
    """Build an atlas, or resume one. Others may build the same at the same time: they share the work.

    Args:
        config: what to build.
        out: folder of the table and the site, and of the store unless that is elsewhere.
        reporter: told of progress.
        store_options: for the store's file system, see :func:`pipeline.workspace.open_workspace`.

    Raises:
        InputError: what was asked for is wrong; no job has been run.
        EngineError: a runtime failed.
        StoreUnavailableError: the store is full or away; what is done is kept.
    """
    check_folder(out)
    workspace = open_workspace(config, out, store_options)
    with Claims(workspace.store.blobs) as claims, reported(workspace) as report:
        plan, publication = finish(workspace, claims, report, reporter, prepare(workspace))
    return BuildReport(plan.num_jobs, report.num_made, publication.index, publication.fresh, report.duration_s)


def reported_quietly(workspace: Workspace) -> RunReport:
    """A run report that is kept to itself: a helper's, which has no folder."""
    return RunReport(workspace)


@contextmanager
def reported(workspace: Workspace) -> Iterator[RunReport]:
    """A run report that is written however the block ends."""
    report = RunReport(workspace)
    try:
        yield report
    except BaseException as error:
        report.error = str(error) or type(error).__name__
        try:
            report.write(workspace.out)
        except AtlasError:
            log.warning("the run report cannot be written to %s", workspace.out)
        raise
    report.write(workspace.out)


def prepare(workspace: Workspace) -> Plan:
    """Plan, see that every layer with work to do can be compiled and has room, and clear away what killed builds left.

    Raises:
        InputError: see :func:`pipeline.plan.make_plan`, :func:`pipeline.check.check_plan`,
            :func:`pipeline.predict.check_room` and :func:`pipeline.beside.other_atlases`.
    """
    other_atlases(workspace.config, workspace.out)  # raises where one is not there
    plan = _settled_plan(workspace)
    for warning in check_room(workspace, predict(workspace, plan, check_plan(workspace, plan))):
        log.warning(warning)
    remove_leftovers(workspace.out)
    for layer in plan.all_layers:
        for seed in layer.seeds:
            workspace.store.clean(seed.recipe.key, seed.stored)
    return plan


def finish(
    workspace: Workspace,
    claims: Claims,
    report: RunReport,
    reporter: Reporter,
    plan: Plan,
    *,
    make: MakeWith | None = None,
    publish: Publish = publish_atlas,
    meanwhile: Callable[[], None] = lambda: None,
) -> tuple[Plan, Publication]:
    """Make what a plan lacks and publish it; shards that turn out to be damaged are made again.

    Args:
        workspace: of the plan.
        claims: of this process.
        report: collects figures.
        reporter: told of progress.
        plan: from :func:`prepare`.
        make: makes one shard, :func:`make_reported` by default.
        publish: publishes, :func:`pipeline.publication.publish_atlas` by default.
        meanwhile: called before each shard and while others are waited for.

    Returns:
        The plan with everything done, and what was published.
    """
    for attempt in range(REPAIRS + 1):
        report.plan(plan)
        run_shards(workspace, plan, claims, report, reporter, make or make_reported, meanwhile)
        finished = make_plan(workspace, probe=False) if plan.shards else plan
        if finished.num_todo and attempt < REPAIRS:
            plan = finished  # damaged since it was made, or removed by others
            continue
        try:
            facts = run_facts(workspace, report.num_made, report.duration_s)
            publication = publish(workspace, finished, facts, claims)
        except DamagedShardError as error:
            log.warning("%s", error)
            workspace.store.discard(error.shard)
            report.num_damaged += 1
            plan = make_plan(workspace, probe=False)
            if attempt == REPAIRS:
                raise
            continue
        report.outcome = "published" if publication.fresh else "up to date"
        report.version = publication.version.name
        if publication.fresh:
            prune(workspace.store, workspace.config.store.keep_days)
        return finished, publication
    raise AssertionError("unreachable")


def run_shards(
    workspace: Workspace,
    plan: Plan,
    claims: Claims,
    report: RunReport,
    reporter: Reporter,
    make: MakeWith,
    meanwhile: Callable[[], None],
) -> None:
    """Make every shard of a plan that others do not make."""
    with reporter, device_gate(workspace.builder), Engines(workspace, reporter.note) as engines:
        reporter.start(plan)
        done = work(
            workspace.store,
            plan.shards,
            claims,
            lambda shard: make(workspace, shard, engines, report, reporter),
            reporter,
            meanwhile=meanwhile,
        )
        report.done(done)


def make_reported(
    workspace: Workspace, shard: Shard, engines: Engines, report: RunReport, reporter: Reporter
) -> StoredShard:
    """Make a shard; its jobs are told to the report and the reporter.

    Raises:
        AtlasError: as :func:`pipeline.worker.make_shard`; the message names the shard.
    """
    log.info("making %s", shard)
    start = time.monotonic()

    def record(result: Any, target: str) -> None:
        report.record(shard.layer, result)
        reporter.record(result, target)

    try:
        stored = make_shard(workspace, shard, engines, record)
    except AtlasError as error:
        error.args = (f"{shard}: {error}",)
        raise
    log.info("stored %s", shard)
    report.shard(shard, time.monotonic() - start)
    return stored


def _settled_plan(workspace: Workspace) -> Plan:
    """A plan that has decided where jobs start; start codes that are found damaged no longer count."""
    for _ in range(REPAIRS):
        try:
            return make_plan(workspace, settled=True)
        except DamagedShardError as error:
            log.warning("%s", error)
    return make_plan(workspace, settled=True)
