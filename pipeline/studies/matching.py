"""Matching: does it matter that the generator was trained to invert the very network that is explained?

Atlases of the same networks through generators of equal budget (images seen in training, size of picture), of which
some were trained for the network, matched, and others for another one, mismatched. A generator says in its card what
it was trained to invert; one that does not, and one of another budget, takes no part.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import stats

from export.errors import InputError
from pipeline.site.panels import Finding, Picture, Pictures, Table
from pipeline.studies.base import statistics
from pipeline.studies.base.context import Context, LayerResults, pixels, seen_pixels
from pipeline.studies.base.figures import COLOURS, figure, size_px
from pipeline.studies.base.judge import resize
from pipeline.studies.base.likeness import natural
from pipeline.studies.base.statistics import Estimate
from pipeline.studies.base.study import Output, TooFew

CELL_PX = 96
MIN_UNITS = 6
"""Pairs below which no sign of a difference can be told: Wilcoxon's smallest two-sided p with 6 pairs is 0.03."""
FIRST = 5
"""The judge's first choices among which a class counts as named."""
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Training:
    """What a generator's card says: digest of the network it inverts, images seen in training, side of its picture."""

    encoder: str
    images_seen: int
    image_px: int

    @property
    def budget(self) -> str:
        return f"{self.image_px} px, {self.images_seen:,} images seen in training"


@dataclass(frozen=True)
class Pair:
    """Two atlases of one network, through generators of equal budget, one matched and one not."""

    matched: Context
    mismatched: Context
    training: Training

    @property
    def network(self) -> str:
        return self.matched.workspace.network.card.title


@dataclass(frozen=True)
class Row:
    """A layer under both.

    Attributes:
        layer: its title.
        count: units alive in both.
        ratio: median of mismatched over matched.
        higher: share of units whose matched activation is the higher.
        p: of Wilcoxon's signed-rank test of the activations.
        measure: how recognisability was measured; empty where it was not.
        seen: of the matched and of the mismatched, in words.
        gain: mean difference of the measure, matched less mismatched.
    """

    layer: str
    count: int
    ratio: Estimate
    higher: Estimate
    p: float
    measure: str
    seen: tuple[str, str]
    gain: Estimate | None


class Matching:
    """See the module."""

    name = "matching"
    title = "Matched and mismatched generators"
    needs = ("compare", "judge")
    revision = 1

    def run(self, context: Context) -> Output:
        pairs = pairs_of([context, *context.compared])
        output = Output("")
        sections, drawn, count = [], list[tuple[str, Row]](), 0
        for pair in pairs:
            rows, left = [], []
            for title, sides, units in _layers(pair):
                if len(units) < MIN_UNITS:
                    left.append(f"{title}: {len(units)} units are alive in both; it takes {MIN_UNITS}.")
                    continue
                rows.append(_row(pair, sides, units))
                if pair.network == context.workspace.network.card.title:
                    _show(output, context, pair, sides, units)
            count += sum(row.count for row in rows)
            drawn += [(pair.network, row) for row in rows]
            sections.append(_finding(pair, rows, left, context))
        if not drawn:
            raise TooFew(f"no layer has {MIN_UNITS} units that are alive under both generators")
        output.summary = (
            f"{count} units of {len({name for name, _ in drawn})} networks through a generator trained to invert that "
            f"network, and through one of the same budget trained to invert another ({pairs[0].training.budget})."
        )
        output.files["figures/ratios.svg"] = _draw(drawn)
        width, height = size_px()
        alt = "Activation through the mismatched generator over the matched one's, median and 95% interval, by layer"
        figure_ = Picture("figures/ratios.svg", width, height, alt, "Left of 1: the matched generator activates more.")
        output.findings = [Finding("All layers", figure=figure_), *sections]
        return output


