"""Priors: the same units of the same network under other generators and code priors, each an atlas of its own.

Pixels and Fourier coefficients are generators like any other, so that "no prior" is an atlas too. A generator that was
trained to invert another network, a mismatched one, is compared in the same way.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import stats

from pipeline.records import Record
from pipeline.site.panels import Finding, Picture, Pictures, Table
from pipeline.studies.base import statistics
from pipeline.studies.base.context import Context, LayerResults, pixels, seen_pixels
from pipeline.studies.base.judge import Pixels, resize
from pipeline.studies.base.study import Output, TooFew

CELL_PX = 96
MIN_UNITS = 6
"""Pairs below which no sign of a difference can be told: Wilcoxon's smallest two-sided p with 6 pairs is 0.03."""


@dataclass(frozen=True)
class Side:
    """One atlas: its title, and a layer of it."""

    title: str
    layer: LayerResults


class Priors:
    """See the module."""

    name = "priors"
    title = "Priors and generators"
    needs = ("compare",)
    revision = 1

    def run(self, context: Context) -> Output:
        others = context.others
        output = Output("")
        sections, count = [], 0
        for layer in context.layers():
            sides = [Side(context.title, layer)]
            sides += [Side(other.title, other.layer(layer.name)) for other in others if layer.name in other.names]
            if len(sides) == 1:
                continue  # no other atlas has it
            shared = [unit for unit in layer.alive if all(unit in s.layer.alive for s in sides)]
            if len(shared) < MIN_UNITS:
                text = f"{len(shared)} units are alive in all {len(sides)} atlases; it takes {MIN_UNITS}."
                sections.append(Finding(f"{layer.title}: not reported", text))
                continue
            count += len(shared)
            sections.append(self._layer(context, sides, shared))
            for unit in shared:
                _show(output, sides, unit)
        if not output.blocks:
            raise TooFew(f"no layer has {MIN_UNITS} units that are alive in every atlas compared")
        names = ", ".join(other.title for other in others)
        output.summary = (
            f"The same {count} units under {1 + len(others)} generators or priors: {context.title}; {names}."
        )
        output.findings = sections
        return output

    def _layer(self, context: Context, sides: Sequence[Side], units: Sequence[int]) -> Finding:
        own = np.asarray([sides[0].layer.alive[unit].activation for unit in units])
        judged = sides[0].layer.labels is not None and context.inputs.judge is not None
        rows, p_values = [], []
        for side in sides:
            records = [side.layer.alive[unit] for unit in units]
            values = np.asarray([record.activation for record in records])
            keep = own > 0
            ratio = statistics.median(values[keep] / own[keep]).text() if keep.sum() >= statistics.MIN_MEAN else "none"
            p_values.append(_wilcoxon(values - own))
            rows.append(
                [
                    side.title,
                    f"{np.median(values):.4g}",
                    ratio,
                    *(self._judged(context, side, records) if judged else []),
                ]
            )
        corrected = ["", *(statistics.p_text(p) for p in statistics.adjusted(p_values[1:]))]
        head = (
            "generator",
            "median activation",
            "over the first's",
            *(("named by the judge", "its probability") if judged else ()),
            "adjusted p",
        )
        text = (
            f"{len(units)} units alive in every atlas. Ratios are medians within units, with 95% bootstrap intervals; "
            "p-values are Wilcoxon's signed-rank test of the activations against the first atlas. Higher "
            "activation is not a "
            "better picture: with no prior, noise that no camera makes can activate a unit most."
        )
        cells = tuple((*row, p) for row, p in zip(rows, corrected, strict=True))
        return Finding(sides[0].layer.title, text, blocks=(Table("", head, cells),))

    def _judged(self, context: Context, side: Side, records: Sequence[Record]) -> list[str]:
        labels = side.layer.labels
        known = context.judge.classes_of(labels) if labels else {}
        found = [record for record in records if record.unit in known]
        if len(found) < statistics.MIN_SHARE:
            return ["not reported: too few", ""]
        verdict = context.judge.see([seen_pixels(side.layer, record) for record in found])
        wanted = np.asarray([known[record.unit] for record in found], np.int64)
        named = statistics.share(int((verdict.ranks(wanted) < 1).sum()), len(found)).percent()
        seed = context.seed(self.name, side.title)
        return [named, statistics.mean(verdict.probabilities(wanted), seed).text()]


def _wilcoxon(differences: np.ndarray) -> float:
    return float(stats.wilcoxon(differences).pvalue) if np.any(differences != 0) else 1.0


def _show(output: Output, sides: Sequence[Side], unit: int) -> None:
    """The strip of a unit: one picture per atlas."""
    layer = sides[0].layer.name
    found: list[Pixels] = [resize(pixels(side.layer.alive[unit]), CELL_PX, CELL_PX) for side in sides]
    file = f"pictures/{layer}/{unit}.webp"
    sink = io.BytesIO()
    Image.fromarray(np.concatenate(found, axis=1)).save(sink, "WEBP", quality=85, method=4)
    output.files[file] = sink.getvalue()
    pictures = tuple(
        Picture(
            file,
            CELL_PX,
            CELL_PX,
            alt=f"unit {unit} under {side.title}",
            caption=f"{side.title}: {side.layer.alive[unit].activation:.4g}",
            left=index * CELL_PX,
            file_width=len(sides) * CELL_PX,
            file_height=CELL_PX,
        )
        for index, side in enumerate(sides)
    )
    output.show(layer, unit, Pictures("Under other priors", pictures))


STUDY = Priors()
