"""Progress of a run: lines in its log, and a bar among its artifacts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from engine.loop import JobResult
from pipeline.plan import Plan, Shard
from pipeline.progress import LineReporter
from pipeline.store import StoredShard

INTERVAL_S = 5.0
"""Least time between two changes of the bar."""


class RunReporter:
    """See :class:`pipeline.progress.Reporter`. Without a plan, as in a helper, it tells of nothing."""

    def __init__(self, write: Callable[[str], None], key: str = "") -> None:
        self._lines = LineReporter(write)
        self._key = key
        self._total = self._done = 0
        self._bar: Any = None
        self._told = 0.0

    def __enter__(self) -> RunReporter:
        return self

    def __exit__(self, *exc: object) -> None:
        self._tell(force=True)

    def start(self, plan: Plan) -> None:
        self._lines.start(plan)
        self._total, self._done = plan.num_jobs, plan.num_done
        if self._key:
            self._bar = create_progress_artifact(
                self._progress, key=self._key, description=f"Jobs of {self._total} that are in the store"
            )

    def begin_shard(self, shard: Shard) -> None:
        if self._total:
            self._lines.begin_shard(shard)

    def record(self, result: JobResult, target: str) -> None:
        if self._total:
            self._lines.record(result, target)

    def end_shard(self, shard: Shard) -> None:
        if self._total:
            self._lines.end_shard(shard)
        self._done += len(shard.units)
        self._tell()

    def found_shard(self, shard: Shard, stored: StoredShard) -> None:
        if self._total:
            self._lines.found_shard(shard, stored)
        self._done += len(stored.units)
        self._tell()

    @property
    def _progress(self) -> float:
        return round(100.0 * self._done / self._total, 1) if self._total else 100.0

    def _tell(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if self._bar is not None and (force or now - self._told >= INTERVAL_S):
            update_progress_artifact(self._bar, self._progress)
            self._told = now
