"""How the engines of a build use the machine: batch and lanes, measured within a memory budget.

Lanes change no result, so every machine measures its own and keeps them in :data:`CACHE`. The batch is part of the
recipe: where the configuration leaves it open, the first machine that works for a store chooses it, and all others
follow.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.footprint import engine_bytes
from engine.host import num_threads
from engine.protocol import Runner
from engine.tuning import Setting, Tuned, fastest, lane_choices
from export.errors import EngineError
from export.manifest import GRAPH_REVISION, StepGraph, StepManifest
from export.network import LayerInfo
from export.step import compile_step
from export.update import Ascent
from pipeline.facts import read_facts, write_facts
from pipeline.memory import available_memory, format_size, resident_bytes
from pipeline.recipe import short_digest

if TYPE_CHECKING:
    from pipeline.workspace import Workspace

CACHE = Path("build") / "engines"
"""What is known of engines on this machine: ``tuning-KEY.json``, ``parity-KEY.json``."""

BATCHES = {"cpu": (4, 8, 16, 32), "gpu": (16, 32, 64, 128, 256)}
"""Tried where the configuration leaves the batch open, those of at most a shard, by device."""

FOLDER = "tuning"
"""Of the store: ``KEY.json``, the batch chosen for a network, generator and runtime."""

SHARE = 0.8
"""Of the memory that is free, where no budget is given."""


def compiled(
    workspace: Workspace, layer: str, batch: int, *, pre_activation: bool = False, ascent: Ascent | None = None
) -> StepGraph:
    """The step graph of a layer as the configuration wants it, but for ``ascent`` where one is given.

    See :func:`export.step.compile_step`.
    """
    return compile_step(
        workspace.network,
        workspace.generator,
        layer,
        batch=batch,
        ascent=ascent or workspace.ascent(layer),
        decay=workspace.config.generator.decay,
        pre_activation=pre_activation,
        decode=workspace.decode(batch),
    )


def tuned_batch(workspace: Workspace) -> int:
    """The batch: the configured one, the one chosen for this store, or the fastest, measured now and kept there.

    Measured on the configured layer that is furthest from the input: of all, it takes most time and memory.

    Raises:
        EngineError: not even the smallest batch fits the memory budget, or the runtime failed.
        StoreError: the store cannot be read or written.
    """
    run, blobs = workspace.config.run, workspace.store.blobs
    if run.batch:
        return run.batch
    path = f"{FOLDER}/{short_digest(_models(workspace))}.json"
    kept = _batch_in(blobs.read(path))
    if kept is None:
        tuned = _measured_batch(workspace)
        tuned.close()
        facts = {"batch": tuned.setting.batch, **_speeds(tuned), **_models(workspace)}
        blobs.create(path, (json.dumps(facts, indent=1, sort_keys=True) + "\n").encode())
        kept = _batch_in(blobs.read(path)) or tuned.setting.batch
    return kept


def fitting_lanes(workspace: Workspace, manifest: StepManifest) -> list[int]:
    """The numbers of lanes that may be tried and fit, in ascending order.

    Raises:
        EngineError: not even the smallest fits the memory budget.
    """
    if workspace.builder.device == "gpu":
        return [1]  # it has the one batch
    choices = _lanes(workspace)
    fitting = [lanes for lanes in choices if _fits(workspace, manifest, Setting(manifest.batch, lanes))]
    if not fitting:
        raise _too_large(workspace, manifest, Setting(manifest.batch, choices[0]))
    return fitting


def tuned_engine(
    workspace: Workspace, graph: StepGraph, fitting: Sequence[int], beside: Runner | None = None
) -> Runner:
    """Build an engine with the number of lanes that is fastest for this network, or the next smaller one that fits.

    It is measured on the first of the network's layers that is built here.

    Args:
        workspace: of the build.
        graph: what to run.
        fitting: from :func:`fitting_lanes`.
        beside: an engine that takes turns with this one.

    Returns:
        The engine, entered; what is in its slots is of no meaning.

    Raises:
        EngineError: the runtime failed.
    """
    manifest = graph.manifest

    def build(setting: Setting) -> Runner:
        options = {**workspace.engine_options, "lanes": setting.lanes, "beside": beside}
        return workspace.builder.build(graph, options)

    choices = _lanes(workspace)
    if len(choices) == 1:
        return build(Setting(manifest.batch, choices[0])).__enter__()
    file = cache_file("tuning", {**identity(workspace), "batch": manifest.batch})
    known, tuned = read_facts(file).get("lanes"), None
    if not isinstance(known, int) or known not in choices:
        tuned = fastest(build, [manifest.batch], fitting, lambda setting: _is_busy(workspace, setting))
        known = tuned.setting.lanes
        write_facts(file, {"lanes": known, **_speeds(tuned), "layer": manifest.layer, **identity(workspace)})
    busy = [lanes for lanes in fitting if lanes <= known and _is_busy(workspace, Setting(manifest.batch, lanes))]
    chosen = Setting(manifest.batch, max(busy, default=fitting[0]))
    if tuned is not None and tuned.runner is not None and tuned.setting == chosen:
        return tuned.runner
    if tuned is not None:
        tuned.close()
    return build(chosen).__enter__()


def identity(workspace: Workspace) -> dict[str, Any]:
    """What a measurement of this workspace's engines holds for."""
    options = dict(workspace.engine_options)
    machine = [platform.node(), platform.machine(), num_threads({})]
    return {**_models(workspace), "options": options, "machine": machine}


