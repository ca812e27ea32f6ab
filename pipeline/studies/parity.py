"""Parity: the same units under every runtime and precision that can run here.

Twice: the activation and gradient that each finds at the very codes of the atlas, and whole ascents from the same start
codes, whose pictures and activations are then compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from engine.loop import JobResult, run_jobs, to_pixels
from engine.protocol import Builder, Runner
from engine.runtimes import builders
from engine.slots import Job
from export.errors import EngineError
from export.manifest import StepGraph
from export.view import NO_ZOOM
from pipeline.candidates import Candidates
from pipeline.records import Record
from pipeline.site.panels import Finding, Table
from pipeline.studies.base import statistics
from pipeline.studies.base.context import Context, LayerResults
from pipeline.studies.base.study import Output, TooFew
from pipeline.tuning import compiled

NUM_UNITS = 100
NUM_ASCENTS = 12
"""Units whose whole ascent is run under every engine; an ascent costs its full number of steps."""
BATCH = 2
"""Slots: few, since few units ascend, and an idle slot costs as much as a busy one."""
MIN_UNITS = 5
PERCENTILES = (50, 95, 100)
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Engine:
    """A runtime at a precision."""

    builder: Builder
    precision: str

    @property
    def name(self) -> str:
        return f"{self.builder.name} {self.precision}"


@dataclass(frozen=True)
class Measured:
    """What one engine finds for n units.

    Attributes:
        activation: (n,) at the atlas's codes.
        gradient: (n,) mean absolute gradient there.
        images: (n, H, W, 3) of those codes.
    """

    activation: Floats
    gradient: Floats
    images: npt.NDArray[np.uint8]


class Parity:
    """See the module."""

    name = "parity"
    title = "Engine parity"
    needs = ()
    revision = 1

    def run(self, context: Context) -> Output:
        engines = engines_here(context.workspace.builder.name)
        chosen = _chosen(context, NUM_UNITS)
        total = sum(map(len, chosen.values()))
        if total < MIN_UNITS:
            raise TooFew(f"{total} units are alive; it takes {MIN_UNITS} to compare engines")
        if len(engines) < 2:
            raise TooFew(f"only {engines[0].name} can run here; it takes two engines to compare")
        found: dict[str, list[Measured]] = {engine.name: [] for engine in engines}
        ascents: dict[str, list[JobResult]] = {engine.name: [] for engine in engines}
        refused: dict[str, str] = {}
        share = max(1, NUM_ASCENTS // max(1, len(chosen)))
        for layer in context.layers():
            units = chosen.get(layer.name, [])
            if not units:
                continue
            graph = _graph(context, layer)
            for engine in engines:
                if engine.name in refused:
                    continue
                try:
                    options = {**context.workspace.engine_options, "precision": engine.precision}
                    with engine.builder.build(graph, options) as runner:
                        found[engine.name].append(measure(runner, [layer.alive[unit] for unit in units]))
                        ascents[engine.name] += _ascents(context, layer, runner, units[:share])
                except EngineError as error:
                    refused[engine.name] = str(error)
        output = Output(
            f"{total} units, spread evenly over the layers, under every runtime and precision that can run "
            f"here, compared "
            f"with {engines[0].name}; {sum(map(len, ascents.values())) // len(engines)} of them by whole ascents."
        )
        rows = _rows(engines, found, refused)
        output.findings = [_code_finding(rows, engines[0].name), _ascent_finding(engines, ascents, refused)]
        return output


def engines_here(reference: str) -> list[Engine]:
    """Every runtime and precision that can run here, the most exact of the reference runtime first."""
    able = [builder for builder in builders().values() if builder.availability().ok]
    engines = [Engine(builder, precision) for builder in able for precision in builder.precisions()]
    return sorted(engines, key=lambda e: (e.builder.name != reference, e.precision != "fp32", e.name))


def measure(runner: Runner, records: Sequence[Record]) -> Measured:
    """One step at each record's code: the activation and gradient with which the step begins, and the picture."""
    batch = runner.manifest.batch
    activation, gradient = [], []
    codes = np.stack([record.code for record in records]).astype(np.float32)
    for start in range(0, len(records), batch):
        part = records[start : start + batch]
        slots = range(len(part))
        runner.fill(slots, [record.unit for record in part], codes[start : start + batch])
        runner.step(1)
        scalars = runner.scalars()
        activation += scalars.activation[: len(part)].tolist()
        gradient += scalars.gradient[: len(part)].tolist()
    return Measured(np.asarray(activation), np.asarray(gradient), to_pixels(runner.decode(codes)))


def relative(values: Floats, reference: Floats) -> Floats:
    """``|a - b| / max(|b|, 0.01 max|b|)``."""
    size = np.abs(reference)
    return np.asarray(np.abs(values - reference) / np.maximum(size, max(0.01 * float(size.max(initial=0)), 1e-30)))


