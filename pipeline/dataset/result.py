"""A finished dataset pass, as studies read it."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from export.dataset_graph import NOTHING, Target
from export.errors import InputError
from export.forward import centre_of
from export.manifest import Box
from export.network import Network
from export.receptive import ReceptiveFields
from pipeline.dataset.images import ImageSet
from pipeline.dataset.passes import RESULT, read_facts, read_statistics


@dataclass(frozen=True)
class Exemplar:
    """A picture of the data set and what a unit makes of it.

    Attributes:
        image: its number.
        path: within the data set.
        label: its class folder.
        activation: the unit's maximum over positions.
        place: flat position of the maximum.
        box: what that position sees, in pixels of the picture as the network sees it.
    """

    image: int
    path: str
    label: str
    activation: float
    place: int
    box: Box


class DatasetResult:
    """Statistics of every unit; columns by layer, target and unit."""

    def __init__(self, folder: Path, network: Network, images: ImageSet) -> None:
        """Raises InputError if there is no finished pass, or it is of other pictures or another network."""
        facts = read_facts(folder)
        if facts is None:
            raise InputError(f"{folder} holds no finished dataset pass; run `neuron-atlas dataset-pass` first")
        if facts["images_digest"] != images.digest or facts["network"] != network.digest:
            raise InputError(
                f"the dataset pass in {folder} is of other pictures or another network; run `neuron-atlas dataset-pass`"
            )
        try:
            self.statistics, _ = read_statistics(folder / RESULT)
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"the dataset pass in {folder} is damaged ({error}); run it again") from error
        self.facts: dict[str, Any] = facts
        self.images, self._network = images, network
        self._fields: dict[str, ReceptiveFields] = {}
        self.targets = tuple(Target(**{**raw, "shape": tuple(raw["shape"])}) for raw in facts["targets"])

    @property
    def num_seen(self) -> int:
        """Pictures counted."""
        return self.statistics.num_seen

    @property
    def key(self) -> str:
        return str(self.facts["key"])

    @cached_property
    def _starts(self) -> dict[tuple[str, str], tuple[int, Target]]:
        starts, start = {}, 0
        for target in self.targets:
            starts[target.layer, target.target] = (start, target)
            start += target.num_units
        return starts

    def target(self, layer: str, target: str) -> Target:
        """What was measured of a layer.

        Raises:
            InputError: it was not.
        """
        return self._found(layer, target)[1]

    def columns(self, layer: str, target: str) -> slice:
        """The layer's units in the maxima; see :class:`Statistics`."""
        start, found = self._found(layer, target)
        return slice(start, start + found.num_units)

    def column(self, layer: str, target: str, unit: int, *, centre: bool = False) -> int:
        """The unit's column: its maxima over positions, or its values at the centre."""
        start, found = self._found(layer, target)
        if not 0 <= unit < found.num_units:
            raise InputError(f"layer {layer} has units 0 to {found.num_units - 1}; there is no unit {unit}")
        return start + unit + (self.statistics.num_units if centre else 0)

    def top(self, layer: str, target: str, unit: int) -> list[Exemplar]:
        """The pictures that activate the unit most, the best first."""
        column, counted = self.column(layer, target, unit), self.statistics
        rows = zip(
            counted.top_image[:, column], counted.top_value[:, column], counted.top_place[:, column], strict=True
        )
        return [self._exemplar(layer, target, *row) for row in rows if row[0] != NOTHING]

    def sampled(self, layer: str, target: str, unit: int, rows: Sequence[int]) -> list[Exemplar]:
        """The pictures of these rows of the random sample."""
        column, counted = self.column(layer, target, unit), self.statistics
        return [
            self._exemplar(
                layer,
                target,
                counted.sample_image[row],
                counted.sample_value[row, column],
                counted.sample_place[row, column],
            )
            for row in rows
        ]

    def at_quantiles(self, layer: str, target: str, unit: int, shares: Sequence[float]) -> list[Exemplar]:
        """Pictures of the sample nearest to these quantiles of it."""
        values = self.statistics.sample_value[:, self.column(layer, target, unit)]
        ranked = np.argsort(values, kind="stable")
        rows = [int(ranked[round(share * (len(ranked) - 1))]) for share in shares]
        return self.sampled(layer, target, unit, rows)

    def sample(self, layer: str, target: str) -> npt.NDArray[np.float32]:
        """(n, units) maxima over the random sample."""
        return self.statistics.sample_value[:, self.columns(layer, target)]

    def box(self, layer: str, target: str, place: int | None = None) -> Box:
        """What a flat position, or the centre, sees of the network's input."""
        found = self.target(layer, target)
        return self._fields_of(found.tensor).box(centre_of(found.shape) if place is None else place)

    def crop(self, exemplar: Exemplar) -> npt.NDArray[np.uint8]:
        """What the unit sees of an exemplar, (h, w, 3)."""
        card, box = self._network.card.input, exemplar.box
        picture = self.images.pictures([exemplar.image], card.height, card.width)[0]
        part: npt.NDArray[np.uint8] = picture[box.top : box.bottom, box.left : box.right]
        return part

    def _exemplar(self, layer: str, target: str, image: Any, activation: Any, place: Any) -> Exemplar:
        entry = self.images.entries[int(image)]
        box = self.box(layer, target, int(place))
        return Exemplar(int(image), entry.path, entry.label, float(activation), int(place), box)

    def _found(self, layer: str, target: str) -> tuple[int, Target]:
        if (layer, target) not in self._starts:
            raise InputError(f"the dataset pass did not measure {target} of layer {layer}; run it again")
        return self._starts[layer, target]

    def _fields_of(self, tensor: str) -> ReceptiveFields:
        if tensor not in self._fields:
            self._fields[tensor] = ReceptiveFields(self._network, tensor)
        return self._fields[tensor]


def may_publish(path: str, patterns: Sequence[str]) -> bool:
    """Whether the pixels of a picture may be published: its path matches one of the patterns."""
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)