def cache_file(kind: str, facts: Mapping[str, Any]) -> Path:
    return CACHE / f"{kind}-{short_digest(facts)}.json"


def _models(workspace: Workspace) -> dict[str, Any]:
    return {
        "runtime": workspace.builder.name,
        "version": workspace.runtime_version,
        "precision": workspace.config.run.precision,
        "network": workspace.network.digest,
        "generator": workspace.generator.digest,
        "revision": GRAPH_REVISION,
    }


def _measured_batch(workspace: Workspace) -> Tuned:
    """The fastest batch and lanes that fit."""
    graphs: dict[int, StepGraph] = {}

    def graph(batch: int) -> StepGraph:
        if batch not in graphs:
            graphs.clear()
            graphs[batch] = compiled(workspace, _furthest(workspace), batch)
        return graphs[batch]

    batches = BATCHES[workspace.builder.device]
    manifest = graph(batches[len(batches) // 2]).manifest
    largest = max(workspace.config.run.shard_size, batches[0])

    def fits(setting: Setting) -> bool:
        return setting.batch <= largest and _is_busy(workspace, setting) and _fits(workspace, manifest, setting)

    def build(setting: Setting) -> Runner:
        return workspace.builder.build(graph(setting.batch), {**workspace.engine_options, "lanes": setting.lanes})

    lanes = _lanes(workspace)
    if not fits(Setting(batches[0], lanes[0])):
        raise _too_large(workspace, manifest, Setting(batches[0], lanes[0]))
    return fastest(build, batches, lanes, fits)


def _lanes(workspace: Workspace) -> list[int]:
    run = workspace.config.run
    if workspace.builder.device == "gpu":
        return [1]
    return [run.lanes] if run.lanes else lane_choices(num_threads(workspace.engine_options))


def _is_busy(workspace: Workspace, setting: Setting) -> bool:
    """Whether a shard gives every lane something to do."""
    return setting.lanes == 1 or setting.batch * (setting.lanes - 1) < workspace.config.run.shard_size


def _fits(workspace: Workspace, manifest: StepManifest, setting: Setting) -> bool:
    needed = engine_bytes(manifest, setting)
    budget = workspace.config.run.memory
    if budget is not None:
        return resident_bytes() + needed <= budget
    free = available_memory()
    return workspace.builder.device != "cpu" or free is None or needed <= SHARE * free


def _too_large(workspace: Workspace, manifest: StepManifest, setting: Setting) -> EngineError:
    needed = resident_bytes() + engine_bytes(manifest, setting)
    budget = workspace.config.run.memory
    limit = f"the budget is {format_size(budget)}" if budget is not None else "less is free"
    remedy = "" if workspace.config.run.batch == 0 else f" or a smaller run.batch than {setting.batch}"
    return EngineError(
        f"layer {manifest.layer} needs about {format_size(needed)} of memory in a batch of {setting.batch}, and "
        f"{limit}; allow more with --memory{remedy}"
    )


def _furthest(workspace: Workspace) -> str:
    """Of the configured layers, the last in forward order."""
    wanted = {section.name for section in workspace.config.layers}
    layers: list[LayerInfo] = [layer for layer in workspace.network.layers if layer.name in wanted]
    return layers[-1].name if layers else workspace.config.layers[-1].name


def _speeds(tuned: Tuned) -> dict[str, Any]:
    speeds = {f"{setting.batch}x{setting.lanes}": round(speed, 3) for setting, speed in tuned.speeds.items()}
    return {"image_steps_per_s": speeds}


def _batch_in(data: bytes | None) -> int | None:
    try:
        batch = json.loads(data or b"")["batch"]
    except (ValueError, KeyError, TypeError):
        return None
    return batch if isinstance(batch, int) and batch > 0 else None
