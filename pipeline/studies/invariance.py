"""Invariance: what is left of a unit's activation when its picture is shifted, scaled or covered with noise.

The same for the unit's best natural pictures, at the position where each activates it most. What is left is
``(a - m) / (a0 - m)``: activation after and before, m the median natural activation at one position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage, stats

from export.forward import Readout, centre_of, compile_forward
from export.manifest import Box
from pipeline.forward import Forward
from pipeline.site.panels import Column, Finding, Lines, Picture, Series, Table
from pipeline.studies.base import statistics
from pipeline.studies.base.context import Context, LayerResults, pixels
from pipeline.studies.base.figures import COLOURS, figure, size_px
from pipeline.studies.base.judge import Pixels, resize
from pipeline.studies.base.study import Output, TooFew

NUM_UNITS = 24
NUM_EXEMPLARS = 3
BATCH = 16


@dataclass(frozen=True)
class Change:
    """One change of a picture: shift in parts of the network's input, factor of scale, noise in grey levels."""

    kind: str
    amount: float

    @property
    def name(self) -> str:
        return {
            "shift": f"shifted by {self.amount:.1%} of the side",
            "scale": f"scaled by {self.amount:g}",
            "noise": f"noise of {self.amount:g} grey levels",
        }[self.kind]

    def variants(self, picture: Pixels, box: Box, seed: int) -> list[Pixels]:
        """The picture changed, about the middle of ``box``; edges are repeated."""
        if self.kind == "noise":
            noise = np.random.default_rng(seed).normal(0, self.amount, picture.shape)
            return [np.clip(picture + noise, 0, 255).astype(np.uint8)]
        middle = np.asarray([(box.top + box.bottom) / 2, (box.left + box.right) / 2])
        if self.kind == "scale":
            return [_moved(picture, middle - middle / self.amount, 1 / self.amount)]
        distance = self.amount * picture.shape[0]
        return [_moved(picture, distance * np.asarray(d), 1.0) for d in ((0, 1), (0, -1), (1, 0), (-1, 0))]


CHANGES = (
    Change("shift", 1 / 64),
    Change("shift", 1 / 32),
    Change("shift", 1 / 16),
    Change("scale", 0.8),
    Change("scale", 1.25),
    Change("noise", 8),
    Change("noise", 16),
    Change("noise", 32),
)


class Invariance:
    """See the module."""

    name = "invariance"
    title = "Invariance"
    needs = ("dataset",)
    revision = 1

    def run(self, context: Context) -> Output:
        output = Output(
            "",
            columns=[
                Column("kept_shift", "kept when shifted", "Share of the activation left, shifted by 1/32 of the side."),
                Column("kept_noise", "kept under noise", "Share of the activation left, noise of 16 grey levels."),
            ],
        )
        sections, curves, count = [], list[tuple[str, npt.NDArray[np.float64]]](), 0
        for layer in context.layers():
            kept = self._layer(context, layer, output)
            if kept is None:
                text = f"Fewer than {statistics.MIN_MEAN} units have a synthetic and a natural picture to compare."
                sections.append(Finding(f"{layer.title}: not reported", text))
                continue
            count += len(kept)
            sections.append(_finding(layer, kept))
            curves.append((layer.title, kept))
        if not curves:
            raise TooFew(f"no layer has {statistics.MIN_MEAN} units to compare")
        output.summary = (
            f"What is left of the activation when pictures are shifted, scaled or covered with noise: {count} "
            f"units, their "
            f"synthetic picture against their {NUM_EXEMPLARS} best natural ones. 1 is all of it, 0 the median "
            f"natural picture."
        )
        output.files["figures/kept.svg"] = _draw(curves)
        width, height = size_px()
        alt = "Activation kept under each change, synthetic and natural pictures, by layer"
        output.findings = [Finding("All layers", figure=Picture("figures/kept.svg", width, height, alt)), *sections]
        return output

    def _layer(self, context: Context, layer: LayerResults, output: Output) -> npt.NDArray[np.float64] | None:
        """(units, changes, 2): kept by the synthetic and by the natural pictures; None when there are too few units."""
        alive = {unit: r for unit, r in layer.alive.items() if r.target == layer.name}
        rng = np.random.default_rng(context.seed(self.name, layer.name))
        units = sorted(rng.permutation(list(alive))[:NUM_UNITS].tolist()) if alive else []
        if len(units) < statistics.MIN_MEAN:
            return None
        dataset, card = context.dataset, context.workspace.network.card.input
        network = context.workspace.network
        readout = Readout("activation", layer.info.tensor, "at")
        forward = Forward(compile_forward(network, [readout], batch=BATCH), context.workspace.config.run.threads)
        centre = dataset.box(layer.name, layer.name)
        place = centre_of(layer.info.shape)
        rows, kept_units = [], []
        for unit in units:
            base = dataset.statistics.quantile(dataset.column(layer.name, layer.name, unit, centre=True), 0.5)
            seed = context.seed(self.name, layer.name, unit)
            synthetic = resize(pixels(alive[unit]), card.height, card.width)
            own = _kept(forward, unit, [(synthetic, place, centre)], base, seed)
            exemplars = dataset.top(layer.name, layer.name, unit)[:NUM_EXEMPLARS]
            pictures = context.images.pictures([e.image for e in exemplars], card.height, card.width)
            natural = _kept(
                forward, unit, [(p, e.place, e.box) for p, e in zip(pictures, exemplars, strict=True)], base, seed
            )
            if own is None or natural is None:
                continue
            rows.append(np.stack([own, natural], axis=1))
            kept_units.append(unit)
            shift, noise = CHANGES.index(Change("shift", 1 / 32)), CHANGES.index(Change("noise", 16))
            output.put(layer.name, unit, kept_shift=float(own[shift]), kept_noise=float(own[noise]))
            output.show(layer.name, unit, _lines(own, natural))
        return np.stack(rows) if len(rows) >= statistics.MIN_MEAN else None


