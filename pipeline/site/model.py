"""What an atlas shows, as plain data. The site is a function of an :class:`Atlas` and of nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from export.manifest import Box
from pipeline.site.changes import Changes
from pipeline.site.panels import StudyResult


@dataclass(frozen=True)
class Drawn:
    """What was drawn for one result.

    Attributes:
        unit: of the layer.
        seed: of the result.
        image: PNG of the generator's whole image.
        film: WebP of what it was on the way, see :mod:`pipeline.films`; empty where none was kept.
    """

    unit: int
    seed: int
    image: bytes
    film: bytes = b""


class Pictures(Protocol):
    """Where the pictures of a layer come from. They are read in parts, so that an atlas may be larger than memory."""

    def read(self, units: Sequence[int]) -> Iterable[Drawn]:
        """What was drawn for every live result of these units; called from several threads at once."""
        ...


@dataclass(frozen=True)
class HeldPictures:
    """Pictures in memory, PNG and films by (unit, seed)."""

    images: Mapping[tuple[int, int], bytes]
    films: Mapping[tuple[int, int], bytes] = field(default_factory=dict)

    def read(self, units: Sequence[int]) -> Iterable[Drawn]:
        wanted = set(units)
        return [Drawn(*key, image, self.films.get(key, b"")) for key, image in self.images.items() if key[0] in wanted]


@dataclass(frozen=True, eq=False)
class Result:
    """What came of maximising one unit from one start code.

    Attributes:
        unit: index in its layer.
        seed: chose the start code.
        status: ``done``, or ``dead``: there was no gradient to climb and the image means nothing.
        activation: the best, of ``target``; possibly -inf where dead.
        steps: steps done.
        target: the tensor that was maximised: the layer, or its pre-activation where the layer gave no gradient.
        curve: float32, activations, evenly spaced over ``steps``; the last one belongs to the last step.
        film_steps: the step of each cell of the result's film; empty where none was kept.
    """

    unit: int
    seed: int
    status: Literal["done", "dead"]
    activation: float
    steps: int
    target: str
    curve: npt.NDArray[np.float32]
    film_steps: tuple[int, ...] = ()


@dataclass(frozen=True)
class Negatives:
    """What lowers each unit of a layer most.

    Attributes:
        results: one per unit; ``activation`` is the unit's own, ``target`` the tensor that was lowered: the layer, or
            the one before its saturating activation.
        pictures: PNGs of the generator's whole image, one per live result.
    """

    results: tuple[Result, ...]
    pictures: Pictures


@dataclass(frozen=True)
class Layer:
    """A layer of the network and the results of some or all of its units.

    Attributes:
        name: as the user names it; any text.
        title: to be read by people.
        shape: (C, H, W) or (C,).
        num_units: units the layer has; ``results`` may cover fewer.
        position: (row, column) of the units, None for a vector layer.
        receptive_field: what the units see, in pixels of the generator's image.
        image_px: side of the generator's image.
        recipe_key: key under which the first seed's results are stored.
        recipe: everything that determined the first seed's results.
        labels: names of units that have one.
        results: several seeds per unit possible; any order.
        pictures: PNGs of the generator's whole image, RGB, (image_px, image_px), one per live result.
        version: changes whenever a result or a picture does; a layer of the version that is published is not
            rendered again. Empty: always rendered.
        negatives: where they were asked for.
    """

    name: str
    title: str
    shape: tuple[int, ...]
    num_units: int
    position: tuple[int, int] | None
    receptive_field: Box
    image_px: int
    recipe_key: str
    recipe: dict[str, Any]
    labels: dict[int, str]
    results: tuple[Result, ...]
    pictures: Pictures
    version: str = ""
    negatives: Negatives | None = None


@dataclass(frozen=True)
class Other:
    """Another published atlas that units can be compared with: another night, model, generator or checkpoint.

    Attributes:
        name: short, in addresses: lower-case letters, digits, ``.``, ``_`` and ``-``; another than the other ones'.
        title: to be read by people.
        href: from this site's folder to that one's, such as ``../../000012/site``. The page loads scripts from there,
            so it must be as trusted as this site; addresses can name no others.
    """

    name: str
    title: str
    href: str


@dataclass(frozen=True)
class Atlas:
    """Everything a site shows.

    Attributes:
        name: short name, as in the configuration.
        title: to be read by people.
        network: the network's card: title, source, licence, input, digest, ... what is missing is skipped.
        generator: the generator's card, likewise.
        layers: early to late.
        run: facts of the run that published it (date, runtime, duration_s, ...); the only thing that may differ
            between two publications of equal results.
        studies: what was found out about the units; none is fine.
        changes: since the publication before; None where there was none.
        others: atlases that the Compare page can show beside this one, in the order of a film strip.
    """

    name: str
    title: str
    network: dict[str, Any]
    generator: dict[str, Any]
    layers: tuple[Layer, ...]
    run: dict[str, Any]
    studies: tuple[StudyResult, ...] = ()
    changes: Changes | None = None
    others: tuple[Other, ...] = ()
