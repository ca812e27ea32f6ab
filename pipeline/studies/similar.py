"""Similar units: nearest by code and by response, how far the two agree, and a map of every layer's units."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from export.errors import InputError
from pipeline.site.panels import Column, Finding, Picture, Table, UnitLink, Units
from pipeline.studies.base import statistics
from pipeline.studies.base.context import Context, LayerResults
from pipeline.studies.base.figures import COLOURS, figure, size_px
from pipeline.studies.base.study import Output, TooFew

NUM_NEAREST = 6
MIN_UNITS = 8
MIN_RESPONSES = 100
NUM_PERMUTATIONS = 999
HEIGHT_IN = 4.6
Floats = npt.NDArray[np.float64]


class Similar:
    """See the module."""

    name = "similar"
    title = "Similar units"
    needs = ("dataset",)
    revision = 1

    def run(self, context: Context) -> Output:
        dataset = context.dataset
        size = len(dataset.statistics.sample_image)
        if size < MIN_RESPONSES:
            raise TooFew(f"{size} pictures are too few to compare responses; it takes {MIN_RESPONSES}")
        output = Output(
            f"Units alike by code (cosine of their standardised codes, less the layer's mean) and by response "
            f"(Spearman's "
            f"rank correlation over {size:,} random pictures), within a layer; a map of each layer's units by "
            f"response.",
            columns=[
                Column("nearest_response", "closest unit's correlation", "Highest correlation with another unit."),
                Column("nearest_code", "closest unit's code cosine", "Highest cosine with another unit's code."),
                Column("map_x", "map, first axis", "Place on the layer's map.", sort="none"),
                Column("map_y", "map, second axis", "Place on the layer's map.", sort="none"),
            ],
        )
        rows, maps, p_values = list[tuple[str, ...]](), list[Finding](), list[float]()
        left = list[str]()
        for layer in context.layers():
            if len(layer.alive) < MIN_UNITS:
                left.append(f"{layer.title}: not reported, {len(layer.alive)} units are too few.")
                continue
            row, p, finding = self._layer(context, layer, output)
            rows.append(row)
            p_values.append(p)
            maps.append(finding)
        if not maps:
            raise TooFew(f"no layer has {MIN_UNITS} units that are alive")
        output.findings += [_agreement(rows, statistics.adjusted(p_values), left), *maps]
        return output

    def _layer(self, context: Context, layer: LayerResults, output: Output) -> tuple[tuple[str, ...], float, Finding]:
        units = list(layer.alive)
        codes = code_likeness(context, layer)
        responses = responses_of(context, layer)
        alike = response_likeness(responses)
        for row, unit in enumerate(units):
            for title, likeness in (("by response", alike), ("by code", codes)):
                links = [UnitLink(layer.name, units[i], f"{likeness[row, i]:.2f}") for i in _best(likeness, row)]
                output.show(layer.name, unit, Units(f"Most similar units {title}", tuple(links)))
        places, explained = unit_map(responses)
        off = ~np.eye(len(units), dtype=bool)
        closest = [np.where(off, likeness, -np.inf).max(axis=1) for likeness in (alike, codes)]
        for row, unit in enumerate(units):
            output.put(
                layer.name,
                unit,
                nearest_response=float(closest[0][row]),
                nearest_code=float(closest[1][row]),
                map_x=float(places[row, 0]),
                map_y=float(places[row, 1]),
            )
        shared = [len(set(_best(alike, r)) & set(_best(codes, r))) / NUM_NEAREST for r in range(len(units))]
        overlap = statistics.mean(shared, context.seed(self.name, layer.name, "shared"), "units").percent_among(
            len(units)
        )
        chance = NUM_NEAREST / (len(units) - 1)
        rho, p = mantel(alike, codes, context.seed(self.name, layer.name))
        file = f"figures/map-{layer.name}.svg"
        output.files[file] = _draw(layer, units, places, explained)
        width, height = size_px(HEIGHT_IN)
        alt = f"Units of {layer.title}, alike in response near each other"
        picture = Picture(file, width, height, alt, f"{explained.sum():.0%} of the variance is on these two axes.")
        row_out = (layer.title, str(len(units)), overlap, f"{chance:.0%}", f"{rho:.2f}")
        return row_out, p, Finding(f"Map of {layer.title}", figure=picture)


def code_likeness(context: Context, layer: LayerResults) -> Floats:
    """(n, n) cosine of the units' codes: in standard deviations of the code prior, less the mean over the layer."""
    prior = context.workspace.generator.prior
    codes = np.stack([record.code for record in layer.alive.values()]).astype(np.float64)
    scaled = (codes - prior.mean) / np.where(prior.std > 0, prior.std, 1.0)
    scaled -= scaled.mean(axis=0)
    scaled /= np.maximum(np.linalg.norm(scaled, axis=1, keepdims=True), 1e-12)
    return np.asarray(scaled @ scaled.T)