def training_of(context: Context) -> Training | None:
    """What the generator's card says; None where it does not say what it inverts."""
    said = context.workspace.generator.card.model_extra or {}
    try:
        encoder = str(said["encoder_layers"]["digest"])
        return Training(encoder, int(said["training_images_seen"]), context.workspace.generator.image_px)
    except (KeyError, TypeError, ValueError):
        return None


def pairs_of(contexts: Sequence[Context]) -> list[Pair]:
    """Every matched atlas with every mismatched one of its network and its generator's budget.

    Raises:
        TooFew: there is none.
    """
    known = [(context, training) for context in contexts if (training := training_of(context)) is not None]
    found = []
    for matched, training in known:
        digest = matched.workspace.network.digest
        if training.encoder != digest:
            continue
        for other, its in known:
            same = other.workspace.network.digest == digest and its.encoder != digest
            if same and (its.images_seen, its.image_px) == (training.images_seen, training.image_px):
                found.append(Pair(matched, other, training))
    if not found:
        raise TooFew(
            f"of {len(contexts)} atlases {len(known)} are through generators that say what they invert, but no network "
            "is shown through both a matched and a mismatched one of equal budget; it takes one such pair"
        )
    return found


def _layers(pair: Pair) -> list[tuple[str, tuple[LayerResults, LayerResults], list[int]]]:
    """(title, matched and mismatched results, units alive in both) of every layer that both have."""
    found = []
    for name in (n for n in pair.matched.names if n in pair.mismatched.names):
        sides = (pair.matched.layer(name), pair.mismatched.layer(name))
        alive = [side.alive for side in sides]
        units = [u for u in alive[0] if u in alive[1] and alive[0][u].target == alive[1][u].target]
        found.append((sides[0].title, sides, units))
    return found


def _row(pair: Pair, sides: tuple[LayerResults, LayerResults], units: Sequence[int]) -> Row:
    matched, mismatched = (np.asarray([s.alive[unit].activation for unit in units], np.float64) for s in sides)
    keep = matched > 0
    seed = pair.matched.seed("matching", pair.network, sides[0].name)
    ratio = statistics.median((mismatched / np.where(keep, matched, 1))[keep], seed, "units of positive activation")
    higher = statistics.share(int((matched > mismatched).sum()), len(units))
    difference = matched - mismatched
    p = float(stats.wilcoxon(difference).pvalue) if np.any(difference != 0) else 1.0
    measure, values = _recognised(pair, sides, units)
    if values is None:
        return Row(sides[0].title, len(units), ratio, higher, p, measure, ("", ""), None)
    seen = (f"{values[0].mean():.2f}", f"{values[1].mean():.2f}")
    gain = statistics.mean(values[0] - values[1], seed)
    return Row(sides[0].title, len(units), ratio, higher, p, measure, seen, gain)


def _recognised(
    pair: Pair, sides: tuple[LayerResults, LayerResults], units: Sequence[int]
) -> tuple[str, tuple[Floats, Floats] | None]:
    """How, and per side (n,): classes: named among the judge's first five, 0 or 1; other units: likeness."""
    judge = pair.matched.judge
    labels = sides[0].labels
    known = judge.classes_of(labels) if labels else {}
    judged = [unit for unit in units if unit in known] if labels else list(units)
    if len(judged) < statistics.MIN_MEAN:
        return "not reported: too few", None
    verdicts = [judge.see([seen_pixels(side, side.alive[unit]) for unit in judged]) for side in sides]
    if labels:
        wanted = np.asarray([known[unit] for unit in judged], np.int64)
        named = [(verdict.ranks(wanted) < FIRST).astype(np.float64) for verdict in verdicts]
        return f"named among the first {FIRST}", (named[0], named[1])
    for context in (pair.matched, pair.mismatched):
        try:
            seen = natural(context, context.dataset, sides[0], judged)
        except InputError:
            continue
        rows = [
            np.asarray([seen.likeness(u, verdict.features[i]) for i, u in enumerate(judged)]) for verdict in verdicts
        ]
        return "likeness to exemplars", (rows[0], rows[1])
    return "not reported: no dataset pass of this network", None


