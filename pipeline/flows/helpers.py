"""Helpers: runs of the flow ``shards`` on whatever workers are free, sent out again when they crash."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import httpx
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.states import Cancelled
from pydantic import BaseModel, Field

from pipeline.orders import remove_order, write_order
from pipeline.plan import Plan
from pipeline.report import RunReport
from pipeline.workspace import Workspace

log = logging.getLogger(__name__)

LOOK_S = 15.0
"""Time between two looks at the helpers."""
ATTEMPTS = 3
"""How often each helper is sent out."""
NO_ANSWER = (httpx.HTTPError, PrefectException, RuntimeError)
"""What Prefect's client raises while the server is away or busy. Helpers are a convenience: a run goes on without."""


class FanOut(BaseModel):
    """How a run gets help from other workers."""

    helpers: int = Field(
        default=8,
        ge=0,
        le=1000,
        description="Runs sent out for other workers to take up; those that nobody takes are withdrawn. 0 works alone.",
    )
    shards_each: int = Field(
        default=4, ge=1, description="No more helpers are sent out than there are this many shards for each."
    )
    deployment: str = Field(default="shards/helper", min_length=3, description="What is run to help.")


@task(name="dispatch", retries=2, retry_delay_seconds=5, cache_policy=NO_CACHE, persist_result=False)
def dispatch_task(deployment: str, name: str, parameters: dict[str, Any]) -> str | None:
    """Send out one helper; None if there is no such deployment."""
    try:
        run = cast(FlowRun, run_deployment(deployment, parameters=parameters, flow_run_name=name, timeout=0))
    except ObjectNotFound:
        return None
    return str(run.id)


class Helpers:
    """The helpers of one run. Use as a context manager around the work; leaving it withdraws those that wait."""

    def __init__(
        self, workspace: Workspace, plan: Plan, fan_out: FanOut, credentials: str | None, report: RunReport
    ) -> None:
        self._workspace, self._plan, self._fan_out = workspace, plan, fan_out
        self._credentials, self._report = credentials, report
        self._order: str | None = None
        self._runs: dict[int, str] = {}
        self._attempts: dict[int, int] = {}
        self._looked = time.monotonic()

    @property
    def count(self) -> int:
        """How many are sent out."""
        return min(self._fan_out.helpers, len(self._plan.shards) // self._fan_out.shards_each)

    def __enter__(self) -> Helpers:
        if self.count:
            self._order = write_order(self._workspace, self._plan)
            try:
                for part in range(1, self.count + 1):
                    if not self._send(part):
                        break
            except NO_ANSWER as error:
                _warn("no more helpers can be sent out", error)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._order is not None:
            remove_order(self._workspace.store, self._order)
        try:
            self._withdraw()
        except NO_ANSWER as error:  # they will find no order and end at once
            _warn("the helpers that wait cannot be withdrawn", error)

    def tend(self) -> None:
        """Now and then, send out again those that have crashed or failed; not while the server is away."""
        if not self._runs or time.monotonic() - self._looked < LOOK_S:
            return
        try:
            self._look_after()
        except NO_ANSWER as error:
            _warn("the helpers cannot be looked after", error)
        self._looked = time.monotonic()

    def _look_after(self) -> None:
        logger = get_run_logger()
        with get_client(sync_client=True) as client:
            states = {part: client.read_flow_run(UUID(run)).state_type for part, run in self._runs.items()}
        for part, state in states.items():
            if state is None or state.value not in ("CRASHED", "FAILED"):
                continue
            if self._attempts[part] < ATTEMPTS:
                logger.warning("helper %d has %s; sending it out again", part, state.value.lower())
                if self._send(part):
                    self._report.num_helper_retries += 1
                    continue
            else:
                logger.warning("helper %d has %s %d times; going on without it", part, state.value.lower(), ATTEMPTS)
            del self._runs[part]

    def _send(self, part: int) -> bool:
        name = f"{self._workspace.config.name} helper {part}"
        parameters = {
            "store": _absolute(self._workspace),
            "order": self._order,
            "part": part,
            "parts": self.count + 1,
            "credentials": self._credentials,
        }
        run = dispatch_task(self._fan_out.deployment, name, parameters)
        if run is None:
            get_run_logger().warning(
                "there is no deployment %s, so this run works alone; deploy deploy/prefect.yaml",
                self._fan_out.deployment,
            )
            return False
        self._runs[part] = run
        self._attempts[part] = self._attempts.get(part, 0) + 1
        return True

    def _withdraw(self) -> None:
        """Cancel what no worker has taken up."""
        if not self._runs:
            return
        with get_client(sync_client=True) as client:
            for run in self._runs.values():
                state = client.read_flow_run(UUID(run)).state_type
                if state is not None and state.value in ("SCHEDULED", "PENDING"):
                    client.set_flow_run_state(UUID(run), Cancelled(message="the work is done"), force=True)


def _warn(what: str, error: Exception) -> None:
    log.warning("%s (%s); going on", what, error or type(error).__name__)


def _absolute(workspace: Workspace) -> str:
    url = workspace.store.url
    return url if "://" in url else str(Path(url).resolve())
