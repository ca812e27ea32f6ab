"""Evolution: how each unit's preferred input changes while the network is trained.

The same units at every checkpoint; each ascent starts from the code of the checkpoint before. An ascent also moves when
the network has not changed at all, so every step in training is compared with its own null: the checkpoint before, run
once more from the very same code for as many steps. Drift is what is left above that.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import stats

from export.forward import Readout, compile_forward
from pipeline.engines import Engines
from pipeline.forward import Forward
from pipeline.records import Record
from pipeline.site.panels import Column, Finding, Lines, Picture, Pictures, Series, Table
from pipeline.studies.base import statistics
from pipeline.studies.base.context import Context, LayerResults, pixels, seen_pixels
from pipeline.studies.base.embeddings import Kind, embed
from pipeline.studies.base.figures import COLOURS, figure, size_px
from pipeline.studies.base.judge import Pixels, resize
from pipeline.studies.base.more import key_of, records_of
from pipeline.studies.base.study import Output, TooFew
from pipeline.warm import keep_codes
from pipeline.workspace import Workspace

NUM_UNITS = 16
"""Units of a layer that are followed; all where it has no more."""
MIN_UNITS = 6
"""Pairs below which Wilcoxon's test cannot tell a sign at 5%."""
SIDE_PX = 64
CELL_PX = 96
BATCH = 16
METHOD = (
    "Each ascent starts from the code of the checkpoint before. Null: the checkpoint before, run once more from its "
    "own code for as many steps, so that only the network differs. Drift: the picture's move less its null, within "
    "units. All are medians over units, of the part that the unit sees, with 95% bootstrap intervals; p is Wilcoxon's "
    "signed-rank test of the drift, adjusted over a layer's steps after Benjamini and Hochberg.\n\n"
    "Activation kept: what the unit, as it is after the step, gives its picture of before it; 1 is all that it gives "
    "its own, 0 what it gives other units' pictures. 'When it was formed' shows every checkpoint's picture to the "
    "last network. The last pictures are not those of the atlas, which started elsewhere."
)
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Trace:
    """What was measured of a layer's units over T checkpoints.

    Attributes:
        followed: number of units that were.
        units: those of them that are alive at every checkpoint.
        records: per checkpoint, unit -> record.
        moved: (T - 1, units) distance between the pictures of two checkpoints that follow each other.
        null: (T - 1, units) the same where the network stayed as it was.
        kept: (T - 1, units) of the activation at a checkpoint, the share that the picture of the one before has.
        last_kept: (T, units) of the activation at the last checkpoint, the share that each checkpoint's picture has.
    """

    followed: int
    units: tuple[int, ...]
    records: tuple[dict[int, Record], ...]
    moved: Floats
    null: Floats
    kept: Floats
    last_kept: Floats

    @property
    def drift(self) -> Floats:
        """(T - 1, units) what training moved the picture by, above what the ascent moves it by itself."""
        return self.moved - self.null


class Evolution:
    """See the module."""

    name = "evolution"
    title = "Evolution in training"
    needs = ("checkpoints",)
    revision = 1

    def run(self, context: Context) -> Output:
        stages = context.checkpoints
        names = tuple(path.stem for path in context.inputs.checkpoints)
        kind: Kind = "judge" if context.inputs.judge is not None else "pixels"
        output = Output(
            "",
            columns=[
                Column(
                    "drift", "drift in training", "Largest move of the picture between checkpoints, above the null."
                ),
                Column(
                    "kept", "kept in training", "Least share of the activation that an earlier picture has.", sort="low"
                ),
            ],
        )
        sections, curves, count = [], list[tuple[str, Trace]](), 0
        for layer in context.layers():
            trace = _followed(context, layer, stages, kind)
            if len(trace.units) < MIN_UNITS:
                few = f"{len(trace.units)} of {trace.followed} units"
                text = f"{few} were alive at every checkpoint; it takes {MIN_UNITS}."
                sections.append(Finding(f"{layer.title}: not reported", text))
                continue
            count += len(trace.units)
            curves.append((layer.title, trace))
            sections.append(_finding(layer, names, trace))
            _show(output, layer, names, trace)
        if not curves:
            raise TooFew(f"no layer has {MIN_UNITS} units that are alive at every checkpoint")
        measure = "the judge's features" if kind == "judge" else "coarse pixels (no judge was given)"
        output.summary = (
            f"{count} units over {len(stages)} checkpoints of the training, {names[0]} to {names[-1]}: how far their "
            f"preferred pictures move, as cosine distance in {measure}, against the same ascent under an unchanged "
            "network; and how much activation an earlier picture keeps."
        )
        output.files["figures/drift.svg"] = _draw(names, curves)
        width, height = size_px()
        alt = "Median drift above the null from checkpoint to checkpoint, by layer, with 95% intervals"
        output.findings = [Finding("All layers", METHOD, Picture("figures/drift.svg", width, height, alt)), *sections]
        return output


