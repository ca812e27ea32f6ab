"""What changed between two versions of an atlas, job by job: plain data, for the site, for ``neuron-atlas diff``.

``changes.json`` of a version, also in its site::

    {"before": ID or null, "after": ID, "summary": "...",
     "counts": {"new": 3, "gone": 0, "changed": 40, "same": 57},
     "units": [{"layer", "unit", "seed", "kind", "activation_before", "activation_after", "activation_change",
                "code_distance", "recipe_before", "recipe_after"}, ...]}

``units`` lists what is new, gone or changed: layers as they come, then by unit and seed; values that make no sense
(of a unit that is new or dead, of codes of another generator) are null.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pipeline.store import DamagedShardError, Store
from pipeline.table import TableRow, read_rows

Kind = Literal["new", "gone", "changed", "same"]


@dataclass(frozen=True)
class JobChange:
    """One (layer, unit, seed) before and after.

    Attributes:
        layer: its name.
        unit: index in the layer.
        seed: of its start.
        kind: ``new``, ``gone``, ``changed``, or ``same``: dead in both, or activation and code are equal to the bit.
        activation_before: None where new or dead.
        activation_after: None where gone or dead.
        activation_change: after - before, None where one is missing or they are of different tensors.
        code_distance: ``|after - before| / |before|`` (Euclidean), None where one is missing or the codes are of
            different generators.
        recipe_before: key of its recipe, None where new.
        recipe_after: key of its recipe, None where gone.
    """

    layer: str
    unit: int
    seed: int
    kind: Kind
    activation_before: float | None
    activation_after: float | None
    activation_change: float | None
    code_distance: float | None
    recipe_before: str | None
    recipe_after: str | None


@dataclass(frozen=True)
class Changes:
    """Everything between two versions.

    Attributes:
        before: name of the earlier version.
        after: name of the later one.
        jobs: every one of either, layers as they come in the later version, then by unit and seed.
    """

    before: str
    after: str
    jobs: tuple[JobChange, ...]

    @cached_property
    def counts(self) -> dict[str, int]:
        found = Counter(change.kind for change in self.jobs)
        return {kind: found[kind] for kind in ("new", "gone", "changed", "same")}

    @property
    def summary(self) -> str:
        """``3 new, 0 gone, 40 changed, 57 the same``."""
        counts = self.counts
        return f"{counts['new']} new, {counts['gone']} gone, {counts['changed']} changed, {counts['same']} the same"

    def to_dict(self) -> dict[str, Any]:
        """As ``changes.json`` holds it."""
        return {
            "before": self.before,
            "after": self.after,
            "summary": self.summary,
            "counts": self.counts,
            "units": [asdict(change) for change in self.jobs if change.kind != "same"],
        }

    def lines(self, most: int = 20) -> list[str]:
        """For a terminal: the summary, and the units that changed most."""
        lines = [f"{self.before} -> {self.after}: {self.summary}"]
        moved = [change for change in self.jobs if change.kind == "changed"]
        moved.sort(key=lambda change: -abs(change.activation_change or 0.0))
        for change in moved[:most]:
            numbers = (change.activation_before, change.activation_after, change.code_distance)
            before, after, distance = ("-" if number is None else f"{number:.4g}" for number in numbers)
            lines.append(
                f"{change.layer} {change.unit} seed {change.seed}: {before} -> {after}, code moved by {distance}"
            )
        if len(moved) > most:
            lines.append(f"... and {len(moved) - most} more; --json lists all")
        return lines

    def to_json(self) -> bytes:
        return (json.dumps(self.to_dict(), separators=(",", ":"), allow_nan=False) + "\n").encode()


Place = tuple[str, int, int]
"""(layer, unit, seed)."""


@dataclass(frozen=True)
class Side:
    """One of two versions that are compared.

    Attributes:
        name: of the version.
        rows: what its table says of each place, in the table's order.
        store: of its results.
    """

    name: str
    rows: Mapping[Place, TableRow]
    store: Store

    @classmethod
    def of(cls, name: str, table: bytes, store: Store) -> Side:
        """From the bytes of a ``units.parquet``."""
        return cls(name, {(row.layer, row.unit, row.seed): row for row in read_rows(table)}, store)


def compare(before: Side, after: Side) -> Changes:
    """Compare two versions job by job; codes are read only where recipes differ.

    Raises:
        StoreError, StoreUnavailableError: a store cannot be read.
    """
    layers = dict.fromkeys(layer for layer, _, _ in [*after.rows, *before.rows])
    places: dict[str, list[Place]] = {layer: [] for layer in layers}
    for place in dict.fromkeys([*after.rows, *before.rows]):
        places[place[0]].append(place)
    changes = []
    for of_layer in places.values():
        codes = _Codes(before, after, of_layer)
        changes += [_compare(place, before.rows.get(place), after.rows.get(place), codes) for place in sorted(of_layer)]
    return Changes(before.name, after.name, tuple(changes))


class _Codes:
    """The codes of one layer's units whose recipes differ and whose generators do not."""

    def __init__(self, before: Side, after: Side, places: Sequence[Place]) -> None:
        pairs = [
            (before.rows[place], after.rows[place]) for place in places if place in before.rows and place in after.rows
        ]
        recipes = {(a.recipe, b.recipe) for a, b in pairs if a.recipe != b.recipe}
        comparable = [(a, b) for a, b in recipes if _space(before.store, a) == _space(after.store, b) is not None]
        self._before = {a: _codes(before.store, a) for a, _ in comparable}
        self._after = {b: _codes(after.store, b) for _, b in comparable}

    def distance(self, unit: int, before: str, after: str) -> float | None:
        """``|after - before| / |before|``."""
        if before == after:
            return 0.0
        a, b = self._before.get(before, {}).get(unit), self._after.get(after, {}).get(unit)
        if a is None or b is None or a.shape != b.shape or not np.any(a):
            return None
        return float(np.linalg.norm(b - a) / np.linalg.norm(a))


