"""Recognisability: does an independent judge see in a synthetic picture what the unit stands for, and does activation
tell?

Class units: the judge's rank and probability of the unit's class, beside those of real pictures at the same resolution.
Hidden units: whether the judge's features of the synthetic picture (the part the unit sees) are nearer to those of the
unit's own exemplars than to those of random pictures, and than to those of other units' exemplars.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.stats import rankdata

from pipeline.dataset.result import DatasetResult
from pipeline.site.panels import Column, Finding, Picture, Table
from pipeline.studies.base import statistics
from pipeline.studies.base.classes import Classes
from pipeline.studies.base.context import Context, LayerResults, seen_pixels
from pipeline.studies.base.figures import COLOURS, figure, size_px
from pipeline.studies.base.judge import Pixels, Verdict
from pipeline.studies.base.likeness import NUM_EXEMPLARS, NUM_RANDOM, natural
from pipeline.studies.base.statistics import Estimate
from pipeline.studies.base.study import Output, TooFew

CHUNK = 64
"""Pictures held at a time."""


@dataclass
class Correlations:
    """Per layer: what was correlated with activation, and the estimate or why there is none."""

    rows: list[tuple[str, str, str, Estimate | str]] = field(default_factory=list)

    def add(self, layer: str, activation: str, measure: str, x: npt.ArrayLike, y: npt.ArrayLike, seed: int) -> None:
        try:
            found: Estimate | str = statistics.spearman(x, y, seed, "units")
        except TooFew as error:
            found = str(error)
        self.rows.append((layer, activation, measure, found))


class Recognisability:
    """See the module."""

    name = "recognisability"
    title = "Recognisability"
    needs = ("dataset", "judge")
    revision = 1

    def run(self, context: Context) -> Output:
        judge, dataset = context.judge, context.dataset
        output = Output(
            f"What {judge.network.card.title}, which had no part in making the pictures, sees in them: the "
            f"class of class "
            "units; for hidden units, likeness in its features to the unit's own exemplars against random pictures "
            "(P(own > random); 0.5 is chance).",
            columns=[
                Column(
                    "judge_rank", "rank with the judge", "Of the unit's class; 1 is its first choice.", "count", "low"
                ),
                Column("judge_probability", "judge's probability", "Of the unit's class, 0 to 1."),
                Column("likeness", "likeness to exemplars", "P(nearer to own exemplars than to random pictures)."),
            ],
        )
        correlations, points, hidden, classes = Correlations(), dict[str, tuple[list[float], list[float]]](), [], 0
        for layer in context.layers():
            if layer.labels is not None:
                scored = self._classes(context, layer, output, correlations, points)
                classes += scored
            else:
                hidden.append(self._hidden(context, dataset, layer, output, correlations, points))
        if hidden:
            output.findings.append(_hidden_finding(hidden))
        if not classes and not any(row[1] for row in hidden):
            raise TooFew("no unit could be judged")
        output.findings.append(_correlation_finding(correlations, points, output))
        output.summary += f" {classes} class units and {sum(row[1] for row in hidden)} hidden units."
        return output

    def _classes(
        self,
        context: Context,
        layer: LayerResults,
        output: Output,
        correlations: Correlations,
        points: dict[str, tuple[list[float], list[float]]],
    ) -> int:
        assert layer.labels is not None
        known = context.judge.classes_of(layer.labels)
        alive = {unit: record for unit, record in layer.alive.items() if unit in known}
        if len(alive) < statistics.MIN_SHARE:
            text = (
                f"{len(alive)} units have a class that the judge knows; it takes {statistics.MIN_SHARE}. Not reported."
            )
            output.findings.append(Finding(f"{layer.title}: recognised classes", text))
            return 0
        units = list(alive)
        verdict = context.judge.see([seen_pixels(layer, record) for record in alive.values()])
        wanted = np.asarray([known[unit] for unit in units], np.int64)
        ranks, probabilities = verdict.ranks(wanted), verdict.probabilities(wanted)
        for row, unit in enumerate(units):
            output.put(layer.name, unit, judge_rank=int(ranks[row]) + 1, judge_probability=float(probabilities[row]))
        rows = [("synthetic", *_accuracy(ranks, probabilities, context.seed(self.name, layer.name)))]
        rows += _real_rows(context, layer, set(units), known)
        output.findings.append(_class_finding(layer, rows, len(context.judge.labels or ())))
        activations = [alive[unit].activation for unit in units]
        seed = context.seed(self.name, layer.name, "correlation")
        correlations.add(layer.title, "activation", "judge's probability", activations, probabilities, seed)
        ratios = [_ratio(context.dataset, layer, unit) for unit in units]
        correlations.add(layer.title, "ratio to best picture", "judge's probability", ratios, probabilities, seed)
        points[layer.title] = (activations, probabilities.tolist())
        return len(units)

    def _hidden(
        self,
        context: Context,
        dataset: DatasetResult,
        layer: LayerResults,
        output: Output,
        correlations: Correlations,
        points: dict[str, tuple[list[float], list[float]]],
    ) -> tuple[str, int, str, str, str]:
        alive = layer.alive
        if len(alive) < statistics.MIN_SHARE:
            return (layer.title, 0, "not reported: too few units", "", "")
        units = list(alive)
        synthetic = context.judge.see([seen_pixels(layer, alive[unit]) for unit in units]).features
        seen = natural(context, dataset, layer, units)
        likeness = []
        for row, unit in enumerate(units):
            value = seen.likeness(unit, synthetic[row])
            likeness.append(value)
            output.put(layer.name, unit, likeness=value)
        means = np.stack([seen.own[unit].mean(axis=0) for unit in units])
        found = (synthetic @ means.T).argmax(axis=1) == np.arange(len(units))
        identified = statistics.share(int(found.sum()), len(units)).percent_among(len(units))
        seed = context.seed(self.name, layer.name)
        middle = statistics.mean(likeness, seed).among(len(units))
        activations = [alive[unit].activation for unit in units]
        correlations.add(layer.title, "activation", "likeness", activations, likeness, seed)
        ratios = [_ratio(dataset, layer, unit) for unit in units]
        correlations.add(layer.title, "ratio to best picture", "likeness", ratios, likeness, seed)
        points[layer.title] = (activations, likeness)
        return (layer.title, len(units), middle, identified, f"{100 / len(units):.1f}%")


def _ratio(dataset: DatasetResult, layer: LayerResults, unit: int) -> float:
    record = layer.alive[unit]
    best = float(dataset.statistics.high[dataset.column(layer.name, record.target, unit)])
    return record.activation / best if best > 0 else float("nan")


def _accuracy(ranks: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float64], seed: int) -> tuple[str, str, str]:
    count = len(ranks)
    return (
        statistics.share(int((ranks < 1).sum()), count).percent(),
        statistics.share(int((ranks < 5).sum()), count).percent(),
        statistics.mean(probabilities, seed).text(),
    )


def _real_rows(
    context: Context, layer: LayerResults, units: set[int], known: dict[int, int]
) -> list[tuple[str, str, str, str]]:
    """The judge on real pictures of the same classes: in full, and reduced to the synthetic pictures' resolution."""
    assert layer.labels is not None
    images = context.images
    classes = Classes(layer.labels, context.inputs.classes)
    named = [(index, classes.index(entry.label)) for index, entry in enumerate(images.entries)]
    found = [(index, unit) for index, unit in named if unit is not None and unit in units]
    if len(found) < statistics.MIN_SHARE:
        return []
    side = context.judge.network.card.input.height
    full, reduced = list[Verdict](), list[Verdict]()
    for start in range(0, len(found), CHUNK):
        pictures = images.pictures([i for i, _ in found[start : start + CHUNK]], side, side)
        full.append(context.judge.see(pictures))
        reduced.append(context.judge.see([_reduced(picture, layer.image_px) for picture in pictures]))
    wanted = np.asarray([known[unit] for _, unit in found], np.int64)
    rows = []
    for name, parts in (("real pictures", full), (f"real pictures at {layer.image_px} px", reduced)):
        verdict = Verdict(np.concatenate([p.features for p in parts]), np.concatenate([p.logits for p in parts]))
        seed = context.seed(name, layer.name)
        rows.append((name, *_accuracy(verdict.ranks(wanted), verdict.probabilities(wanted), seed)))
    return rows