def _followed(context: Context, layer: LayerResults, stages: Sequence[Workspace], kind: Kind) -> Trace:
    """Run the chain of ascents, and measure."""
    rng = np.random.default_rng(context.seed("evolution", layer.name))
    units = sorted(rng.permutation(list(layer.records))[:NUM_UNITS].tolist())
    found, again, start = list[dict[int, Record]](), list[dict[int, Record]](), None
    for place, stage in enumerate(stages):
        with Engines(stage) as engines:
            found.append(records_of(stage, layer.name, units, engines, start=start))
            start = keep_codes(stage.store, key_of(stage, layer.name, start=start))
            if place < len(stages) - 1:
                again.append(records_of(stage, layer.name, units, engines, start=start))
    alive = tuple(u for u in units if all(_is_alive(layer, records[u]) for records in (*found, *again)))
    steps = len(stages) - 1
    if not alive:
        empty = np.empty((steps, 0))
        return Trace(len(units), (), tuple(found), empty, empty, empty, np.empty((steps + 1, 0)))

    def seen(records: dict[int, Record]) -> npt.NDArray[np.float32]:
        return embed(context, [resize(seen_pixels(layer, records[u]), SIDE_PX, SIDE_PX) for u in alive], kind)

    points = [seen(records) for records in found]
    moved = [_distance(points[t], points[t + 1]) for t in range(steps)]
    null = [_distance(points[t], seen(again[t])) for t in range(steps)]
    responses = [_responses(stage, layer, alive, found) for stage in stages]
    kept = [_share(responses[t + 1], t, t + 1) for t in range(steps)]
    last = [_share(responses[-1], t, steps) for t in range(steps + 1)]
    return Trace(len(units), alive, tuple(found), *(np.asarray(a, np.float64) for a in (moved, null, kept, last)))


def _is_alive(layer: LayerResults, record: Record) -> bool:
    return record.status == "done" and record.target == layer.name


def _distance(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> Floats:
    return np.asarray(1 - np.sum(a.astype(np.float64) * b, axis=1))


def _responses(
    stage: Workspace, layer: LayerResults, units: Sequence[int], found: Sequence[dict[int, Record]]
) -> npt.NDArray[np.float64]:
    """(T, pictures, units): what every unit of this checkpoint's network answers to every unit's picture of each."""
    own, card = stage.network.layer(layer.name), stage.network.card.input
    cropped = stage.config.ascent.fit == "crop"
    readout = Readout("activation", own.tensor, "values" if len(own.shape) == 1 else "centre")
    side = None if cropped else layer.image_px
    forward = Forward(compile_forward(stage.network, [readout], batch=BATCH, image_px=side), stage.config.run.threads)
    shown = [[pixels(records[unit]) for unit in units] for records in found]
    if cropped:
        shown = [[_middle(picture, card.height, card.width) for picture in row] for row in shown]
    values = forward(image=np.concatenate([np.stack(row) for row in shown]))["activation"]
    return np.asarray(values, np.float64)[:, list(units)].reshape(len(found), len(units), len(units))


def _middle(picture: Pixels, height: int, width: int) -> Pixels:
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    return picture[top : top + height, left : left + width]


def _share(responses: Floats, of: int, against: int) -> Floats:
    """(units,) ``(a - m) / (a' - m)``: a unit's answer to its picture of one checkpoint, over that of another.

    m: its median answer to the other units' pictures at the latter; nan where its own picture does no better.
    """
    count = responses.shape[1]
    rest = responses[against].copy()
    np.fill_diagonal(rest, np.nan)
    base = np.nanmedian(rest, axis=0) if count > 1 else np.zeros(count)
    whole = np.diagonal(responses[against]) - base
    part = np.diagonal(responses[of]) - base
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), np.nan)


