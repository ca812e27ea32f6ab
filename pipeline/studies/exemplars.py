"""Exemplars: the pictures of a data set that activate every unit most, typical ones and random ones."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from pipeline.dataset.result import Exemplar
from pipeline.site.panels import Column, Finding, Picture, Pictures, Table
from pipeline.studies.base.context import Context, LayerResults
from pipeline.studies.base.judge import Pixels, resize
from pipeline.studies.base.study import Output, TooFew

CELL_PX = 72
QUANTILES = (0.99, 0.9, 0.75, 0.5, 0.1)
NUM_RANDOM = 5
MIN_PICTURES = 50
"""Pictures of the data set below which a distribution is not worth showing."""
KINDS = ("top", "quantile", "random")


class Exemplars:
    """See the module."""

    name = "exemplars"
    title = "Dataset exemplars"
    needs = ("dataset",)
    revision = 1

    def run(self, context: Context) -> Output:
        dataset = context.dataset
        if dataset.num_seen < MIN_PICTURES:
            raise TooFew(f"{dataset.num_seen} pictures are too few for a distribution; it takes {MIN_PICTURES}")
        output = Output(
            f"Every unit's activation over {dataset.num_seen:,} pictures of {context.images.source.name}: the pictures "
            f"that activate it most (at any position), pictures at quantiles, and random ones from a random sample of "
            f"{len(dataset.statistics.sample_image):,}. Pictures whose licence does not allow their publication "
            f"are given "
            "as pointers: path, class and the part that the unit sees, in pixels of the network's input.",
            columns=[
                Column("best_natural", "best natural activation", "Highest over all pictures and positions."),
                Column("median_natural", "median natural activation", "Of the pictures' maxima over positions."),
            ],
        )
        published = total = 0
        for layer in context.layers():
            for unit, record in layer.alive.items():
                shown = self._unit(context, layer, unit, record.target, output)
                published, total = published + shown[0], total + shown[1]
        broken = len(dataset.facts["broken"])
        text = (
            f"{dataset.num_seen:,} of {len(context.images):,} pictures were seen; {broken} could not be read. "
            f"{published:,} of {total:,} exemplars are published as pictures, the others as pointers. Quantiles "
            f"come from "
            f"histograms of {dataset.statistics.bins} bins: each is off by less than the width of its bin. The "
            f"top pictures, "
            "minimum and maximum are exact."
        )
        output.findings.append(Finding("What was measured", text))
        return output

    def _unit(self, context: Context, layer: LayerResults, unit: int, target: str, output: Output) -> tuple[int, int]:
        dataset, counted = context.dataset, context.dataset.statistics
        column = dataset.column(layer.name, target, unit)
        rng = np.random.default_rng(context.seed(self.name, layer.name, unit))
        rows = rng.choice(len(counted.sample_image), min(NUM_RANDOM, len(counted.sample_image)), replace=False)
        found = {
            "top": dataset.top(layer.name, target, unit),
            "quantile": dataset.at_quantiles(layer.name, target, unit, QUANTILES),
            "random": dataset.sampled(layer.name, target, unit, rows.tolist()),
        }
        output.put(
            layer.name,
            unit,
            best_natural=float(counted.high[column]),
            median_natural=counted.quantile(column, 0.5),
            natural_q01=counted.quantile(column, 0.01),
            natural_q10=counted.quantile(column, 0.1),
            natural_q90=counted.quantile(column, 0.9),
            natural_q99=counted.quantile(column, 0.99),
            mean_natural=float(counted.mean()[column]),
            std_natural=float(counted.std()[column]),
            pictures_seen=counted.num_seen,
        )
        listed = [(kind, exemplar) for kind in KINDS for exemplar in found[kind]]
        open_ones = [(kind, e) for kind, e in listed if context.publishable(e.path)]
        if open_ones:
            file = f"pictures/{layer.name}/{unit}.webp"
            output.files[file] = _sheet([dataset.crop(e) for _, e in open_ones])
            pictures = _pictures(file, open_ones)
            for kind, title in (
                ("top", "Pictures that activate it most"),
                ("quantile", "Pictures at quantiles"),
                ("random", "Random pictures"),
            ):
                if pictures[kind]:
                    output.show(layer.name, unit, Pictures(title, tuple(pictures[kind])))
        output.show(layer.name, unit, _pointers(listed))
        return len(open_ones), len(listed)


def _pictures(file: str, shown: Sequence[tuple[str, Exemplar]]) -> dict[str, list[Picture]]:
    """Where in the sheet each picture lies."""
    found: dict[str, list[Picture]] = {kind: [] for kind in KINDS}
    for number, (kind, e) in enumerate(shown):
        picture = Picture(
            file,
            CELL_PX,
            CELL_PX,
            alt=f"{kind} exemplar {e.path}",
            caption=f"{e.activation:.3g} {e.label}",
            left=number * CELL_PX,
            file_width=len(shown) * CELL_PX,
            file_height=CELL_PX,
        )
        found[kind].append(picture)
    return found


def _pointers(listed: Sequence[tuple[str, Exemplar]]) -> Table:
    rows = tuple(
        (kind, f"{e.activation:.4g}", e.label, e.path, f"{e.box.left},{e.box.top} to {e.box.right},{e.box.bottom}")
        for kind, e in listed
    )
    return Table("Exemplars as pointers", ("kind", "activation", "class", "path", "part seen"), rows)


def _sheet(crops: Sequence[Pixels]) -> bytes:
    sheet = np.concatenate([resize(crop, CELL_PX, CELL_PX) for crop in crops], axis=1)
    sink = io.BytesIO()
    Image.fromarray(sheet).save(sink, "WEBP", quality=80, method=4)
    return sink.getvalue()


STUDY = Exemplars()