def _reduced(picture: Pixels, side: int) -> Pixels:
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR, reducing_gap=3.0))


def _class_finding(layer: LayerResults, rows: Sequence[tuple[str, ...]], classes: int) -> Finding:
    text = (
        f"By chance the judge's first choice is right in {100 / max(classes, 1):.2g}% and its first five in "
        f"{500 / max(classes, 1):.2g}%. Real pictures are those of the data set in the same classes; at the synthetic "
        "pictures' resolution they tell how much of the gap is resolution alone. Brackets are 95% intervals."
    )
    head = ("pictures", "first choice right", "among first five", "mean probability")
    return Finding(f"{layer.title}: how often the judge names the class", text, blocks=(Table("", head, tuple(rows)),))


def _hidden_finding(rows: Sequence[tuple[str, int, str, str, str]]) -> Finding:
    head = ("layer", "units", "P(own > random)", "own exemplars nearest of all units'", "by chance")
    text = (
        f"Cosine of the judge's features, of the part that the unit sees: the synthetic picture with its unit's "
        f"{NUM_EXEMPLARS} best pictures, against {NUM_RANDOM} random pictures cut where some unit of the layer is most "
        "active. Then: is the mean of its own exemplars nearer than that of every other unit of the layer shown here? "
        "Likeness includes colour and texture, which the judge's features hold; it does not prove that a person would "
        "see the same thing."
    )
    cells = tuple((name, str(count), *rest) for name, count, *rest in rows)
    return Finding("Hidden units: like their own exemplars?", text, blocks=(Table("", head, cells),))


