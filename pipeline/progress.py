"""Progress of a build: a live table on a terminal, plain lines in a log."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column

from engine.loop import JobResult
from pipeline.plan import LayerPlan, Plan, Shard
from pipeline.store import StoredShard

LINE_INTERVAL_S = 10.0
"""Least time between two lines of one layer in a log."""
BURST_S = 0.2
"""Results that follow each other within this time count as one burst: a batch often ends all at once."""


class Reporter(Protocol):
    """Told of a build's progress, from one thread. Use as a context manager around the work."""

    def __enter__(self) -> Reporter: ...

    def __exit__(self, *exc: object) -> None: ...

    def start(self, plan: Plan) -> None:
        """The work begins."""
        ...

    def note(self, text: str) -> None:
        """Something that keeps the jobs waiting has begun."""
        ...

    def begin_shard(self, shard: Shard) -> None:
        """A shard's engine is being built or its jobs begin."""
        ...

    def record(self, result: JobResult, target: str) -> None:
        """A job has ended; ``target`` is the tensor that was maximised."""
        ...

    def end_shard(self, shard: Shard) -> None:
        """A shard is in the store."""
        ...

    def found_shard(self, shard: Shard, stored: StoredShard) -> None:
        """A shard is in the store; another process made it meanwhile."""
        ...


@dataclass
class Tally:
    """Where a layer stands.

    Attributes:
        total: jobs asked for.
        done: in the store or just ended.
        made: ended in this build.
        dead: of those made.
        activation_sum: over those made that are not dead.
        started: clock at the layer's first shard, in seconds.
    """

    total: int
    done: int
    made: int = 0
    dead: int = 0
    activation_sum: float = 0.0
    started: float | None = None

    @classmethod
    def of(cls, layer: LayerPlan) -> Tally:
        return cls(layer.num_jobs, layer.num_jobs - layer.num_todo)

    def add(self, result: JobResult) -> None:
        self.done += 1
        self.made += 1
        if result.status == "dead":
            self.dead += 1
        elif math.isfinite(result.activation):
            self.activation_sum += float(result.activation)

    def rate(self, now: float) -> float:
        """Units per second of this build; 0 while unknown."""
        elapsed = now - self.started if self.started is not None else 0.0
        return self.made / elapsed if elapsed > 0 else 0.0

    def mean(self) -> float | None:
        live = self.made - self.dead
        return self.activation_sum / live if live else None

    def cells(self, now: float) -> dict[str, Any]:
        """``rate``, ``left``, ``mean`` and ``dead`` as short texts."""
        rate, mean = self.rate(now), self.mean()
        return {
            "rate": f"{rate:.3g}/s" if rate else "",
            "left": format_duration((self.total - self.done) / rate) if rate else "",
            "mean": f"mean {mean:.3g}" if mean is not None else "",
            "dead": f"{self.dead} dead",
        }


