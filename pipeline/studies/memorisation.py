"""Memorisation: does the generator give back training pictures?

For each synthetic picture, its distance to the nearest training picture over its distance to the nearest held-out
picture, in two embeddings. The ratio is near 0 for a copy. Blur brings a picture nearer to all others; in the ratio
that cancels. The null is the same ratio of held-out pictures themselves. The study plants copies and reports how many
it finds.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance

from pipeline.dataset.images import ImageSet
from pipeline.site.panels import Column, Facts, Finding, Table
from pipeline.studies.base import statistics
from pipeline.studies.base.context import Context, pixels
from pipeline.studies.base.embeddings import KINDS, Floats, Kind, embed, embed_set, nearest
from pipeline.studies.base.judge import Pixels
from pipeline.studies.base.study import Output, TooFew

MIN_HELD_OUT = 300
"""The smallest p-value is 1 / (held-out pictures in the null + 1), and a quarter of them tests the null."""
MIN_TRAINING = 200
LIMITS: dict[Kind, int] = {"pixels": 30_000, "judge": 2000}
"""Training pictures at most per embedding: what two processor cores do in some minutes."""
MAX_HELD_OUT = 1000
NUM_PLANTED = 200
LEVEL = 0.01
"""A picture is flagged when at most this share of held-out pictures are as near to the training pictures."""
TINY = 1e-6


@dataclass(frozen=True)
class Index:
    """Training and held-out pictures in one embedding.

    Attributes:
        training: (n, D).
        names: of the training pictures.
        held_out: (m, D), to which distances are compared.
        null: (k,) ratios of held-out pictures, ascending.
    """

    training: Floats
    names: Sequence[str]
    held_out: Floats
    null: npt.NDArray[np.float64]

    def ratios(self, points: Floats) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """(ratio, index of the nearest training picture) of each point."""
        own, which = nearest(points, self.training)
        other, _ = nearest(points, self.held_out)
        return (own + TINY) / (other.astype(np.float64) + TINY), which

    def p_values(self, ratios: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Share of held-out pictures with as low a ratio, the picture itself counted among them."""
        return (1 + np.searchsorted(self.null, ratios, side="right")) / (1 + len(self.null))


