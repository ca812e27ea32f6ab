"""What changed since the publication before, unit by unit, as the site tells it: what :mod:`pipeline.changes` found."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pipeline.changes import JobChange

Kind = Literal["new", "gone", "higher", "lower", "died", "revived", "made again"]

TOLERANCE = 1e-6
"""Relative difference of activations below which a unit is neither higher nor lower."""


@dataclass(frozen=True)
class UnitChange:
    """What happened to a unit.

    Attributes:
        kind: ``made again``: another result, of the same best activation.
        before: best activation before; None when there was none.
        after: best activation now; None when there is none.
    """

    kind: Kind
    before: float | None
    after: float | None

    @property
    def amount(self) -> float:
        """How much the activation changed, relative to the larger one, 0 to 2; 1 where one of them is missing."""
        if self.before is None or self.after is None:
            return 1.0
        size = max(abs(self.before), abs(self.after))
        return abs(self.after - self.before) / size if size else 0.0


@dataclass(frozen=True)
class Changes:
    """Units that changed; those that did not are not listed.

    Attributes:
        since: when the other publication was made, for people: ``2026-11-23``.
        units: layer -> unit -> what happened.
        notes: further sentences, such as ``the generator was replaced``.
    """

    since: str
    units: Mapping[str, Mapping[int, UnitChange]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def by_unit(jobs: Iterable[JobChange], since: str, notes: tuple[str, ...] = ()) -> Changes:
    """Gather the seeds of each unit: it is told of when one of its seeds is, by its best live activation then and now.

    Args:
        jobs: of a comparison, those that are the same among them.
        since: see :class:`Changes`.
        notes: see :class:`Changes`.
    """
    seeds: dict[tuple[str, int], list[JobChange]] = {}
    for job in jobs:
        seeds.setdefault((job.layer, job.unit), []).append(job)
    units: dict[str, dict[int, UnitChange]] = {}
    for (layer, unit), changes in seeds.items():
        if any(change.kind != "same" for change in changes):
            units.setdefault(layer, {})[unit] = _of(changes)
    return Changes(since, units, notes)


def _of(seeds: Sequence[JobChange]) -> UnitChange:
    before = max((seed.activation_before for seed in seeds if seed.activation_before is not None), default=None)
    after = max((seed.activation_after for seed in seeds if seed.activation_after is not None), default=None)
    return UnitChange(_kind({seed.kind for seed in seeds}, before, after), before, after)


def _kind(kinds: set[str], before: float | None, after: float | None) -> Kind:
    if kinds == {"new"}:
        return "new"
    if kinds == {"gone"}:
        return "gone"
    if before is None or after is None:
        return "made again" if before is after else "revived" if before is None else "died"
    if math.isclose(before, after, rel_tol=TOLERANCE):
        return "made again"
    return "higher" if after > before else "lower"
