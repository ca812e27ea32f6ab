"""Diversity: how much the synthetic pictures of one unit differ between start codes, in likeness and in activation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from pipeline.engines import Engines
from pipeline.records import Record
from pipeline.site.panels import Column, Finding, Table
from pipeline.studies.base import statistics
from pipeline.studies.base.context import Context, LayerResults, seen_pixels
from pipeline.studies.base.judge import Pixels, resize
from pipeline.studies.base.more import seeds_of
from pipeline.studies.base.similarity import ms_ssim
from pipeline.studies.base.study import Output, TooFew

NUM_UNITS = 8
"""Units of a layer that get further start codes, where the atlas has one each."""
NUM_SEEDS = 3
SIDE_PX = 64
"""Pictures are compared at this side, the part that a unit sees enlarged."""


class Diversity:
    """See the module."""

    name = "diversity"
    title = "Diversity"
    needs = ("judge",)
    revision = 1

    def run(self, context: Context) -> Output:
        output = Output(
            "",
            columns=[
                Column(
                    "seed_distance", "distance between start codes", "Cosine distance of the judge's features, mean."
                ),
                Column("seed_ms_ssim", "MS-SSIM between start codes", "Structural likeness, 0 to 1, mean."),
                Column("seed_spread", "activation spread", "Standard deviation over the mean, over start codes."),
            ],
        )
        rows, count = [], 0
        with Engines(context.workspace) as engines:
            for layer in context.layers():
                row, units = self._layer(context, layer, engines, output)
                rows.append(row)
                count += units
        if not count:
            raise TooFew(f"no layer has {statistics.MIN_MEAN} units with two start codes that are not dead")
        output.summary = (
            f"How much the pictures of one unit differ over up to {NUM_SEEDS} start codes ({count} units): "
            f"distance in the "
            "judge's features and multi-scale SSIM, beside different units of the same layer."
        )
        head = (
            "layer",
            "units",
            "distance, same unit",
            "distance, different units",
            "same nearer than different",
            "MS-SSIM, same unit",
            "MS-SSIM, different units",
            "activation spread",
        )
        text = (
            f"Where the atlas has one start code per unit, {NUM_UNITS} units of a layer were chosen at random "
            f"and given "
            f"{NUM_SEEDS}. Medians over units, of the part that the unit sees; brackets are 95% bootstrap "
            f"intervals over units. "
            "'Same nearer than different' is the probability that two pictures of one unit are nearer than "
            "pictures of two "
            "units: 50% would mean that start codes matter as much as the unit."
        )
        output.findings.append(Finding("Start codes against units", text, blocks=(Table("", head, tuple(rows)),)))
        return output

    def _layer(
        self, context: Context, layer: LayerResults, engines: Engines, output: Output
    ) -> tuple[tuple[str, ...], int]:
        records = self._records(context, layer, engines)
        if len(records) < statistics.MIN_MEAN:
            return (layer.title, str(len(records)), "not reported: too few units", *[""] * 5), 0
        pictures = [[_shown(layer, record) for record in found] for found in records.values()]
        flat = context.judge.see([picture for found in pictures for picture in found]).features
        ends = np.cumsum([len(found) for found in pictures])
        features = [flat[end - len(found) : end] for end, found in zip(ends, pictures, strict=True)]
        own = [_mean_distance(f) for f in features]
        own_ssim = [float(np.mean([ms_ssim(a, b) for a, b in combinations(found, 2)])) for found in pictures]
        pairs = list(combinations(range(len(pictures)), 2))
        between = [1 - float(features[i][0] @ features[j][0]) for i, j in pairs]
        between_ssim = [ms_ssim(pictures[i][0], pictures[j][0]) for i, j in pairs]
        spreads = [_spread(found) for found in records.values()]
        for row, unit in enumerate(records):
            output.put(layer.name, unit, seed_distance=own[row], seed_ms_ssim=own_ssim[row], seed_spread=spreads[row])
        nearer = statistics.probability_of_superiority(between, own)
        return (
            layer.title,
            str(len(records)),
            statistics.median(own).text(),
            f"{np.median(between):.2f}",
            f"{nearer:.0%}",
            statistics.median(own_ssim).text(),
            f"{np.median(between_ssim):.2f}",
            statistics.median([s for s in spreads if s is not None]).text() if None not in spreads else "",
        ), len(records)

    def _records(self, context: Context, layer: LayerResults, engines: Engines) -> dict[int, list[Record]]:
        """Units with two or more start codes: the atlas's own, or a few that get more."""
        found = {
            unit: [r for r in records if r.status == "done" and r.target == layer.name]
            for unit, records in layer.records.items()
        }
        several = {unit: records for unit, records in found.items() if len(records) > 1}
        if several or len(layer.alive) < statistics.MIN_MEAN:
            return several
        rng = np.random.default_rng(context.seed(self.name, layer.name))
        units = sorted(rng.permutation(list(layer.alive))[:NUM_UNITS].tolist())
        more = seeds_of(context, layer, units, NUM_SEEDS, engines)
        same = {unit: [r for r in more[unit] if r.target == layer.alive[unit].target] for unit in units}
        return {unit: records for unit, records in same.items() if len(records) > 1}


def _shown(layer: LayerResults, record: Record) -> Pixels:
    return resize(seen_pixels(layer, record), SIDE_PX, SIDE_PX)


def _mean_distance(features: npt.NDArray[np.float32]) -> float:
    return float(np.mean([1 - float(features[i] @ features[j]) for i, j in combinations(range(len(features)), 2)]))


def _spread(records: Sequence[Record]) -> float | None:
    values = [record.activation for record in records]
    centre = abs(float(np.mean(values)))
    return float(np.std(values, ddof=1)) / centre if centre > 0 else None


STUDY = Diversity()
