"""Progress of a run while it is at work: lines in its log; a bar, a table and a preview among its artifacts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from engine.loop import JobResult
from pipeline.flows.artifacts import leave, leave_layers, leave_preview
from pipeline.flows.preview import Preview
from pipeline.plan import Plan, Shard
from pipeline.progress import LineReporter
from pipeline.report import RunReport
from pipeline.store import StoredShard

BAR_S = 5.0
"""Least time between two changes of the bar."""
TABLE_S = 60.0
"""Least time between two tables and previews within a layer; at a layer's end there is one of each anyway."""


class RunReporter:
    """See :class:`pipeline.progress.Reporter`. Without a report, as in a helper, it tells of notes alone.

    Args:
        write: writes a line of the log.
        key: beginning of the artifacts' keys.
        report: what the table says; the run's own.
    """

    def __init__(self, write: Callable[[str], None], key: str = "", report: RunReport | None = None) -> None:
        self._lines = LineReporter(write)
        self._key, self._report = key, report
        self._total = self._done = 0
        self._bar: Any = None
        self._preview = Preview()
        self._bar_told = self._table_told = 0.0

    def __enter__(self) -> RunReporter:
        return self

    def __exit__(self, *exc: object) -> None:
        self._tell(force=True)

    def start(self, plan: Plan) -> None:
        self._lines.start(plan)
        self._total, self._done = plan.num_jobs, plan.num_done
        self._table_told = time.monotonic()
        if self._bar is None:
            leave(self._begin_bar)

    def note(self, text: str) -> None:
        self._lines.note(text)

    def begin_shard(self, shard: Shard) -> None:
        if self._report is not None:
            self._lines.begin_shard(shard)
            self._preview.begin(shard.layer)

    def record(self, result: JobResult, target: str) -> None:
        if self._report is not None:
            self._lines.record(result, target)
            self._preview.add(result)

    def end_shard(self, shard: Shard) -> None:
        if self._report is not None:
            self._lines.end_shard(shard)
            self._done += len(shard.units)
            self._tell(layer=shard.layer)

    def found_shard(self, shard: Shard, stored: StoredShard) -> None:
        if self._report is not None:
            self._lines.found_shard(shard, stored)
            self._done += len(stored.units)
            self._tell(layer=shard.layer)

    @property
    def _progress(self) -> float:
        return round(100.0 * self._done / self._total, 1) if self._total else 100.0

    def _begin_bar(self) -> None:
        description = f"Jobs of {self._total} that are in the store"
        self._bar = create_progress_artifact(self._progress, key=f"{self._key}-progress", description=description)

    def _tell(self, *, layer: str = "", force: bool = False) -> None:
        now = time.monotonic()
        if self._bar is not None and (force or now - self._bar_told >= BAR_S):
            leave(lambda: update_progress_artifact(self._bar, self._progress))
            self._bar_told = now
        is_complete = bool(layer) and not self._lines.num_left(layer)
        if self._report is not None and (force or is_complete or now - self._table_told >= TABLE_S):
            report = self._report
            leave(lambda: leave_layers(self._key, report))
            leave(lambda: leave_preview(self._key, self._preview))
            self._table_told = now