def _kept(
    forward: Forward, unit: int, cases: Sequence[tuple[Pixels, int, Box]], base: float, seed: int
) -> npt.NDArray[np.float64] | None:
    """(changes,) what is left, mean over cases and variants; None when no case lies above the base."""
    pictures, places, sizes = [], [], []
    for picture, place, box in cases:
        variants = [change.variants(picture, box, seed + k) for k, change in enumerate(CHANGES)]
        sizes.append([len(v) for v in variants])
        found = [picture, *(p for v in variants for p in v)]
        pictures += found
        places += [place] * len(found)
    count = len(pictures)
    values = forward(image=np.stack(pictures), unit=np.full(count, unit), place=np.asarray(places))["activation"]
    left, start = [], 0
    for size in sizes:
        first = float(values[start]) - base
        ends = start + 1 + np.cumsum(size)
        means = [float(values[end - n : end].mean()) - base for end, n in zip(ends, size, strict=True)]
        if first > 0:
            left.append([mean / first for mean in means])
        start = int(ends[-1])
    return np.asarray(np.mean(left, axis=0)) if left else None


def _moved(picture: Pixels, offset: npt.NDArray[np.float64], factor: float) -> Pixels:
    """``out[p] = picture[factor * p + offset]`` per channel, linear between pixels."""
    channels = [
        ndimage.affine_transform(
            picture[:, :, c].astype(np.float32), np.asarray([factor, factor]), offset, order=1, mode="nearest"
        )
        for c in range(3)
    ]
    return np.asarray(np.clip(np.rint(np.stack(channels, axis=-1)), 0, 255), np.uint8)


def _finding(layer: LayerResults, kept: npt.NDArray[np.float64]) -> Finding:
    rows = []
    p_values = [_wilcoxon(kept[:, k, 0] - kept[:, k, 1]) for k in range(len(CHANGES))]
    for k, (change, p) in enumerate(zip(CHANGES, statistics.adjusted(p_values), strict=True)):
        synthetic, natural = (statistics.median(kept[:, k, side]).text() for side in (0, 1))
        difference = statistics.median(kept[:, k, 0] - kept[:, k, 1]).text()
        rows.append((change.name, synthetic, natural, difference, statistics.p_text(p)))
    head = ("change", "synthetic keeps", "natural keeps", "difference", "adjusted p")
    text = (
        "Medians over units with 95% bootstrap intervals; Wilcoxon's signed-rank test of the difference within units, "
        "adjusted over the changes after Benjamini and Hochberg."
    )
    return Finding(f"{layer.title}: {len(kept)} units", text, blocks=(Table("", head, tuple(rows)),))


def _wilcoxon(differences: npt.NDArray[np.float64]) -> float:
    return float(stats.wilcoxon(differences).pvalue) if np.any(differences != 0) else 1.0


def _lines(own: npt.NDArray[np.float64], natural: npt.NDArray[np.float64]) -> Lines:
    steps = [k for k, change in enumerate(CHANGES) if change.kind == "noise"]
    amounts = (0.0, *(CHANGES[k].amount for k in steps))
    series = (
        Series("synthetic", amounts, (1.0, *(float(own[k]) for k in steps))),
        Series("natural", amounts, (1.0, *(float(natural[k]) for k in steps))),
    )
    return Lines("Activation kept under noise", "noise, grey levels", "share kept", series)


def _draw(curves: Sequence[tuple[str, npt.NDArray[np.float64]]]) -> bytes:
    with figure() as drawing:
        positions = np.arange(len(CHANGES))
        for index, (title, kept) in enumerate(curves):
            colour = COLOURS[index % len(COLOURS)]
            middle = np.median(kept, axis=0)
            drawing.axes.plot(positions, middle[:, 0], "o-", ms=3, color=colour, label=title)
            drawing.axes.plot(positions, middle[:, 1], "s--", ms=3, color=colour, alpha=0.5)
        names = [f"{change.kind}\n{change.amount:.3g}" for change in CHANGES]
        drawing.axes.set(ylabel="share of activation kept", title="solid: synthetic, dashed: natural")
        drawing.axes.set_xticks(positions, names)
        drawing.axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return drawing.svg


STUDY = Invariance()
