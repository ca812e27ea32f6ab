"""The helper flow ``shards``: makes shards of an atlas on whatever worker is free."""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow, get_run_logger
from pydantic import Field

from pipeline.build import reported_quietly
from pipeline.claims import Claims
from pipeline.engines import Engines
from pipeline.flows.reporter import RunReporter
from pipeline.flows.tasks import ShardRuns, let_pipeline_speak, store_options
from pipeline.gate import device_gate
from pipeline.orders import open_order, read_order
from pipeline.store import Store
from pipeline.work import work


@flow(name="shards", persist_result=False)
def shards(
    store: Annotated[str, Field(min_length=1)],
    order: Annotated[str, Field(min_length=1)],
    part: Annotated[int, Field(ge=0)] = 0,
    parts: Annotated[int, Field(ge=1)] = 1,
    credentials: str | None = None,
) -> dict[str, Any]:
    """Make shards of an order until none is left that nobody makes. Started by the flow ``atlas``.

    Args:
        store: URL of the store the order is in.
        order: its id.
        part: which helper this is; each begins at another place.
        parts: the helpers and the run they help.
        credentials: Secret block with options of the store's file system.

    Returns:
        ``{"made": shards, "jobs": N, "found": made by others}``.
    """
    let_pipeline_speak()
    logger, options = get_run_logger(), store_options(credentials)
    place = Store(store, options)
    wanted = read_order(place, order)
    if wanted is None:
        logger.info(
            "order %s is not in %s: it has been finished, or this machine does not see that folder", order, store
        )
        return {"made": 0, "jobs": 0, "found": 0}
    workspace = open_order(place, wanted, options)
    start = len(wanted.shards) * part // parts
    todo = [*wanted.shards[start:], *wanted.shards[:start]]
    runs, reporter, report = ShardRuns(), RunReporter(logger.info), reported_quietly(workspace)
    with Claims(place.blobs) as claims, device_gate(workspace.builder), Engines(workspace, reporter.note) as engines:
        done = work(
            place,
            todo,
            claims,
            lambda shard: runs.make(workspace, shard, engines, report, reporter),
            reporter,
            wait=False,
        )
    return {"made": len(done.made), "jobs": done.num_jobs, "found": len(done.found)}
