"""Does a unit of a large atlas cost what one of a small atlas costs, and how much of it is not the engine?

    python -m tests.bench.scaling [--jobs 96 --jobs 960 --jobs 9600]

Builds atlases of one early layer of the demo network, of more and more seeds, with a handful of steps, so that all that
comes with a job (start codes, polls, decoding, PNGs, shards) weighs far more than in an atlas of 60 steps. The time
beside the engine is that in which no step runs and no image is decoded; it is also given as a share of an atlas of 60
steps. The site is left out: ``make bench-site`` measures it.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from engine.host import HostRunner
from engine.loop import JobResult
from pipeline.build import make_reported, prepare, reported_quietly, run_shards
from pipeline.claims import Claims
from pipeline.config import parse_config
from pipeline.plan import Plan, Shard
from pipeline.store import StoredShard
from pipeline.workspace import open_workspace

LAYER, NUM_UNITS = "_blocks.1", 24
STEPS = 5
ATLAS_STEPS = 60


@dataclass
class Stopwatch:
    """Time inside the engine, by what it did."""

    step_s: float = 0.0
    decode_s: float = 0.0

    def __enter__(self) -> Stopwatch:
        self._step, self._decode = HostRunner.step, HostRunner.decode

        def step(runner: HostRunner, count: int) -> None:
            begun = time.perf_counter()
            self._step(runner, count)
            self.step_s += time.perf_counter() - begun

        def decode(runner: HostRunner, codes: Any) -> Any:
            begun = time.perf_counter()
            images = self._decode(runner, codes)
            self.decode_s += time.perf_counter() - begun
            return images

        HostRunner.step, HostRunner.decode = step, decode  # type: ignore[method-assign]
        return self

    def __exit__(self, *exc: object) -> None:
        HostRunner.step, HostRunner.decode = self._step, self._decode  # type: ignore[method-assign]


class FirstRecord:
    """A reporter that remembers when the first job ended."""

    at: float | None = None

    def __enter__(self) -> FirstRecord:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def start(self, plan: Plan) -> None: ...

    def note(self, text: str) -> None: ...

    def begin_shard(self, shard: Shard) -> None: ...

    def record(self, result: JobResult, target: str) -> None:
        self.at = self.at or time.perf_counter()

    def end_shard(self, shard: Shard) -> None: ...

    def found_shard(self, shard: Shard, stored: StoredShard) -> None: ...


def measure(num_jobs: int, folder: Path) -> dict[str, float]:
    """Build one atlas in a folder of its own; seconds by what they were spent on."""
    begun = time.perf_counter()
    config = parse_config(
        {
            "name": f"scaling-{num_jobs}",
            "network": {"source": "bundled:lite0"},
            "ascent": {"steps": STEPS},
            "run": {"batch": 16, "poll_every": STEPS},
            "layers": [{"name": LAYER, "seeds": num_jobs // NUM_UNITS}],
        },
        "of this benchmark",
    )
    workspace = open_workspace(config, folder)
    reporter = FirstRecord()
    with Stopwatch() as watch, Claims(workspace.store.blobs) as claims:
        plan = prepare(workspace)
        planned = time.perf_counter()
        run_shards(
            workspace, plan, claims, reported_quietly(workspace), reporter, make_reported, meanwhile=lambda: None
        )
        ended = time.perf_counter()
    assert reporter.at is not None
    return {
        "jobs": plan.num_jobs,
        "plan_s": planned - begun,
        "first_s": reporter.at - begun,
        "all_s": ended - begun,
        "step_s": watch.step_s,
        "decode_s": watch.decode_s,
        "beside_s": ended - reporter.at - (watch.step_s + watch.decode_s) * (1 - 1 / max(1, plan.num_jobs)),
    }


@click.command()
@click.option("--jobs", "sizes", type=int, multiple=True, default=(96, 960, 9600))
def main(sizes: tuple[int, ...]) -> None:
    """Measure and print; the first, which tunes the engine and compares it with the reference, is not counted."""
    with tempfile.TemporaryDirectory() as folder:
        measure(NUM_UNITS, Path(folder) / "first")
        click.echo("  jobs  first unit   ms a job: all  steps  decode  beside   beside, of an atlas of 60 steps")
        for size in sizes:
            found = measure(size, Path(folder) / str(size))
            jobs = found["jobs"]
            each = {name: 1000 * found[name] / jobs for name in ("all_s", "step_s", "decode_s", "beside_s")}
            whole = each["step_s"] * ATLAS_STEPS / STEPS + each["decode_s"] + each["beside_s"]
            click.echo(
                f"{jobs:6.0f} {found['first_s']:9.1f} s {each['all_s']:15.1f} {each['step_s']:6.1f} "
                f"{each['decode_s']:7.1f} {each['beside_s']:7.1f} {100 * each['beside_s'] / whole:20.1f} %"
            )


if __name__ == "__main__":
    main()
