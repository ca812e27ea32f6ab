"""Likeness: is a synthetic picture nearer to its unit's exemplars than random pictures are, in the judge's features?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.dataset.result import DatasetResult, Exemplar
from pipeline.studies.base import statistics
from pipeline.studies.base.context import Context, LayerResults
from pipeline.studies.base.judge import resize

NUM_EXEMPLARS = 5
NUM_RANDOM = 64
CHUNK = 64
"""Crops held at a time."""
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Natural:
    """The judge's features of natural pictures for the units of a layer, of unit length.

    Attributes:
        own: unit -> (NUM_EXEMPLARS at most, D), the parts of its best pictures that it sees.
        random: (NUM_RANDOM at most, D), of random pictures, each the part where some unit of the layer is most active.
    """

    own: dict[int, Floats]
    random: Floats

    def likeness(self, unit: int, synthetic: Floats) -> float:
        """P(an exemplar of the unit is nearer to ``synthetic`` (D,) than a random picture is); 0.5 is chance."""
        return statistics.probability_of_superiority(self.own[unit] @ synthetic, self.random @ synthetic)


def natural(context: Context, dataset: DatasetResult, layer: LayerResults, units: Sequence[int]) -> Natural:
    """See the exemplars of ``units``, which are alive, and random pictures.

    Raises:
        InputError: the dataset pass did not measure the layer.
    """
    alive = layer.alive
    exemplars = [dataset.top(layer.name, alive[unit].target, unit)[:NUM_EXEMPLARS] for unit in units]
    flat = _seen(context, dataset, [e for found in exemplars for e in found])
    ends = np.cumsum([len(found) for found in exemplars])
    own = {unit: flat[end - len(found) : end] for unit, end, found in zip(units, ends.tolist(), exemplars, strict=True)}
    rng = np.random.default_rng(context.seed("recognisability", layer.name, "random"))
    size = len(dataset.statistics.sample_image)
    rows = rng.choice(size, min(NUM_RANDOM, size), replace=False)
    chosen = rng.choice(list(alive), len(rows))
    random = [
        dataset.sampled(layer.name, alive[int(unit)].target, int(unit), [int(row)])[0]
        for row, unit in zip(rows, chosen, strict=True)
    ]
    return Natural(own, _seen(context, dataset, random))


def _seen(context: Context, dataset: DatasetResult, exemplars: Sequence[Exemplar]) -> Floats:
    card = context.judge.network.card.input
    parts = []
    for start in range(0, len(exemplars), CHUNK):
        crops = [dataset.crop(e) for e in exemplars[start : start + CHUNK]]
        parts.append(context.judge.see([resize(crop, card.height, card.width) for crop in crops]).features)
    return np.concatenate(parts)
