"""Opening a built atlas in Python, as a table and arrays::

from pipeline.atlas import open_atlas

atlas = open_atlas("build/lite0")
atlas.table                              # a pyarrow Table: one row per layer, unit and seed; .to_pandas()
atlas.images("_fc", [207, 281], seed=0)  # (2, 64, 64, 3) uint8
atlas.codes("_fc", [207, 281])           # (2, D) float32
for record in atlas.records("_fc"): ...  # pictures, codes and curves, one shard in memory at a time
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from export.errors import InputError, StoreError, suggestion
from pipeline.records import Record
from pipeline.store import Store


@dataclass(frozen=True)
class BuiltAtlas:
    """What a build left.

    Attributes:
        table: ``units.parquet``: layer, unit, seed, activation, steps, status, target, recipe.
        store: where pictures and codes are.
    """

    table: pa.Table
    store: Store

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers, early to late."""
        return tuple(pc.unique(self.table.column("layer")).to_pylist())

    def units(self, layer: str) -> tuple[int, ...]:
        """The units of a layer that were built, ascending.

        Raises:
            InputError: the atlas has no such layer.
        """
        return tuple(sorted(set(self._rows(layer).column("unit").to_pylist())))

    def seeds(self, layer: str) -> tuple[int, ...]:
        """The seeds of a layer's units, ascending.

        Raises:
            InputError: the atlas has no such layer.
        """
        return tuple(sorted(set(self._rows(layer).column("seed").to_pylist())))

    def best_seeds(self, layer: str) -> dict[int, int]:
        """Unit -> the live seed of the highest activation; dead units are left out.

        Seeds that maximised the layer itself come before those that maximised its pre-activation.
        """
        target, found = self._target(layer), dict[int, tuple[bool, float, int]]()
        for row in self._rows(layer).to_pylist():
            if row["status"] == "done":
                rank = (row["target"] != target, -row["activation"], row["seed"])
                found[row["unit"]] = min(found.get(row["unit"], rank), rank)
        return {unit: seed for unit, (_, _, seed) in sorted(found.items())}

    def records(self, layer: str, units: Sequence[int] | None = None, seed: int | None = None) -> Iterator[Record]:
        """Everything kept of a layer's results, by seed and unit; one shard is in memory at a time.

        Args:
            layer: of the atlas.
            units: by default all.
            seed: by default all.

        Raises:
            InputError: the atlas has no such layer, unit or seed.
            StoreError: the store does not hold what the table lists.
        """
        rows = self._rows(layer)
        self._check("unit", self.units(layer), units, layer)
        self._check("seed", self.seeds(layer), None if seed is None else [seed], layer)
        wanted = set(self.units(layer) if units is None else units)
        for number in self.seeds(layer) if seed is None else (seed,):
            keys = pc.unique(rows.filter(pc.equal(rows.column("seed"), number)).column("recipe")).to_pylist()
            missing = set(rows.filter(pc.equal(rows.column("seed"), number)).column("unit").to_pylist()) & wanted
            for shard in (shard for key in keys for shard in self.store.shards(key)):
                if missing & set(shard.units):
                    for record in self.store.read_shard(shard):
                        if record.unit in missing:
                            missing.discard(record.unit)
                            yield record
            if missing:
                raise StoreError(f"the store {self.store.url} lacks unit {min(missing)} of {layer}; build again")

    def images(self, layer: str, units: Sequence[int], seed: int | None = None) -> npt.NDArray[np.uint8]:
        """Pictures (N, image_px, image_px, 3) in the order of ``units``, lossless.

        Args:
            layer: of the atlas.
            units: of the layer.
            seed: by default each unit's best one; a unit whose every seed was dead has none.

        Raises:
            InputError, StoreError: see :meth:`records`.
        """
        found = [_pixels(record) for record in self._chosen(layer, units, seed)]
        return np.stack(found) if found else np.empty((0, 0, 0, 3), np.uint8)

    def codes(self, layer: str, units: Sequence[int], seed: int | None = None) -> npt.NDArray[np.float32]:
        """Codes (N, code_dim) in the order of ``units``; arguments and errors as of :meth:`images`."""
        found = [record.code for record in self._chosen(layer, units, seed)]
        return np.stack(found) if found else np.empty((0, 0), np.float32)

    def _chosen(self, layer: str, units: Sequence[int], seed: int | None) -> list[Record]:
        self._check("unit", self.units(layer), units, layer)
        best = self.best_seeds(layer)
        if seed is None and (dead := sorted(set(units) - best.keys())):
            raise InputError(f"unit {dead[0]} of {layer} is dead: it has no best picture; name a seed, or leave it out")
        wanted = {unit: best[unit] if seed is None else seed for unit in units}
        found: dict[int, Record] = {}
        for number in sorted(set(wanted.values())):
            part = [unit for unit, chosen in wanted.items() if chosen == number]
            found |= {record.unit: record for record in self.records(layer, part, number)}
        return [found[unit] for unit in units]

    def _rows(self, layer: str) -> pa.Table:
        if layer not in self.layers:
            raise InputError(f"the atlas has no layer {layer}{suggestion(layer, self.layers)}")
        return self.table.filter(pc.equal(self.table.column("layer"), layer))

    def _target(self, layer: str) -> str:
        """The tensor that a layer's recipe maximises where it is not dead."""
        key = str(self._rows(layer).column("recipe")[0].as_py())
        recipe = self.store.read_recipe(key)
        return str(recipe["target"]) if recipe else layer

    @staticmethod
    def _check(kind: str, known: Sequence[int], asked: Sequence[int] | None, layer: str) -> None:
        unknown = sorted(set(asked or ()) - set(known))
        if unknown:
            raise InputError(f"layer {layer} has no {kind} {unknown[0]} in this atlas; it has {_told(known)}")


def open_atlas(folder: str | Path, store: str | None = None) -> BuiltAtlas:
    """Open what ``neuron-atlas build`` left; nothing but the table is read.

    Args:
        folder: of the build, with ``units.parquet``.
        store: URL of the store, by default ``store`` in that folder.

    Raises:
        InputError: there is no built atlas.
        StoreError: the table or the store cannot be read.
    """
    path = Path(folder) / "units.parquet"
    if not path.is_file():
        raise InputError(f"{folder} holds no built atlas (no units.parquet); build one, or name its folder")
    try:
        table = pq.read_table(path, use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{path} cannot be read ({error}); build again to make it anew") from error
    return BuiltAtlas(table, Store(store or str(Path(folder) / "store")))


def _pixels(record: Record) -> npt.NDArray[np.uint8]:
    with Image.open(io.BytesIO(record.image)) as image:
        return np.asarray(image.convert("RGB"))


def _told(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:6]))
    return shown if len(numbers) <= 6 else f"{shown}, ... ({len(numbers)} in all)"