def _correlation_finding(
    found: Correlations, points: dict[str, tuple[list[float], list[float]]], output: Output
) -> Finding:
    tested = [row[3] for row in found.rows if isinstance(row[3], Estimate)]
    corrected = iter(statistics.adjusted([e.p for e in tested if e.p is not None]))
    rows = []
    clear = 0
    for layer, activation, measure, estimate in found.rows:
        if isinstance(estimate, Estimate):
            p = next(corrected)
            clear += p < 0.05
            rows.append((layer, activation, measure, estimate.text(), statistics.p_text(p)))
        else:
            rows.append((layer, activation, measure, f"not reported: {estimate}", ""))
    head = ("layer", "activation as", "with", "Spearman's rho", "adjusted p")
    text = (
        f"{clear} of {len(tested)} correlations differ from 0 at a false discovery rate of 5% (Benjamini and "
        f"Hochberg). "
        "Brackets are 95% intervals of the paired bootstrap over units; n is the number of units. An interval that "
        "holds 0 does not show that there is no correlation: it shows how large one could still be. What is compared "
        "is units of a layer with each other, not several pictures of one unit."
    )
    picture = None
    if points:
        output.files["figures/activation.svg"] = _draw(points)
        width, height = size_px()
        picture = Picture(
            "figures/activation.svg",
            width,
            height,
            "Recognisability against activation, one point per unit, ranks within the layer",
            "Ranks within each layer, 0 lowest to 1 highest.",
        )
    return Finding(
        "Does activation tell how recognisable a picture is?", text, picture, (Table("", head, tuple(rows)),)
    )


def _draw(points: dict[str, tuple[list[float], list[float]]]) -> bytes:
    with figure() as drawing:
        for index, (title, (x, y)) in enumerate(points.items()):
            scaled = [(rankdata(v) - 0.5) / len(v) for v in (x, y)]
            drawing.axes.scatter(*scaled, s=9, alpha=0.6, label=title, color=COLOURS[index % len(COLOURS)])
        drawing.axes.set(xlabel="activation (rank in its layer)", ylabel="recognisability (rank)")
        drawing.axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return drawing.svg


STUDY = Recognisability()
