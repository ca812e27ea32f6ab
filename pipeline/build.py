"""Building an atlas: plan, shards, table, site. Plain functions; the flow is a shell over them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from pipeline.check import check_layers
from pipeline.config import AtlasConfig
from pipeline.engines import Engines
from pipeline.lock import BuildLock
from pipeline.plan import Plan, make_plan
from pipeline.progress import Reporter
from pipeline.publication import publish_atlas, run_facts
from pipeline.table import remove_leftovers
from pipeline.worker import make_shard
from pipeline.workspace import Workspace, open_workspace


@dataclass(frozen=True)
class BuildReport:
    """What a build did.

    Attributes:
        num_jobs: asked for.
        num_made: run by this build; the others were in the store.
        index: the page to open.
        published: whether table and site were written; False when they were up to date.
        duration_s: of the whole build.
    """

    num_jobs: int
    num_made: int
    index: Path
    published: bool
    duration_s: float


def build(config: AtlasConfig, out: Path, reporter: Reporter) -> BuildReport:
    """Build an atlas, or resume one.

    Args:
        config: what to build.
        out: folder of the store, the table and the site.
        reporter: told of progress.

    Raises:
        InputError: what was asked for is wrong; no job has been run.
        AtlasError: another build is at work in ``out``.
        EngineError: a runtime failed.
    """
    start = time.monotonic()
    workspace = open_workspace(config, out)
    with BuildLock(out):
        plan = prepare(workspace)
        run_shards(workspace, plan, reporter)
        finished = make_plan(workspace) if plan.shards else plan
        facts = run_facts(workspace, plan.num_todo, time.monotonic() - start)
        publication = publish_atlas(workspace, finished, facts)
    return BuildReport(plan.num_jobs, plan.num_todo, publication.index, publication.fresh, time.monotonic() - start)


def prepare(workspace: Workspace) -> Plan:
    """Plan, see that every layer with work to do can be compiled, and clear away what killed builds left.

    Raises:
        InputError: see :func:`pipeline.plan.make_plan` and :func:`pipeline.check.check_layers`.
    """
    plan = make_plan(workspace)
    check_layers(workspace, [layer.info for layer in plan.layers if layer.num_todo])
    remove_leftovers(workspace.out)
    for layer in plan.layers:
        for seed in layer.seeds:
            workspace.store.clean(seed.recipe.key, seed.stored)
    return plan


def run_shards(workspace: Workspace, plan: Plan, reporter: Reporter) -> None:
    """Make every shard of a plan."""
    with reporter, Engines(workspace) as engines:
        reporter.start(plan)
        for shard in plan.shards:
            reporter.begin_shard(shard)
            make_shard(workspace, shard, engines, reporter.record)
            reporter.end_shard(shard)
