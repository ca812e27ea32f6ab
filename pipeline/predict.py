"""What a plan will take: time, memory, disk. From the last run where there was one, else from arithmetic."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from engine.footprint import engine_bytes
from engine.host import num_threads
from engine.tuning import Setting
from export.arithmetic import multiply_additions
from export.errors import StoreError
from export.manifest import StepManifest
from export.upstream import upstream
from pipeline.memory import available_memory, format_size
from pipeline.plan import Plan
from pipeline.report import last_rates
from pipeline.workspace import Workspace

FLOP_PER_MULTIPLY_ADDITION = 4
"""Two forward, and as many for the gradient with respect to the input; weights get none."""
SHARE_OF_PEAK = 0.4
"""Of a matrix product's rate that a step reaches on a CPU, roughly."""
SLOWEST_CORE = 3e10
"""Floating-point operations a second that any core of the last ten years does in a matrix product."""
PNG_BYTES_PER_PIXEL = 1.7
WEBP_BYTES_PER_PIXEL = 0.25
"""Of a film."""
SITE_BYTES_PER_JOB = 24_000
"""Pages, data and crops of a unit beside its image."""
MARGIN = 1.1


@dataclass(frozen=True)
class Prediction:
    """What is left to do will take about this.

    Attributes:
        duration_s: with one process.
        memory_bytes: of the largest engine with the fewest lanes, see :func:`engine.footprint.engine_bytes`; what the
            process has anyway is not counted.
        store_bytes: added to the store.
        site_bytes: of the new version of the site.
        basis: ``last run``, ``arithmetic``, or both.
    """

    duration_s: float
    memory_bytes: int
    store_bytes: int
    site_bytes: int
    basis: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def predict(workspace: Workspace, plan: Plan, manifests: Sequence[StepManifest]) -> Prediction:
    """Predict what a plan takes.

    The arithmetic counts every step of the schedule and whole feature maps, so it errs on the long side where jobs stop
    early or a unit sees a small part. Time on another device than the CPU is only known from the last run.

    Args:
        workspace: of the plan.
        plan: what is to be done.
        manifests: of its largest layers, from :func:`pipeline.check.check_plan`.
    """
    rates = last_rates(workspace.out, workspace.builder.name)
    todo = [layer for layer in plan.all_layers if layer.num_todo]
    known, unknown = ([layer for layer in todo if (layer.info.name in rates) == told] for told in (True, False))
    num_steps = workspace.config.ascent.steps
    duration_s = sum(layer.num_todo * rates[layer.info.name] for layer in known)
    if unknown:
        network, generator = workspace.network.model(1).graph, workspace.generator.model(1).graph
        peak = SHARE_OF_PEAK * _matrix_product_rate(workspace.config.run.threads)
        for layer in unknown:
            duration_s += layer.num_todo * num_steps * _flop(network, generator, layer.info.tensor) / peak
    image_bytes = int(PNG_BYTES_PER_PIXEL * workspace.generator.image_px**2)
    film = workspace.film(0) or {"steps": (), "px": 0}
    film_bytes = int(WEBP_BYTES_PER_PIXEL * (len(film["steps"]) + 1) * film["px"] ** 2)
    job_bytes = _stored_bytes(plan) or 4 * workspace.generator.code_dim + image_bytes + film_bytes + 4 * num_steps
    fewest = Setting(workspace.batch, workspace.config.run.lanes or 1)
    basis = [name for name, used in (("last run", known), ("arithmetic", unknown)) if used]
    return Prediction(
        duration_s=round(duration_s, 1),
        memory_bytes=max((engine_bytes(manifest, fewest) for manifest in manifests), default=0),
        store_bytes=int(plan.num_todo * job_bytes),
        site_bytes=int(plan.num_jobs * (job_bytes + SITE_BYTES_PER_JOB)) if plan.num_todo else 0,
        basis=" and ".join(basis) or "nothing to do",
    )


def check_room(workspace: Workspace, prediction: Prediction) -> list[str]:
    """See that there is room for a build before it starts.

    Returns:
        Warnings: where it will be tight.

    Raises:
        StoreError: the disk has less free space than the build needs.
    """
    is_here = not workspace.store.blobs.is_remote
    needed = prediction.site_bytes + (prediction.store_bytes if is_here else 0)
    free = shutil.disk_usage(_existing(workspace.out)).free
    if needed * MARGIN > free:
        raise StoreError(
            f"the build needs about {format_size(needed)} on the disk of {workspace.out}, where {format_size(free)} "
            "are free; free some, or choose another folder with --out"
        )
    available = available_memory()
    if available is not None and prediction.memory_bytes > available:
        return [
            f"the build needs about {format_size(prediction.memory_bytes)} of memory, and {format_size(available)} are "
            "available; a smaller run.batch needs less"
        ]
    return []


def _flop(network: ir.Graph, generator: ir.Graph, tensor: str) -> float:
    """Floating-point operations of one image-step of a layer."""
    value = next(value for node in network for value in node.outputs if value.name == tensor)
    nodes = [*upstream(value), *generator]
    return float(FLOP_PER_MULTIPLY_ADDITION * multiply_additions(nodes))


def _stored_bytes(plan: Plan) -> float | None:
    """Of a job, on the average of what is stored."""
    stored = [shard for layer in plan.all_layers for seed in layer.seeds for shard in seed.stored]
    num_jobs = sum(len(shard.units) for shard in stored)
    return sum(shard.num_bytes for shard in stored) / num_jobs if num_jobs else None


def _matrix_product_rate(threads: int) -> float:
    """Floating-point operations a second of this machine, float32, the best of a few tries; about 0.1 s.

    At least SLOWEST_CORE per core: a machine that is busy now need not be so all night.
    """
    size, best = 512, math.inf
    a = np.ones((size, size), np.float32)
    end = time.monotonic() + 0.1
    while time.monotonic() < end:
        start = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - start)
    return max(2.0 * size**3 / best, SLOWEST_CORE * num_threads({"threads": threads}))


def _existing(folder: Path) -> Path:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder if folder.is_dir() else folder.parent
