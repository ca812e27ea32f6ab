"""The run report: what a run did, how fast, and how it ended, as JSON. Written however the run ends.

``OUT/report.json`` is that of the last run; a published version keeps a copy::

    {"atlas": ..., "outcome": "published" | "up to date" | "failed", "error": null, "started": ..., "duration_s": ...,
     "host": ..., "runtime": ..., "precision": ..., "batch": ..., "version": ID,
     "jobs": {"asked": N, "made": N, "found": N, "dead": N}, "shards": {"made": N, "found": N, "damaged": N},
     "units_per_s": ..., "store_retries": N, "failed_attempts": N, "helper_retries": N, "waited_s": ...,
     "peak_memory_bytes": ...,
     "layers": {NAME: {"jobs", "made", "dead", "mean_activation", "seconds", "units_per_s", "image_steps_per_s"}}}

``made`` is by this process in this run, ``found`` was made by others meanwhile; ``mean_activation`` is over the units
that are not dead, of those made; ``image_steps_per_s`` counts the steps of results, not those of attempts that lost.
"""

from __future__ import annotations

import datetime
import json
import math
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.loop import JobResult
from pipeline.memory import peak_memory_bytes
from pipeline.plan import Plan, Shard
from pipeline.store import StoredShard
from pipeline.temporary import replace_file
from pipeline.work import WorkDone
from pipeline.workspace import Workspace

REPORT = "report.json"


@dataclass
class LayerTally:
    """What this run made of one layer."""

    made: int = 0
    dead: int = 0
    steps: int = 0
    seconds: float = 0.0
    activation_sum: float = 0.0

    def to_dict(self, num_jobs: int) -> dict[str, Any]:
        live = self.made - self.dead
        return {
            "jobs": num_jobs,
            "made": self.made,
            "dead": self.dead,
            "mean_activation": round(self.activation_sum / live, 6) if live else None,
            "seconds": round(self.seconds, 3),
            "units_per_s": round(self.made / self.seconds, 4) if self.seconds else None,
            "image_steps_per_s": round(self.steps / self.seconds, 3) if self.seconds else None,
        }


@dataclass
class RunReport:
    """Collects a run's figures."""

    workspace: Workspace
    started: str = field(default_factory=lambda: datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"))
    layers: dict[str, LayerTally] = field(default_factory=dict)
    num_jobs: dict[str, int] = field(default_factory=dict)
    num_found: int = 0
    num_shards_made: int = 0
    num_shards_found: int = 0
    num_damaged: int = 0
    num_failed_attempts: int = 0
    num_helper_retries: int = 0
    waited_s: float = 0.0
    outcome: str = "failed"
    error: str | None = None
    version: str | None = None
    _start: float = field(default_factory=time.monotonic)

    def plan(self, plan: Plan) -> None:
        """Tell what was asked for."""
        self.num_jobs = {layer.info.name: layer.num_jobs for layer in plan.all_layers}

    def record(self, layer: str, result: JobResult) -> None:
        """Tell of a job that has ended."""
        tally = self.layers.setdefault(layer, LayerTally())
        tally.made += 1
        tally.steps += result.steps
        if result.status == "dead":
            tally.dead += 1
        elif math.isfinite(result.activation):
            tally.activation_sum += float(result.activation)

    def done(self, done: WorkDone) -> None:
        """Tell of a list of shards that has been worked off."""
        for shard, stored in done.found:
            self.found(shard, stored)
        self.waited_s += done.waited_s

    def shard(self, shard: Shard, seconds: float) -> None:
        """Tell of a shard that this process has made."""
        self.num_shards_made += 1
        self.layers.setdefault(shard.layer, LayerTally()).seconds += seconds

    def found(self, shard: Shard, stored: StoredShard) -> None:
        self.num_shards_found += 1
        self.num_found += len(stored.units)

    @property
    def num_made(self) -> int:
        return sum(tally.made for tally in self.layers.values())

    @property
    def duration_s(self) -> float:
        return time.monotonic() - self._start

    def layer_rows(self) -> dict[str, dict[str, Any]]:
        """What has been made of each layer so far."""
        return {name: self.layers.get(name, LayerTally()).to_dict(num) for name, num in self.num_jobs.items()}

    def to_dict(self) -> dict[str, Any]:
        config = self.workspace.config
        seconds = sum(tally.seconds for tally in self.layers.values())
        return {
            "atlas": config.name,
            "outcome": self.outcome,
            "error": self.error,
            "started": self.started,
            "duration_s": round(self.duration_s, 3),
            "host": socket.gethostname(),
            "runtime": self.workspace.builder.name,
            "runtime_version": self.workspace.runtime_version,
            "precision": config.run.precision,
            "batch": self.workspace.batch,
            "version": self.version,
            "jobs": {
                "asked": sum(self.num_jobs.values()),
                "made": self.num_made,
                "found": self.num_found,
                "dead": sum(tally.dead for tally in self.layers.values()),
            },
            "shards": {
                "made": self.num_shards_made,
                "found": self.num_shards_found,
                "damaged": self.num_damaged,
            },
            "units_per_s": round(self.num_made / seconds, 4) if seconds else None,
            "store_retries": self.workspace.store.blobs.num_retries,
            "failed_attempts": self.num_failed_attempts,
            "helper_retries": self.num_helper_retries,
            "waited_s": round(self.waited_s, 1),
            "peak_memory_bytes": peak_memory_bytes(),
            "layers": self.layer_rows(),
        }

    def to_json(self) -> bytes:
        return (json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n").encode()

    def write(self, out: Path) -> None:
        """Write ``report.json``, beside the site that is shown if this run published it too.

        Raises:
            StoreError: the folder cannot be written.
        """
        data = self.to_json()
        replace_file(out / REPORT, data)
        if self.outcome == "published":
            replace_file(out / "current" / REPORT, data)


def last_rates(out: Path, runtime: str) -> dict[str, float]:
    """Seconds per job of each layer in the last runs of a folder, by the same runtime; empty where nothing is known."""
    rates: dict[str, float] = {}
    for path in [*sorted(out.glob(f"versions/*/{REPORT}")), out / REPORT]:
        try:
            report = json.loads(path.read_text())
            layers = report["layers"].items() if report["runtime"] == runtime else ()
            rates |= {name: 1.0 / row["units_per_s"] for name, row in layers if row["units_per_s"]}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return rates
