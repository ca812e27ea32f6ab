"""What an atlas shows, as plain data. The site is a function of an :class:`Atlas` and of nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from export.manifest import Box


@dataclass(frozen=True)
class Result:
    """What came of maximising one unit from one start code.

    Attributes:
        unit: index in its layer.
        seed: chose the start code.
        status: ``done``, or ``dead``: there was no gradient to climb and the image means nothing.
        activation: the best, of ``target``; possibly -inf where dead.
        steps: steps done.
        target: the tensor that was maximised: the layer, or its pre-activation where the layer gave no gradient.
        curve: activations, evenly spaced over ``steps``; the last one belongs to the last step.
        image: PNG of the generator's whole image, RGB.
    """

    unit: int
    seed: int
    status: Literal["done", "dead"]
    activation: float
    steps: int
    target: str
    curve: tuple[float, ...]
    image: bytes


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
    """

    name: str
    title: str
    network: dict[str, Any]
    generator: dict[str, Any]
    layers: tuple[Layer, ...]
    run: dict[str, Any]