def responses_of(context: Context, layer: LayerResults) -> Floats:
    """(pictures, n) ranks of the units' responses to the random sample, each standardised; a silent unit's are 0."""
    dataset = context.dataset
    columns = [dataset.column(layer.name, record.target, unit) for unit, record in layer.alive.items()]
    ranks = stats.rankdata(dataset.statistics.sample_value[:, columns], axis=0)
    ranks -= ranks.mean(axis=0)
    spread = ranks.std(axis=0)
    return np.asarray(ranks / np.where(spread > 0, spread, 1.0))


def response_likeness(responses: Floats) -> Floats:
    """(n, n) Spearman correlations: Pearson's of the ranks."""
    return np.asarray(responses.T @ responses / len(responses))


def unit_map(responses: Floats) -> tuple[Floats, Floats]:
    """(places (n, 2), share of variance on each axis): principal components of the units' standardised responses."""
    try:
        from sklearn.decomposition import PCA
    except ImportError as error:
        raise InputError(f"maps need scikit-learn ({error}); run: pip install 'neuron-atlas[studies]'") from error
    found = PCA(2, svd_solver="full")
    places = found.fit_transform(responses.T)
    flip = np.sign(places[np.abs(places).argmax(axis=0), [0, 1]])  # the sign of an axis is arbitrary: fix it
    return np.asarray(places * flip), np.asarray(found.explained_variance_ratio_)


def mantel(a: Floats, b: Floats, seed: int) -> tuple[float, float]:
    """Mantel's test: rank correlation of two likeness matrices over pairs; p by permuting the units of one."""
    upper = np.triu_indices(len(a), 1)
    first = stats.rankdata(a[upper])
    first -= first.mean()
    ranked = np.zeros_like(b)
    ranked[upper] = stats.rankdata(b[upper])
    ranked += ranked.T
    scale = np.linalg.norm(first) * np.linalg.norm(ranked[upper] - ranked[upper].mean())
    rng = np.random.default_rng(seed)

    def rho(order: npt.NDArray[np.int64]) -> float:
        return float(first @ ranked[np.ix_(order, order)][upper] / scale) if scale else 0.0

    found = rho(np.arange(len(a)))
    others = [rho(rng.permutation(len(a))) for _ in range(NUM_PERMUTATIONS)]
    return found, (1 + sum(abs(other) >= abs(found) for other in others)) / (NUM_PERMUTATIONS + 1)


def _best(likeness: Floats, row: int) -> list[int]:
    order = [int(i) for i in np.argsort(-likeness[row], kind="stable") if i != row]
    return order[:NUM_NEAREST]


def _agreement(rows: Sequence[tuple[str, ...]], p_values: Sequence[float], left: Sequence[str]) -> Finding:
    head = (
        "layer",
        "units",
        f"shared of {NUM_NEAREST} nearest",
        "by chance",
        "rank correlation of pairs",
        "adjusted p",
    )
    text = (
        f"{sum(p < 0.05 for p in p_values)} of {len(p_values)} layers differ from chance at a false discovery rate of "
        "5%. Whether units with like codes respond alike: how many of a unit's nearest units by response are also its "
        "nearest by code (mean over units, 95% bootstrap interval), and Mantel's test over all pairs "
        f"({NUM_PERMUTATIONS} permutations, two-sided; adjusted over the layers after Benjamini and Hochberg). "
        f"{' '.join(left)}"
    )
    cells = tuple((*row, statistics.p_text(p)) for row, p in zip(rows, p_values, strict=True))
    return Finding("Do like codes mean like units?", text.strip(), blocks=(Table("", head, cells),))


def _draw(layer: LayerResults, units: Sequence[int], places: Floats, explained: Floats) -> bytes:
    with figure(HEIGHT_IN) as drawing:
        drawing.axes.scatter(places[:, 0], places[:, 1], s=6, color=COLOURS[0])
        for unit, (x, y) in zip(units, places, strict=True):
            name = layer.labels[unit].split(",")[0] if layer.labels else str(unit)
            drawing.axes.annotate(name, (x, y), xytext=(2, 2), textcoords="offset points", fontsize=6)
        labels = [f"principal component {i + 1} ({share:.0%})" for i, share in enumerate(explained)]
        drawing.axes.set(xlabel=labels[0], ylabel=labels[1])
    return drawing.svg


STUDY = Similar()
