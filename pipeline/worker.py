"""The worker: makes one shard. Runs the jobs, retries dead ones, stores the records."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from engine.loop import JobResult, run_jobs
from engine.protocol import Runner
from engine.slots import Job
from engine.start import start_code
from export.manifest import Box, StepManifest
from export.network import LayerInfo
from pipeline.engines import Engines
from pipeline.films import make_film
from pipeline.plan import Shard
from pipeline.records import Record
from pipeline.store import StoredShard
from pipeline.warm import Codes
from pipeline.workspace import Workspace

NUM_ENCODERS = 2
"""Threads that encode pictures while the engine runs."""

OnRecord = Callable[[JobResult, str], None]
"""Called with a job's result and the tensor that was maximised, once per job."""


def make_shard(
    workspace: Workspace, shard: Shard, engines: Engines, on_record: OnRecord = lambda result, target: None
) -> StoredShard:
    """Run a shard's jobs and store them.

    A unit whose gradient vanishes everywhere it looked is run again on the layer's pre-activation, if there is one.

    Args:
        workspace: of the plan the shard is from.
        shard: what to make.
        engines: kept from shard to shard.
        on_record: progress; called from this thread.

    Raises:
        ModelError: the layer cannot be compiled.
        EngineError: the runtime failed.
        StoreError: the shard cannot be written.
    """
    info = workspace.network.layer(shard.layer)
    recipe = workspace.recipe(info, shard.seed).with_start(shard.start)
    codes = engines.start_codes(shard.start)
    jobs = [Job(unit, shard.seed) for unit in shard.units]
    manifest = engines.runner(shard.layer, pre_activation=False).manifest
    film = recipe.film or {"steps": (), "px": 0}
    field, px = manifest.receptive_field, int(film["px"])
    with ThreadPoolExecutor(NUM_ENCODERS, thread_name_prefix="png") as pool:
        pending: list[tuple[JobResult, str, tuple[int, ...], Future[_Pictures]]] = []

        def take(result: JobResult, target: str) -> None:
            pictures = pool.submit(_encode, result, field, px)
            steps = (*(frame.step for frame in result.frames), result.steps) if result.frames else ()
            pending.append((replace(result, image=np.empty((0, 0, 3), np.uint8), frames=()), target, steps, pictures))
            on_record(result, target)

        run_units(workspace, info, jobs, engines, take, codes, tuple(film["steps"]))
        records = [_record(result, target, pictures.result(), steps) for result, target, steps, pictures in pending]
    facts = layer_facts(manifest)
    workspace.store.write_recipe(recipe)
    return workspace.store.write_shard(recipe.key, records, facts)


def run_units(
    workspace: Workspace,
    layer: LayerInfo,
    jobs: Sequence[Job],
    engines: Engines,
    on_record: OnRecord,
    codes: Codes | None = None,
    frame_steps: tuple[int, ...] = (),
) -> None:
    """Run jobs of one layer, the dead ones a second time on the pre-activation, if there is one.

    Args:
        workspace: settings.
        layer: of the workspace's network.
        jobs: each at most once.
        engines: of the workspace.
        on_record: called once per job, in the order in which they end.
        codes: start codes by unit; units without one start from a candidate, and those that are dead there, or have
            none, from a drawn code.
        frame_steps: see :func:`engine.loop.run_jobs`.
    """
    known, chosen, count = codes or {}, {}, workspace.config.start.attempts
    for job in jobs:
        if job.unit in known:
            chosen[job] = known[job.unit]
            continue
        for attempt in job.attempts(count):
            code = engines.candidates.chosen(layer, attempt)
            if code is not None:
                chosen[attempt] = code
    runner = engines.runner(layer.name, pre_activation=False)
    run = partial(_run, workspace, on_record=on_record, frame_steps=frame_steps)
    cold = set(run(runner, list(chosen), codes=chosen, keep_dead=False)) if chosen else set()
    left = [attempt for job in jobs if job not in chosen or job in cold for attempt in job.attempts(count)]
    if layer.pre_activation is None:
        run(runner, left, codes={}, keep_dead=True)
        return
    dead = run(runner, left, codes={}, keep_dead=False)
    if dead:
        again = [attempt for job in dead for attempt in job.attempts(count)]
        run(engines.runner(layer.name, pre_activation=True), again, codes={}, keep_dead=True)


def layer_facts(manifest: StepManifest) -> dict[str, Any]:
    """What an engine knows of its layer and the site shows."""
    return {
        "code_dim": manifest.code_dim,
        "image_px": manifest.image_px,
        "num_units": manifest.num_units,
        "position": list(manifest.position) if manifest.position else None,
        "receptive_field": asdict(manifest.receptive_field),
    }


def encode_png(image: npt.NDArray[np.uint8]) -> bytes:
    """An image (H, W, 3) uint8 as PNG; equal images make equal bytes under one version of Pillow."""
    sink = io.BytesIO()
    Image.fromarray(image).save(sink, "PNG", compress_level=6)
    return sink.getvalue()


_Pictures = tuple[bytes, bytes]
"""PNG, and film or nothing."""


def _encode(result: JobResult, field: Box, px: int) -> _Pictures:
    film = make_film(result.frames, result.image, field, px) if result.frames else b""
    return encode_png(result.image), film


def _record(result: JobResult, target: str, pictures: _Pictures, film_steps: Sequence[int]) -> Record:
    image, film = pictures
    return Record(
        unit=result.unit,
        seed=result.seed,
        activation=float(result.activation),
        steps=result.steps,
        status=result.status,
        target=target,
        curve=result.curve,
        code=result.code,
        image=image,
        film_steps=tuple(film_steps),
        film=film,
    )


def _run(
    workspace: Workspace,
    runner: Runner,
    jobs: Sequence[Job],
    on_record: OnRecord,
    codes: Mapping[Job, npt.NDArray[np.float32]],
    *,
    keep_dead: bool,
    frame_steps: tuple[int, ...],
) -> list[Job]:
    """Run attempts; return the jobs whose every attempt was dead, which are reported only if ``keep_dead``."""
    target, layer = runner.manifest.target, runner.manifest.layer
    prior, scale = workspace.generator.prior, workspace.config.ascent.start_scale
    dead: list[Job] = []

    def take(result: JobResult) -> None:
        if result.status == "dead" and not keep_dead:
            dead.append(Job(result.unit, result.seed))
        else:
            on_record(result, target)

    run_jobs(
        runner,
        jobs,
        lambda job: codes[job] if job in codes else start_code(prior, layer, job, scale),
        workspace.stop_rule,
        workspace.config.run.poll_every,
        take,
        frame_steps,
        workspace.trial_steps,
    )
    return dead