def _finding(layer: LayerResults, names: Sequence[str], trace: Trace) -> Finding:
    p_values = [_wilcoxon(drift) for drift in trace.drift]
    rows = []
    for t, p in enumerate(statistics.adjusted(p_values)):
        rows.append(
            (
                f"{names[t]} to {names[t + 1]}",
                f"{np.median(trace.moved[t]):.3f}",
                f"{np.median(trace.null[t]):.3f}",
                statistics.median(trace.drift[t]).among(len(trace.units), "{:.3f}"),
                statistics.p_text(p),
                _median(trace.kept[t]),
            )
        )
    head = ("step in training", "picture moved", "null: same network", "drift", "adjusted p", "activation kept")
    formed = (
        ("checkpoint", "median activation", "of the last network's activation"),
        tuple(
            (
                name,
                f"{np.median([records[unit].activation for unit in trace.units]):.4g}",
                _median(trace.last_kept[t]),
            )
            for t, (name, records) in enumerate(zip(names, trace.records, strict=True))
        ),
    )
    text = (
        f"n = {len(trace.units)} of the {trace.followed} units followed: those that are alive at every checkpoint; "
        "what is said holds for them."
    )
    return Finding(layer.title, text, blocks=(Table("", head, tuple(rows)), Table("When it was formed", *formed)))


def _median(values: Floats) -> str:
    """With its interval; units whose own picture does no better than others' are left out."""
    try:
        return statistics.median(values).among(len(values))
    except TooFew as error:
        return f"not reported: {error}"


def _wilcoxon(differences: Floats) -> float:
    return float(stats.wilcoxon(differences).pvalue) if np.any(differences != 0) else 1.0


def _show(output: Output, layer: LayerResults, names: Sequence[str], trace: Trace) -> None:
    """A unit's numbers, its film strip and its curve."""
    count = len(names)
    for row, unit in enumerate(trace.units):
        kept = trace.kept[:, row]
        least = float(np.nanmin(kept)) if np.isfinite(kept).any() else float("nan")
        output.put(layer.name, unit, drift=float(trace.drift[:, row].max()), kept=least)
        file = f"films/{layer.name}/{unit}.webp"
        shown = [resize(pixels(records[unit]), CELL_PX, CELL_PX) for records in trace.records]
        sink = io.BytesIO()
        Image.fromarray(np.concatenate(shown, axis=1)).save(sink, "WEBP", quality=85, method=4)
        output.files[file] = sink.getvalue()
        film = tuple(
            Picture(
                file,
                CELL_PX,
                CELL_PX,
                alt=f"unit {unit} at checkpoint {name}",
                caption=f"{name}: {records[unit].activation:.4g}",
                left=place * CELL_PX,
                file_width=count * CELL_PX,
                file_height=CELL_PX,
            )
            for place, (name, records) in enumerate(zip(names, trace.records, strict=True))
        )
        steps = tuple(float(t) for t in range(1, count))
        series = tuple(
            Series(name, steps, tuple(float(v) for v in values[:, row]))
            for name, values in (("picture moved", trace.moved), ("null", trace.null))
        )
        output.show(
            layer.name,
            unit,
            Pictures("At each checkpoint, each from the one before", film),
            Lines("Moved since the checkpoint before", "checkpoint", "distance", series),
        )


def _draw(names: Sequence[str], curves: Sequence[tuple[str, Trace]]) -> bytes:
    with figure() as drawing:
        steps = np.arange(1, len(names))
        for index, (title, trace) in enumerate(curves):
            estimates = [statistics.median(drift) for drift in trace.drift]
            middle = np.asarray([e.value for e in estimates])
            spread = np.asarray([[e.value - e.low for e in estimates], [e.high - e.value for e in estimates]])
            shift = 0.06 * (index - (len(curves) - 1) / 2)
            colour = COLOURS[index % len(COLOURS)]
            drawing.axes.errorbar(steps + shift, middle, spread, fmt="o-", ms=4, capsize=2, color=colour, label=title)
        drawing.axes.axhline(0, color="#555555", lw=0.8)
        drawing.axes.set(ylabel="drift: distance above the null", xlabel="up to checkpoint")
        drawing.axes.set_xticks(steps, names[1:])
        drawing.axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return drawing.svg


STUDY = Evolution()
