"""Results grouped by unit, the best first, and how units stand within their layer."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from pipeline.site.model import Layer, Result


def is_pre_activation(layer: Layer, result: Result) -> bool:
    """Whether the tensor before the activation was maximised, because the layer itself gave no gradient."""
    return result.target not in (layer.name, layer.recipe.get("target"))


@dataclass(frozen=True)
class Unit:
    """A unit and its results.

    Attributes:
        layer: it belongs to.
        unit: index in the layer.
        label: its name, empty when it has none.
        results: one per seed; live ones first, those of the layer itself before those of its pre-activation, then
            by activation, highest first.
        negative: what lowers it most, if that was asked for and found.
    """

    layer: Layer
    unit: int
    label: str
    results: tuple[Result, ...]
    negative: Result | None = None

    @property
    def best(self) -> Result | None:
        """The result that galleries show; None when every seed was dead."""
        return self.results[0] if self.results[0].status == "done" else None

    @property
    def pre_activation(self) -> bool:
        """Whether :attr:`best` maximised the pre-activation."""
        return self.best is not None and is_pre_activation(self.layer, self.best)

    @property
    def mixed_targets(self) -> bool:
        """Whether live seeds maximised different tensors, so that their activations cannot be compared."""
        return len({result.target for result in self.results if result.status == "done"}) > 1

    @property
    def short_label(self) -> str:
        """The first of several names separated by commas."""
        return self.label.partition(",")[0].strip()

    @property
    def title(self) -> str:
        return f"unit {self.unit} ({self.short_label})" if self.short_label else f"unit {self.unit}"


@dataclass(frozen=True)
class Standing:
    """How a unit's best activation compares with the other units' of the layer, those of the same target.

    Attributes:
        num_others: units it is compared with.
        num_lower: how many of them have a lower activation.
        percentile: 0 to 100, equal ones counted half; None without others.
    """

    num_others: int
    num_lower: int
    percentile: float | None


@dataclass(frozen=True)
class Gallery:
    """A layer's units in index order."""

    layer: Layer
    units: tuple[Unit, ...]

    @cached_property
    def live(self) -> tuple[Unit, ...]:
        return tuple(unit for unit in self.units if unit.best)

    @property
    def num_dead(self) -> int:
        return len(self.units) - len(self.live)

    @cached_property
    def activations(self) -> list[float]:
        """Best activations of the layer itself, ascending; of its pre-activation when there are no others."""
        return self._values[False] or self._values[True]

    @property
    def num_left_out(self) -> int:
        """Live units that :attr:`activations` leaves out."""
        return len(self.live) - len(self.activations)

    def compared(self, unit: Unit) -> list[float]:
        """Best activations that the unit's can be compared with, its own included, ascending."""
        return self._values[unit.pre_activation]

    def standing(self, unit: Unit) -> Standing | None:
        """Where the unit stands; None when it is dead."""
        if unit.best is None:
            return None
        values = self.compared(unit)
        lower = bisect_left(values, unit.best.activation)
        equal = bisect_right(values, unit.best.activation) - lower - 1
        others = len(values) - 1
        return Standing(others, lower, 100 * (lower + equal / 2) / others if others else None)

    def taste(self, count: int) -> tuple[Unit, ...]:
        """Up to ``count`` live units, evenly spaced over their numbers: nobody's choice."""
        live = self.live
        if len(live) <= count:
            return live
        return tuple(live[index * len(live) // count] for index in range(count))

    @cached_property
    def _values(self) -> dict[bool, list[float]]:
        values: dict[bool, list[float]] = {False: [], True: []}
        for unit in self.units:
            if unit.best is not None:
                values[unit.pre_activation].append(unit.best.activation)
        return {kind: sorted(found) for kind, found in values.items()}


def make_gallery(layer: Layer) -> Gallery:
    """Group a layer's results by unit."""
    grouped: dict[int, list[Result]] = {}
    for result in layer.results:
        grouped.setdefault(result.unit, []).append(result)
    lowered = {r.unit: r for r in layer.negatives.results if r.status == "done"} if layer.negatives else {}
    return Gallery(
        layer,
        tuple(
            Unit(layer, unit, layer.labels.get(unit, ""), _ranked(layer, results), lowered.get(unit))
            for unit, results in sorted(grouped.items())
        ),
    )


def _ranked(layer: Layer, results: Sequence[Result]) -> tuple[Result, ...]:
    def rank(result: Result) -> tuple[bool, bool, float, int]:
        dead = result.status == "dead"
        return dead, is_pre_activation(layer, result), 0.0 if dead else -result.activation, result.seed

    return tuple(sorted(results, key=rank))
