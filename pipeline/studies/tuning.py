"""Tuning: where the synthetic input's activation lies in the distribution over natural pictures; dead, saturated units.

The synthetic activation is that of one position, the centre. It is compared with every natural picture at the position
that suits the unit best, which favours nature, and with natural pictures at the same position, which is like with like.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from pipeline.dataset.result import DatasetResult
from pipeline.site.panels import Column, Finding, Histogram, Mark, Picture, Series, Table
from pipeline.studies.base import statistics
from pipeline.studies.base.context import Context, LayerResults
from pipeline.studies.base.figures import COLOURS, figure, size_px
from pipeline.studies.base.study import Output, TooFew

MIN_PICTURES = 100
SATURATED_SHARE = 0.05
"""A unit is saturated when at least this share of pictures reaches exactly its highest value."""
SIZES = (10, 30, 100, 300, 1000, 3000, 10_000, 100_000, 1_000_000)


@dataclass(frozen=True)
class Tuned:
    """One unit: its synthetic activation and the natural distribution."""

    unit: int
    synthetic: float
    percentile: float
    percentile_centre: float
    best: float
    above: int
    std: float

    @property
    def beats_all(self) -> bool:
        return self.synthetic > self.best

    @property
    def ratio(self) -> float | None:
        """Synthetic over best natural activation; None where the latter is not positive and a ratio means nothing."""
        return self.synthetic / self.best if self.best > 0 else None

    @property
    def margin(self) -> float | None:
        """Synthetic less best natural activation, in standard deviations of the natural maxima."""
        return (self.synthetic - self.best) / self.std if self.std > 0 else None


class Tuning:
    """See the module."""

    name = "tuning"
    title = "Tuning"
    needs = ("dataset",)
    revision = 1

    def run(self, context: Context) -> Output:
        dataset = context.dataset
        count = dataset.num_seen
        if count < MIN_PICTURES:
            raise TooFew(f"{count} pictures are too few for a percentile; it takes {MIN_PICTURES}")
        output = Output(
            f"Where each unit's synthetic activation lies among its activations by {count:,} natural pictures of "
            f"{context.images.source.name}, each at its best position and at the same position; dead and "
            f"saturated units.",
            columns=[
                Column("percentile", "percentile among pictures", "Pictures that activate it less.", "percentile"),
                Column("percentile_centre", "percentile, same position", "The same, at the centre.", "percentile"),
                Column("ratio_to_best", "ratio to best picture", "Synthetic over best natural activation."),
                Column("beats_all", "beats every picture", "Whether no natural picture reaches it.", "yesno", "none"),
                Column("margin_std", "margin in standard deviations", "Above the best picture, in natural spread."),
            ],
        )
        rows, curves, dead_rows = [], [], []
        for layer in context.layers():
            tuned = [t for unit in layer.alive if (t := _tuned(dataset, layer, unit)) is not None]
            for t in tuned:
                output.put(
                    layer.name,
                    t.unit,
                    percentile=t.percentile,
                    percentile_centre=t.percentile_centre,
                    ratio_to_best=t.ratio,
                    beats_all=t.beats_all,
                    margin_std=t.margin,
                    natural_above=t.above,
                )
                output.show(layer.name, t.unit, _histogram(dataset, layer, t))
            rows.append(_row(layer, tuned))
            if len(tuned) >= statistics.MIN_SHARE:
                curves.append((layer.title, _curve(tuned, count)))
            dead_rows.append(_health(dataset, layer, output))
        output.findings += [_share_finding(rows, count), _health_finding(dead_rows, count)]
        if curves:
            output.files["figures/beaten.svg"] = _draw(curves)
            output.findings[0] = _with_curve(output.findings[0], count)
        return output


def _tuned(dataset: DatasetResult, layer: LayerResults, unit: int) -> Tuned | None:
    record = layer.alive[unit]
    counted = dataset.statistics
    column = dataset.column(layer.name, record.target, unit)
    centre = dataset.column(layer.name, record.target, unit, centre=True)
    value = record.activation
    if not math.isfinite(value):
        return None
    return Tuned(
        unit,
        value,
        counted.percentile_of(column, value),
        counted.percentile_of(centre, value),
        float(counted.high[column]),
        natural_above(dataset, column, value),
        float(counted.std()[column]),
    )


def natural_above(dataset: DatasetResult, column: int, value: float) -> int:
    """Natural pictures that reach ``value``: exact while they are among the top ones, else from the histogram."""
    counted = dataset.statistics
    top = counted.top_value[:, column]
    reached = int((top >= value).sum())
    if reached < len(top):
        return reached
    estimate = round(counted.num_seen * (1 - counted.percentile_of(column, value) / 100))
    return max(reached, estimate)


def chance_to_beat(above: int, count: int, size: int) -> float:
    """``C(count - above, size) / C(count, size)``: that ``size`` of ``count`` pictures hold none of the ``above``."""
    if count - above < size:
        return 0.0
    logs = special.gammaln([count - above + 1, count - size + 1, count - above - size + 1, count + 1])
    return float(np.exp(logs[0] + logs[1] - logs[2] - logs[3]))


def _curve(tuned: list[Tuned], count: int) -> Series:
    sizes = [size for size in SIZES if size < count] + [count]
    shares = [float(np.mean([chance_to_beat(t.above, count, size) for t in tuned])) for size in sizes]
    return Series("", tuple(map(float, sizes)), tuple(shares))


def _row(layer: LayerResults, tuned: list[Tuned]) -> tuple[str, ...]:
    if len(tuned) < statistics.MIN_SHARE:
        return (layer.title, str(len(tuned)), *["not reported: too few units"] * 4)
    beats = statistics.share(sum(t.beats_all for t in tuned), len(tuned))
    same = statistics.share(sum(t.percentile_centre >= 100 for t in tuned), len(tuned))
    ratios = [t.ratio for t in tuned if t.ratio is not None]
    n = len(tuned)
    ratio = statistics.median(ratios).among(n) if len(ratios) >= statistics.MIN_MEAN else "not reported: too few"
    percentiles = statistics.median([t.percentile for t in tuned])
    return (layer.title, str(n), beats.percent_among(n), same.percent_among(n), ratio, percentiles.among(n, "{:.1f}"))


def _share_finding(rows: list[tuple[str, ...]], count: int) -> Finding:
    head = ("layer", "units", "beats every picture", "… at the same position", "ratio to the best", "percentile")
    text = (
        f"Brackets are 95% intervals (Wilson for shares, bootstrap over units for medians). A share refers to these "
        f"{count:,} pictures: with more pictures the best one gets better and the share falls. Units of a layer share "
        "a network and a generator, so they are not independent; the intervals treat them as if they were."
    )
    return Finding(
        "How often no natural picture reaches the synthetic one", text, blocks=(Table("", head, tuple(rows)),)
    )


def _with_curve(finding: Finding, count: int) -> Finding:
    width, height = size_px()
    picture = Picture(
        "figures/beaten.svg",
        width,
        height,
        "Share of units whose synthetic input beats every picture, falling with the number of pictures",
        f"Expected share over random subsets of the {count:,} pictures (hypergeometric, no extrapolation).",
    )
    return Finding(finding.heading, finding.text, picture, finding.blocks)


def _draw(curves: list[tuple[str, Series]]) -> bytes:
    with figure() as drawing:
        for index, (title, series) in enumerate(curves):
            drawing.axes.plot(series.x, series.y, marker="o", ms=3, label=title, color=COLOURS[index % len(COLOURS)])
        drawing.axes.set(
            xscale="log", ylim=(0, 1.02), xlabel="natural pictures", ylabel="share of units that beat them all"
        )
        drawing.axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return drawing.svg


def _health(dataset: DatasetResult, layer: LayerResults, output: Output) -> tuple[str, ...]:
    """Dead: no picture activates it (a ReLU's output stays 0); constant; saturated: many reach exactly the maximum."""
    counted = dataset.statistics
    columns = dataset.columns(layer.name, layer.name)
    high, low = counted.high[columns], counted.low[columns]
    sample = dataset.sample(layer.name, layer.name)
    silent = high == low
    at_top = (sample >= high).mean(axis=0) if len(sample) else np.zeros(len(high))
    saturated = ~silent & (at_top >= SATURATED_SHARE)
    for unit in layer.records:
        output.put(layer.name, unit, silent=bool(silent[unit]), saturated=bool(saturated[unit]))
    dead = sum(unit not in layer.alive for unit in layer.records)
    return (
        layer.title,
        str(len(high)),
        f"{int(silent.sum())}",
        f"{int(saturated.sum())}",
        f"{dead} of {len(layer.records)}",
    )


def _health_finding(rows: list[tuple[str, ...]], count: int) -> Finding:
    head = ("layer", "units of the layer", "silent for every picture", "saturated", "dead in the atlas")
    text = (
        f"Over {count:,} pictures, all units of each layer. Silent: one and the same value for every picture. "
        f"Saturated: "
        f"at least {SATURATED_SHARE:.0%} of the random sample reach exactly the highest value, as behind a ReLU6."
    )
    return Finding("Dead and saturated units", text, blocks=(Table("", head, tuple(rows)),))


def _histogram(dataset: DatasetResult, layer: LayerResults, tuned: Tuned) -> Histogram:
    counted = dataset.statistics
    column = dataset.column(layer.name, layer.alive[tuned.unit].target, tuned.unit)
    width, origin = counted.width(column), float(counted.origin[column])
    counts = counted.counts[column, 1:-1]
    return Histogram(
        "Synthetic against natural activation",
        "activation",
        origin,
        origin + counted.bins * width,
        tuple(float(c) for c in counts),
        (Mark(tuned.synthetic, "synthetic"), Mark(tuned.best, "best picture")),
    )


STUDY = Tuning()
