"""Numbers per unit: those every atlas has, and those of the studies. Captions, sort keys and exports use these."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from pipeline.site import charts
from pipeline.site.changes import Changes, UnitChange
from pipeline.site.gallery import Gallery, Unit
from pipeline.site.panels import Column, Form, Panel, StudyResult, Value

ACTIVATION = Column("activation", "activation", "The unit's best activation over its seeds.")
STEPS = Column("steps", "steps", "Steps of ascent until it stopped, of the seed shown.", form="count")
SPREAD = Column("spread", "spread of seeds", "Highest less lowest activation among the unit's live seeds.")
LOWEST = Column(
    "lowest",
    "lowest activation",
    "What the unit gives for the picture that lowers it most; before the layer's saturating activation, if it has one.",
    sort="low",
)
CHANGE = Column("change", "changed since last night", "Relative change of the best activation.", form="percent")


@dataclass(frozen=True)
class UnitStudies:
    """A study and what it says of one unit."""

    study: StudyResult
    panel: Panel


@dataclass(frozen=True)
class LayerNumbers:
    """All numbers of a layer's units.

    Attributes:
        gallery: the layer.
        studies: with something to say of this layer, and their panels by unit.
        changes: of this layer's units.
    """

    gallery: Gallery
    studies: tuple[tuple[StudyResult, Mapping[int, Panel]], ...]
    changes: Mapping[int, UnitChange]

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """Those of every atlas first, then the studies'; keys of these are ``STUDY.KEY``."""
        own = [ACTIVATION, STEPS]
        if any(len([r for r in unit.results if r.status == "done"]) > 1 for unit in self.gallery.units):
            own.append(SPREAD)
        if any(unit.negative for unit in self.gallery.units):
            own.append(LOWEST)
        if self.changes:
            own.append(CHANGE)
        return (*own, *(column for study, _ in self.studies for column in named_columns(study)))

    def values(self, unit: Unit) -> Mapping[str, Value]:
        """One value per column; None where there is none."""
        return self._values[unit.unit]

    @cached_property
    def _values(self) -> dict[int, dict[str, Value]]:
        """Of every unit: pages, data and the table all ask."""
        return {unit.unit: self._values_of(unit) for unit in self.gallery.units}

    def _values_of(self, unit: Unit) -> dict[str, Value]:
        alive = [result.activation for result in unit.results if result.status == "done"]
        found: dict[str, Value] = {
            ACTIVATION.key: unit.best.activation if unit.best else None,
            STEPS.key: unit.best.steps if unit.best else None,
            SPREAD.key: max(alive) - min(alive) if len(alive) > 1 and not unit.mixed_targets else None,
            LOWEST.key: unit.negative.activation if unit.negative else None,
            CHANGE.key: self.changes[unit.unit].amount if unit.unit in self.changes else None,
        }
        seed = unit.best.seed if unit.best else None
        for study, panels in self.studies:
            panel = panels.get(unit.unit)
            for column in study.columns:
                found[f"{study.name}.{column.key}"] = panel.value(column.key, seed) if panel else None
        return {column.key: found[column.key] for column in self.columns}

    def of_unit(self, unit: Unit) -> list[UnitStudies]:
        """What each study says of a unit; studies that say nothing are left out."""
        return [UnitStudies(study, panels[unit.unit]) for study, panels in self.studies if unit.unit in panels]


def layer_numbers(gallery: Gallery, studies: Sequence[StudyResult], changes: Changes | None) -> LayerNumbers:
    """Read what studies and changes say of a layer.

    Raises:
        StoreError: a study's table cannot be read.
    """
    name = gallery.layer.name
    spoken = tuple((study, study.panels[name]) for study in studies if name in study.panels)
    return LayerNumbers(gallery, spoken, changes.units.get(name, {}) if changes else {})


def named_columns(study: StudyResult) -> tuple[Column, ...]:
    """A study's columns under the keys that a layer's data use."""
    return tuple(
        Column(f"{study.name}.{column.key}", column.title, column.description, column.form, column.sort)
        for column in study.columns
    )


def written(value: Value, form: Form) -> str:
    """A value to be read by people; a dash where there is none."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return charts.EN_DASH
    if form == "yesno" or isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if form == "percent":
        return f"{100 * value:.3g}".replace("-", charts.MINUS) + "\N{NARROW NO-BREAK SPACE}%"
    if form == "percentile":
        return f"{value:.1f}"
    if form == "count":
        return charts.number(value)
    return charts.measured(value)