def _finding(pair: Pair, rows: Sequence[Row], left: Sequence[str], context: Context) -> Finding:
    cells = []
    for row, p in zip(rows, statistics.adjusted([row.p for row in rows]), strict=True):
        gain = "" if row.gain is None else row.gain.text()
        cells.append(
            (row.layer, row.ratio.text(), row.higher.percent(), statistics.p_text(p), row.measure, *row.seen, gain)
        )
    head = (
        "layer",
        "activation, mismatched / matched",
        "matched higher",
        "adjusted p",
        "recognisability as",
        "matched",
        "mismatched",
        "difference",
    )
    titles = [side.workspace.generator.card.title for side in (pair.matched, pair.mismatched)]
    text = (
        f"Matched: {titles[0]}; mismatched: {titles[1]}; both {pair.training.budget}. Ratios are medians within units; "
        "brackets are 95% intervals (bootstrap; Wilson's for shares); p is Wilcoxon's signed-rank test, adjusted over "
        "the layers after Benjamini and Hochberg. For classes: whether "
        f"{context.judge.network.card.title} names the class among its first {FIRST}; for other units: P(an exemplar "
        "is nearer than a random picture) in its features. A judge that one of the generators was trained to invert "
        f"favours that one. {' '.join(left)}"
    )
    return Finding(pair.network, text.strip(), blocks=(Table("", head, tuple(cells)),) if cells else ())


def _show(
    output: Output, context: Context, pair: Pair, sides: tuple[LayerResults, LayerResults], units: Sequence[int]
) -> None:
    """Both pictures of every unit that this atlas has."""
    if sides[0].name not in context.names:
        return
    own = context.layer(sides[0].name).records
    for unit in (u for u in units if u in own):
        file = f"pictures/{sides[0].name}/{unit}.webp"
        shown = [resize(pixels(side.alive[unit]), CELL_PX, CELL_PX) for side in sides]
        sink = io.BytesIO()
        Image.fromarray(np.concatenate(shown, axis=1)).save(sink, "WEBP", quality=85, method=4)
        output.files[file] = sink.getvalue()
        output.blocks.pop((sides[0].name, unit), None)  # one strip where a network has several pairs
        pictures = tuple(
            Picture(
                file,
                CELL_PX,
                CELL_PX,
                alt=f"unit {unit} through a {name} generator",
                caption=f"{name}: {side.alive[unit].activation:.4g}",
                left=place * CELL_PX,
                file_width=2 * CELL_PX,
                file_height=CELL_PX,
            )
            for place, (name, side) in enumerate(zip(("matched", "mismatched"), sides, strict=True))
        )
        output.show(sides[0].name, unit, Pictures(f"Of equal budget: {pair.training.budget}", pictures))


def _draw(rows: Sequence[tuple[str, Row]]) -> bytes:
    networks = list(dict.fromkeys(network for network, _ in rows))
    with figure() as drawing:
        for place, (network, row) in enumerate(rows):
            spread = [[row.ratio.value - row.ratio.low], [row.ratio.high - row.ratio.value]]
            colour = COLOURS[networks.index(network) % len(COLOURS)]
            first = next(i for i, (name, _) in enumerate(rows) if name == network) == place
            label = network if first else None
            drawing.axes.errorbar(
                [row.ratio.value], [place], xerr=spread, fmt="o", capsize=3, color=colour, label=label
            )
        drawing.axes.axvline(1, color="#555555", lw=0.8)
        drawing.axes.set(xlabel="activation through the mismatched generator over the matched one's")
        drawing.axes.set_yticks(range(len(rows)), [row.layer for _, row in rows])
        drawing.axes.invert_yaxis()
        drawing.axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.15), ncols=len(networks))
    return drawing.svg


STUDY = Matching()