class Memorisation:
    """See the module."""

    name = "memorisation"
    title = "Memorisation"
    needs = ("judge", "training", "held_out")
    revision = 1

    def run(self, context: Context) -> Output:
        training, held_out = _numbered(context.training), _numbered(context.held_out)
        if len(held_out) < MIN_HELD_OUT or len(training) < MIN_TRAINING:
            raise TooFew(
                f"{len(training)} training and {len(held_out)} held-out pictures are too few; it takes "
                f"{MIN_TRAINING} and "
                f"{MIN_HELD_OUT}"
            )
        side = next(iter(context.layers())).image_px
        rng = np.random.default_rng(context.seed(self.name))
        held_rows = rng.permutation(len(held_out))[:MAX_HELD_OUT]
        tested, kept = np.split(held_rows, [len(held_rows) // 4])
        indices, false_rate, planted = dict[Kind, Index](), dict[Kind, npt.NDArray[np.float64]](), {}
        searched = {kind: np.sort(rng.permutation(len(training))[: LIMITS[kind]]) for kind in KINDS}
        common = np.intersect1d(searched["pixels"], searched["judge"])
        copies = _planted(training, common[rng.permutation(len(common))[:NUM_PLANTED]], side)
        for kind, rows in searched.items():
            index = _index(context, training, rows, held_out, kept, side, kind)
            indices[kind] = index
            test, _ = index.ratios(_embedded(context, held_out, tested, side, kind))
            false_rate[kind] = index.p_values(test)
            planted[kind] = {
                name: index.p_values(index.ratios(embed(context, found, kind))[0]) for name, found in copies.items()
            }
        output = Output(
            f"Whether synthetic pictures are copies of training pictures: nearest of "
            f"{len(searched['pixels']):,} by coarse "
            f"pixels and of {len(searched['judge']):,} by the judge's features, out of {len(training):,} "
            f"training pictures, "
            f"against nearest of {len(kept):,} held-out pictures.",
            columns=[
                Column("copy_p", "p of being a copy", "Held-out pictures as near to training, 0 to 1.", sort="low"),
                Column(
                    "copy_flagged", "flagged as a copy", f"p at most {LEVEL:g} in either embedding, halved.", "yesno"
                ),
            ],
        )
        rows_out = [self._layer(context, layer.name, indices, output) for layer in context.layers()]
        output.findings += [
            _flagged_finding(rows_out, indices, len(training), len(kept)),
            _power_finding(planted, false_rate),
        ]
        return output

    def _layer(self, context: Context, name: str, indices: dict[Kind, Index], output: Output) -> tuple[str, ...]:
        layer = context.layer(name)
        alive = layer.alive
        if len(alive) < statistics.MIN_SHARE:
            return (layer.title, str(len(alive)), "not reported: too few units", "", "")
        pictures = [pixels(record) for record in alive.values()]
        p_values, closer, facts = [], [], [list[tuple[str, str]]() for _ in alive]
        for kind, index in indices.items():
            points = embed(context, pictures, kind)
            ratios, which = index.ratios(points)
            own = index.p_values(ratios)
            p_values.append(own)
            closer.append(_closer(index, points, context.seed(self.name, name, kind)))
            for row in range(len(alive)):
                text = f"{index.names[which[row]]}, distance ratio {ratios[row]:.2f}, p = {own[row]:.3f}"
                facts[row].append((f"nearest training picture by {_NAMES[kind]}", text))
        best = np.min(p_values, axis=0)
        flagged = best <= LEVEL / len(indices)
        for row, unit in enumerate(alive):
            output.put(name, unit, copy_p=float(min(1.0, best[row] * len(indices))), copy_flagged=bool(flagged[row]))
            output.show(name, unit, Facts(tuple(facts[row])))
        return (
            layer.title,
            str(len(alive)),
            statistics.share(int(flagged.sum()), len(alive)).percent(),
            *(statistics.share(int(near.sum()), len(near)).percent() for near in closer),
        )


_NAMES: dict[Kind, str] = {"pixels": "coarse pixels", "judge": "the judge's features"}


def _closer(index: Index, points: Floats, seed: int) -> npt.NDArray[np.bool_]:
    """Whether each point is nearer to training than to held-out pictures, as many of the one as of the other."""
    count = min(len(index.training), len(index.held_out))
    rng = np.random.default_rng(seed)
    part = index.training[rng.permutation(len(index.training))[:count]]
    other = index.held_out[rng.permutation(len(index.held_out))[:count]]
    near: npt.NDArray[np.bool_] = nearest(points, part)[0] < nearest(points, other)[0]
    return near


@dataclass(frozen=True)
class _Numbered:
    """Several picture sets as one."""

    sets: tuple[ImageSet, ...]

    def __len__(self) -> int:
        return sum(map(len, self.sets))

    def split(self, rows: npt.NDArray[np.int64]) -> list[tuple[ImageSet, npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        """(set, rows of it, where they are among ``rows``)."""
        found, start = [], 0
        for images in self.sets:
            where = np.flatnonzero((rows >= start) & (rows < start + len(images)))
            if len(where):
                found.append((images, rows[where] - start, where))
            start += len(images)
        return found


def _numbered(sets: tuple[ImageSet, ...]) -> _Numbered:
    return _Numbered(sets)


def _embedded(context: Context, images: _Numbered, rows: npt.NDArray[np.int64], side: int, kind: Kind) -> Floats:
    parts = [(where, embed_set(context, own, numbers, side, kind)) for own, numbers, where in images.split(rows)]
    points = np.empty((len(rows), parts[0][1].shape[1]), np.float32)
    for where, found in parts:
        points[where] = found
    return points


def _index(
    context: Context,
    training: _Numbered,
    rows: npt.NDArray[np.int64],
    held_out: _Numbered,
    kept: npt.NDArray[np.int64],
    side: int,
    kind: Kind,
) -> Index:
    points = _embedded(context, training, rows, side, kind)
    names = [""] * len(rows)
    for images, numbers, where in training.split(rows):
        for number, place in zip(numbers, where, strict=True):
            names[place] = images.entries[number].path
    others = _embedded(context, held_out, kept, side, kind)
    own, _ = nearest(others, points)
    rest, _ = nearest(others, others, skip_self=True)
    null = np.sort((own.astype(np.float64) + TINY) / (rest.astype(np.float64) + TINY))
    return Index(points, names, others, null)


def _planted(training: _Numbered, rows: npt.NDArray[np.int64], side: int) -> dict[str, list[Pixels]]:
    """Copies of training pictures as a generator might give them back, at its resolution."""
    found: list[Pixels] = []
    for images, numbers, _ in training.split(rows):
        found += list(images.pictures(numbers.tolist(), side, side))
    return {
        "recompressed": [_recompressed(picture) for picture in found],
        "brighter, less contrast": [_faded(picture) for picture in found],
        "cropped by a tenth": [_cropped(picture) for picture in found],
    }


def _recompressed(picture: Pixels) -> Pixels:
    sink = io.BytesIO()
    Image.fromarray(picture).save(sink, "JPEG", quality=70)
    with Image.open(sink) as image:
        return np.asarray(image.convert("RGB"), np.uint8)


def _faded(picture: Pixels) -> Pixels:
    image = ImageEnhance.Contrast(ImageEnhance.Brightness(Image.fromarray(picture)).enhance(1.15)).enhance(0.85)
    return np.asarray(image, np.uint8)


def _cropped(picture: Pixels) -> Pixels:
    side, edge = picture.shape[0], max(1, round(picture.shape[0] * 0.05))
    part = Image.fromarray(picture[edge : side - edge, edge : side - edge])
    return np.asarray(part.resize((side, side), Image.Resampling.BICUBIC), np.uint8)


def _flagged_finding(
    rows: Sequence[tuple[str, ...]], indices: dict[Kind, Index], num_training: int, num_held_out: int
) -> Finding:
    head = ("layer", "units", "flagged as copies", *(f"nearer to training, by {_NAMES[kind]}" for kind in indices))
    searched = ", ".join(f"{len(index.training):,} by {_NAMES[kind]}" for kind, index in indices.items())
    text = (
        f"Of {num_training:,} training pictures {searched} were searched; a copy of one that was not is not "
        f"found. Flagged: "
        f"p at most {LEVEL / len(indices):g} in either embedding, so {LEVEL:.0%} of pictures that are no copies "
        f"would be. "
        f"Nearer to training: against equally many held-out pictures ({num_held_out:,}); half of the pictures "
        f"would be if "
        "the generator favoured neither. Held-out pictures may differ from the training pictures in kind, not "
        "only in having "
        "been held out; then this share is off. Brackets are 95% intervals."
    )
    return Finding("Are synthetic pictures training pictures?", text, blocks=(Table("", head, tuple(rows)),))


def _power_finding(
    planted: dict[Kind, dict[str, npt.NDArray[np.float64]]], false_rate: dict[Kind, npt.NDArray[np.float64]]
) -> Finding:
    level = LEVEL / len(planted)
    rows = []
    for kind, found in planted.items():
        for name, p_values in found.items():
            hits = statistics.share(int((p_values <= level).sum()), len(p_values), "planted copies")
            rows.append((_NAMES[kind], f"planted copies, {name}", hits.percent()))
        wrong = false_rate[kind]
        rate = statistics.share(int((wrong <= level).sum()), len(wrong), "held-out pictures")
        rows.append((_NAMES[kind], "held-out pictures not in the null", rate.percent()))
    either = {
        name: np.minimum.reduce([planted[kind][name] for kind in planted]) for name in next(iter(planted.values()))
    }
    for name, p_values in either.items():
        hits = statistics.share(int((p_values <= level).sum()), len(p_values), "planted copies")
        rows.append(("either", f"planted copies, {name}", hits.percent()))
    text = (
        "Training pictures were planted among the synthetic ones, at the generator's resolution, and searched "
        "for in the "
        "same way; only pictures that both embeddings search were planted."
    )
    return Finding(
        "Would a copy be found?", text, blocks=(Table("", ("embedding", "pictures", "flagged"), tuple(rows)),)
    )


STUDY = Memorisation()