def _chosen(context: Context, count: int) -> dict[str, list[int]]:
    """Units of every layer, as evenly as there are; those maximised before the activation are left out."""
    found = {layer.name: [u for u, r in layer.alive.items() if r.target == layer.name] for layer in context.layers()}
    share = -(-count // max(1, len(found)))
    rng = np.random.default_rng(context.seed("parity"))
    return {name: rng.permutation(units)[:share].tolist() if units else [] for name, units in found.items()}


def _graph(context: Context, layer: LayerResults) -> StepGraph:
    """The layer's step graph, without jitter and zoom, which would move the picture of a slot's first step."""
    still = replace(context.workspace.ascent(layer.name), jitter_px=0, zoom=NO_ZOOM)
    return compiled(context.workspace, layer.name, BATCH, ascent=still)


def _ascents(context: Context, layer: LayerResults, runner: Runner, units: Sequence[int]) -> list[JobResult]:
    """Whole ascents from the atlas's start codes of seed 0."""
    workspace = context.workspace
    return run_jobs(
        runner,
        [Job(unit, 0) for unit in units],
        partial(Candidates(workspace).start, workspace.network.layer(layer.name)),
        workspace.stop_rule,
        workspace.config.run.poll_every,
    )


def _rows(
    engines: Sequence[Engine], found: Mapping[str, list[Measured]], refused: Mapping[str, str]
) -> list[tuple[str, ...]]:
    reference = found[engines[0].name]
    rows = []
    for engine in engines[1:]:
        if engine.name in refused:
            rows.append((engine.name, f"refused: {refused[engine.name]}", *[""] * 3))
            continue
        own = found[engine.name]
        errors = {
            "activation": [relative(a.activation, b.activation) for a, b in zip(own, reference, strict=True)],
            "gradient": [relative(a.gradient, b.gradient) for a, b in zip(own, reference, strict=True)],
        }
        pixel = np.concatenate(
            [np.abs(a.images.astype(float) - b.images).max(axis=(1, 2, 3)) for a, b in zip(own, reference, strict=True)]
        )
        cells = [_percentiles(np.concatenate(errors[name])) for name in ("activation", "gradient")]
        levels = " / ".join(f"{np.percentile(pixel, q):.0f}" for q in PERCENTILES)
        rows.append((engine.name, str(len(pixel)), *cells, levels))
    return rows


def _percentiles(errors: Floats) -> str:
    return " / ".join(f"{np.percentile(errors, q):.1e}" for q in PERCENTILES)


def _code_finding(rows: Sequence[tuple[str, ...]], reference: str) -> Finding:
    head = ("engine", "units", "activation, relative error", "gradient, relative error", "pixels, grey levels")
    text = (
        f"At the codes that the atlas holds, against {reference}: median / 95th percentile / largest. Relative "
        f"errors are "
        "|a - b| / max(|b|, 1% of the layer's largest |b|); the gradient's is of its mean absolute value; "
        "pixels: the largest "
        "difference in a picture, of 255."
    )
    return Finding("At the same codes", text, blocks=(Table("", head, tuple(rows)),))


def _ascent_finding(
    engines: Sequence[Engine], ascents: Mapping[str, list[JobResult]], refused: Mapping[str, str]
) -> Finding:
    reference = ascents[engines[0].name]
    rows = []
    for engine in engines[1:]:
        own = ascents[engine.name]
        if engine.name in refused or len(own) < statistics.MIN_MEAN:
            rows.append((engine.name, str(len(own)), "not reported: too few units", "", ""))
            continue
        pairs = list(zip(own, reference, strict=True))
        ratios = [float(a.activation / b.activation) for a, b in pairs if b.activation > 0]
        levels = [float(np.abs(a.image.astype(float) - b.image).mean()) for a, b in pairs]
        enough = len(ratios) >= statistics.MIN_MEAN
        cell = statistics.median(ratios).text("{:.3f}") if enough else "not reported: too few"
        spread = f"{min(ratios):.3f} to {max(ratios):.3f}" if enough else ""
        rows.append((engine.name, str(len(own)), cell, spread, statistics.median(levels).text("{:.1f}")))
    head = ("engine", "units", "activation over the reference's", "range", "mean pixel difference, grey levels")
    text = (
        f"Whole ascents from equal start codes, without jitter and zoom, against {engines[0].name}; medians over units "
        "with 95% bootstrap intervals. An ascent is chaotic: small differences grow over its steps, so that pictures "
        "can differ in detail while activations agree."
    )
    return Finding("After whole ascents", text, blocks=(Table("", head, tuple(rows)),))


STUDY = Parity()