def _codes(store: Store, key: str) -> dict[int, npt.NDArray[np.float32]]:
    """Codes by unit; those of damaged or pruned shards are missing."""
    found: dict[int, npt.NDArray[np.float32]] = {}
    for shard in store.shards(key):
        try:
            found |= {record.unit: record.code for record in store.read_shard(shard)}
        except DamagedShardError:
            continue
    return found


def _space(store: Store, key: str) -> object:
    """What must be equal for two codes to be comparable; None where it is not known."""
    recipe = store.read_recipe(key)
    return None if recipe is None else (recipe.get("generator"), recipe.get("prior"))


def _compare(place: Place, a: TableRow | None, b: TableRow | None, codes: _Codes) -> JobChange:
    layer, unit, seed = place
    alive = a is not None and b is not None and a.status == b.status == "done"
    distance = codes.distance(unit, a.recipe, b.recipe) if alive and a is not None and b is not None else None
    before, after = _activation(a), _activation(b)
    comparable = a is not None and b is not None and a.target == b.target
    change = after - before if comparable and before is not None and after is not None else None
    return JobChange(
        layer=layer,
        unit=unit,
        seed=seed,
        kind=_kind(a, b, distance),
        activation_before=before,
        activation_after=after,
        activation_change=change,
        code_distance=distance,
        recipe_before=a.recipe if a is not None else None,
        recipe_after=b.recipe if b is not None else None,
    )


def _kind(a: TableRow | None, b: TableRow | None, distance: float | None) -> Kind:
    if a is None or b is None:
        return "new" if a is None else "gone"
    if a.status == b.status == "dead":
        return "same"
    return "same" if a.status == b.status and a.activation == b.activation and distance == 0.0 else "changed"


def _activation(row: TableRow | None) -> float | None:
    if row is None or row.status == "dead" or not math.isfinite(row.activation):
        return None
    return row.activation
