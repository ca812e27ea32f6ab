"""A few units, quickly, on one contact sheet."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from engine.loop import JobResult
from engine.slots import Job
from pipeline.config import parse_config
from pipeline.engines import Engines
from pipeline.sheet import Cell, png_sheet
from pipeline.table import replace_file
from pipeline.units import parse_units_option, select_units
from pipeline.worker import run_units
from pipeline.workspace import Workspace, open_workspace

MAX_BATCH = 8
CELL_PX = 128
"""Least side of an image on the sheet; smaller ones are enlarged."""
COLUMNS = 8
"""Images in a row of a sheet with one seed per unit."""


def synthesize(
    network: str,
    layer: str,
    units: Sequence[str],
    output: Path,
    *,
    generator: str,
    weights: Path | None = None,
    seeds: int = 1,
    steps: int = 100,
    runtime: str | None = None,
) -> Iterator[str]:
    """Maximise a few units and write a contact sheet; yields a line per job as they end, in the order of the sheet.

    Args:
        network: as in a configuration.
        layer: a layer of it.
        units: numbers, ranges or class names.
        output: the PNG to write.
        generator: as in a configuration.
        weights: state dict for a PyTorch network.
        seeds: start codes per unit.
        steps: of ascent.
        runtime: by default the first that can run here.

    Raises:
        InputError: what was asked for is wrong.
        EngineError: the runtime failed.
    """
    with tempfile.TemporaryDirectory() as nowhere:
        workspace, jobs, names = _prepare(network, layer, units, generator, weights, seeds, steps, runtime, nowhere)
        results: dict[Job, tuple[JobResult, str]] = {}
        info = workspace.network.layer(layer)

        def take(result: JobResult, target: str) -> None:
            results[Job(result.unit, result.seed)] = (result, target)

        with Engines(workspace) as engines:
            run_units(workspace, info, jobs, engines, take)
    cells = []
    for job in jobs:
        result, target = results[job]
        name = f"{job.unit} {names[job.unit]}" if names else f"unit {job.unit}"
        value = "dead" if result.status == "dead" else f"{result.activation:.4g}"
        before = "" if target == layer else " (before the activation)"
        cells.append(Cell(result.image, f"{value}  {name}"))
        yield f"{name}, seed {job.seed}: {value}{before} after {result.steps} steps"
    largest = max(result.image.shape[0] for result, _ in results.values())
    replace_file(output, png_sheet(cells, seeds if seeds > 1 else COLUMNS, max(CELL_PX, largest)))


def _prepare(
    network: str,
    layer: str,
    units: Sequence[str],
    generator: str,
    weights: Path | None,
    seeds: int,
    steps: int,
    runtime: str | None,
    folder: str,
) -> tuple[Workspace, list[Job], tuple[str, ...] | None]:
    poll_every = next(count for count in (5, 4, 3, 2, 1) if steps % count == 0)
    raw = {
        "name": "sheet",
        "network": {"source": network} | ({"weights": str(weights.resolve())} if weights else {}),
        "generator": {"source": generator},
        "ascent": {"steps": steps},
        "run": {"runtime": runtime or "auto", "poll_every": poll_every},
        "layers": [{"name": layer}],
    }
    config = parse_config(raw, "of this command", folder=str(Path.cwd()))
    workspace = open_workspace(config, Path(folder))
    info = workspace.network.layer(layer)
    names = workspace.labels_of(info)
    chosen: dict[int, None] = {}  # in the order given, each once
    for text in units:
        chosen |= dict.fromkeys(select_units(parse_units_option(text), info.name, info.num_units, names))
    jobs = [Job(unit, seed) for unit in chosen for seed in range(seeds)]
    run = config.run.model_copy(update={"batch": min(MAX_BATCH, len(jobs))})
    settings = config.model_copy(update={"run": run})
    return replace(workspace, config=settings), jobs, names