class LineReporter:
    """Writes lines: at the start, at most one per layer every ``interval_s``, and one when a layer is complete.

    A line waits for the end of a burst of results, in whose midst rates would mislead.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        interval_s: float = LINE_INTERVAL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write = write
        self._interval_s = interval_s
        self._clock = clock
        self._tallies: dict[str, Tally] = {}
        self._layer = ""
        self._written = self._recorded = -math.inf

    def __enter__(self) -> LineReporter:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def start(self, plan: Plan) -> None:
        self._tallies = {layer.info.name: Tally.of(layer) for layer in plan.all_layers}
        self._write(opening(plan))

    def note(self, text: str) -> None:
        self._write(text)

    def begin_shard(self, shard: Shard) -> None:
        self._layer, tally = shard.layer, self._tallies[shard.layer]
        if tally.started is None:
            tally.started = self._written = self._recorded = self._clock()

    def record(self, result: JobResult, target: str) -> None:
        tally, now = self._tallies[self._layer], self._clock()
        if self._recorded - self._written >= self._interval_s and now - self._recorded > BURST_S:
            self._write_line(self._recorded)
        tally.add(result)
        self._recorded = now

    def end_shard(self, shard: Shard) -> None:
        tally = self._tallies[shard.layer]
        if tally.done == tally.total or self._recorded - self._written >= self._interval_s:
            self._write_line(self._recorded)

    def found_shard(self, shard: Shard, stored: StoredShard) -> None:
        tally = self._tallies[shard.layer]
        tally.done += len(stored.units)
        if tally.done == tally.total:
            self._write(f"{shard.layer}: {tally.done}/{tally.total} units, others helped")

    def num_left(self, layer: str) -> int:
        """Jobs of a layer that are not in the store yet."""
        tally = self._tallies[layer]
        return tally.total - tally.done

    def _write_line(self, now: float) -> None:
        tally = self._tallies[self._layer]
        cells = [cell for cell in tally.cells(now).values() if cell]
        self._write(f"{self._layer}: {tally.done}/{tally.total} units, {', '.join(cells)}")
        self._written = now


class LiveReporter:
    """One bar per layer, redrawn in place; fits 80 columns."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._progress = Progress(
            TextColumn("{task.description}", table_column=Column(width=18, no_wrap=True, overflow="ellipsis")),
            BarColumn(bar_width=10),
            TextColumn("{task.completed:.0f}/{task.total:.0f}", justify="right", table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[rate]}", justify="right", table_column=Column(no_wrap=True, min_width=6)),
            TextColumn("{task.fields[left]}", justify="right", table_column=Column(no_wrap=True, min_width=5)),
            TextColumn("{task.fields[mean]}", table_column=Column(no_wrap=True, min_width=9)),
            TextColumn("{task.fields[dead]}", justify="right", table_column=Column(no_wrap=True)),
            console=console,
            refresh_per_second=4,
        )
        self._tallies: dict[str, Tally] = {}
        self._tasks: dict[str, TaskID] = {}
        self._layer = ""

    def __enter__(self) -> LiveReporter:
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()

    def start(self, plan: Plan) -> None:
        self._console.print(opening(plan))
        if not plan.shards:
            return
        for layer in plan.all_layers:
            name, tally = layer.info.name, Tally.of(layer)
            self._tallies[name] = tally
            blank: dict[str, Any] = dict.fromkeys(("rate", "left", "mean", "dead"), "")
            self._tasks[name] = self._progress.add_task(name, total=tally.total, completed=tally.done, **blank)
        self._progress.start()

    def note(self, text: str) -> None:
        self._progress.console.print(text, soft_wrap=True, highlight=False, markup=False)

    def begin_shard(self, shard: Shard) -> None:
        self._layer, tally = shard.layer, self._tallies[shard.layer]
        if tally.started is None:
            tally.started = self._clock()

    def record(self, result: JobResult, target: str) -> None:
        tally = self._tallies[self._layer]
        tally.add(result)
        self._progress.update(self._tasks[self._layer], completed=tally.done, **tally.cells(self._clock()))

    def end_shard(self, shard: Shard) -> None:
        pass

    def found_shard(self, shard: Shard, stored: StoredShard) -> None:
        tally = self._tallies[shard.layer]
        tally.done += len(stored.units)
        self._progress.update(self._tasks[shard.layer], completed=tally.done)


class SilentReporter:
    """Tells nobody."""

    def __enter__(self) -> SilentReporter:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def start(self, plan: Plan) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def begin_shard(self, shard: Shard) -> None:
        pass

    def record(self, result: JobResult, target: str) -> None:
        pass

    def end_shard(self, shard: Shard) -> None:
        pass

    def found_shard(self, shard: Shard, stored: StoredShard) -> None:
        pass


def make_reporter(console: Console) -> Reporter:
    """Live bars on a terminal, lines elsewhere."""
    if console.is_terminal:
        return LiveReporter(console)
    return LineReporter(lambda line: console.print(line, soft_wrap=True, highlight=False, markup=False))


def opening(plan: Plan) -> str:
    """The first line of a build."""
    if not plan.num_todo:
        return f"nothing to do: {plan.num_jobs} of {plan.num_jobs} jobs are already in the store"
    have = f", {plan.num_done} are already in the store" if plan.num_done else ""
    return f"{plan.num_todo} of {plan.num_jobs} jobs to run in {len(plan.shards)} shards{have}"


def format_duration(seconds: float) -> str:
    """``m:ss`` or ``h:mm:ss``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
