"""The store: finished shards in a folder or an S3 bucket.

::

    KEY/recipe.json              what determined these results
    KEY/SHARD.parquet            one row per unit
    KEY/SHARD.json               its manifest: units, counts, digests and size of the parquet file
    KEY/SHARD.claim              somebody is making this shard, see pipeline.claims
    starts/                      start codes of warm recipes, see pipeline.warm
    models/, orders/             for helpers that share nothing but the store, see pipeline.orders
    atlases/NAME/                what is published, see pipeline.retention

A file is written whole or not at all; the manifest comes last. A shard is done when its manifest is there and its
parquet file is the one the manifest describes. Planning looks at each recipe's folder once; the life of a shard
(claim, look, compute, write) touches its own files only and lists nothing.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from export.errors import AtlasError, StoreError
from pipeline.blobs import Blobs, Entry, open_blobs
from pipeline.checked import Checked
from pipeline.recipe import Recipe
from pipeline.records import Record, from_parquet, to_parquet
from pipeline.temporary import ABANDONED_S, is_leftover, temporary_name

log = logging.getLogger(__name__)

CLAIM = ".claim"
MALFORMED = (ValueError, KeyError, TypeError, AttributeError)


class DamagedShardError(AtlasError):
    """A shard that was done is no longer what its manifest says; it is to be made again."""

    def __init__(self, message: str, shard: StoredShard) -> None:
        super().__init__(message)
        self.shard = shard


@dataclass(frozen=True)
class StoredShard:
    """A done shard.

    Attributes:
        key: of its recipe.
        name: of its files.
        units: ascending.
        sha256: of its parquet file.
        md5: of its parquet file, which an object store's listing tells without reading.
        num_bytes: of its parquet file.
        facts: what the engine knew of the layer: ``position``, ``receptive_field``, ``image_px``, ``num_units``.
        counts: number of records by status.
    """

    key: str
    name: str
    units: tuple[int, ...]
    sha256: str
    md5: str
    num_bytes: int
    facts: dict[str, Any]
    counts: dict[str, int]

    def to_json(self) -> str:
        value = {
            "recipe": self.key,
            "units": self.units,
            "parquet": {"bytes": self.num_bytes, "md5": self.md5, "sha256": self.sha256},
            "counts": self.counts,
            "layer": self.facts,
        }
        return json.dumps(value, sort_keys=True, indent=1) + "\n"

    @classmethod
    def from_json(cls, key: str, name: str, text: str) -> StoredShard:
        """Raises ValueError, KeyError or TypeError if ``text`` is no manifest of a shard of this name."""
        raw = json.loads(text)
        parquet, units = raw["parquet"], tuple(int(unit) for unit in raw["units"])
        counts = {str(status): int(count) for status, count in raw["counts"].items()}
        if sum(counts.values()) != len(units):
            raise ValueError(f"{len(units)} units, but counts of {sum(counts.values())}")
        if not units or shard_name(units) != name or raw["recipe"] != key:
            raise ValueError("it is the manifest of another shard")
        digests = str(parquet["sha256"]), str(parquet["md5"])
        return cls(key, name, units, *digests, int(parquet["bytes"]), dict(raw["layer"]), counts)

    def holds(self, data: bytes) -> bool:
        """Whether ``data`` is its parquet file."""
        return len(data) == self.num_bytes and hashlib.sha256(data).hexdigest() == self.sha256


class Store:
    """Shards under one URL: a folder, ``s3://BUCKET/PREFIX``, ``memory://``.

    Attributes:
        url: of the store.
        blobs: its files.
    """

    def __init__(self, url: str, options: Mapping[str, Any] | None = None, patience_s: float | None = None) -> None:
        """Raises StoreError if no installed file system reads such a URL. Writes nothing.

        Args:
            url: without credentials.
            options: for the file system, see :func:`pipeline.blobs.open_blobs`.
            patience_s: how long it is tried again while the store is away.
        """
        self.url = url
        patience = {} if patience_s is None else {"patience_s": patience_s}
        self.blobs: Blobs = open_blobs(url, options, **patience)

    def check_writable(self) -> None:
        """Write, read and remove a probe, and those that killed processes left.

        Raises:
            StoreError: that failed; the message says what to do.
        """
        probe = temporary_name("probe")
        try:
            self.blobs.write(probe, b"probe")
            if self.blobs.read(probe) != b"probe":
                raise StoreError("a probe file came back changed")
            self.blobs.remove(probe)
            for entry in self.blobs.entries(""):
                if is_leftover(entry.name, 0.0):
                    self.blobs.remove(entry.name)
        except StoreError as error:
            raise StoreError(
                f"the store {self.url} cannot be written ({error}); choose another folder with --out, or make this one "
                "writable"
            ) from error

    def write_recipe(self, recipe: Recipe) -> None:
        """Write the recipe beside its shards unless it is there.

        Raises:
            StoreError: it cannot be written.
        """
        data = (json.dumps(recipe.to_dict(), sort_keys=True, indent=1) + "\n").encode()
        if self.blobs.read(f"{recipe.key}/recipe.json") != data:
            self.blobs.write(f"{recipe.key}/recipe.json", data)

    def read_recipe(self, key: str) -> dict[str, Any] | None:
        """What determined the results under a key; None where that is not told."""
        try:
            raw = json.loads(self.blobs.read(f"{key}/recipe.json") or b"null")
        except ValueError:
            return None
        return raw if isinstance(raw, dict) else None

    def write_shard(self, key: str, records: Sequence[Record], facts: dict[str, Any]) -> StoredShard:
        """Write a shard; equal records make equal bytes, so two who write one at once do no harm.

        Args:
            key: of its recipe.
            records: of different units; at least one.
            facts: see :class:`StoredShard`.

        Raises:
            StoreError: it cannot be written.
            StoreUnavailableError: the store is full or away.
        """
        records = sorted(records, key=lambda record: record.unit)
        units = tuple(record.unit for record in records)
        name, data = shard_name(units), to_parquet(records)
        statuses: list[str] = [record.status for record in records]
        counts = {status: statuses.count(status) for status in sorted(set(statuses))}
        digests = hashlib.sha256(data).hexdigest(), hashlib.md5(data, usedforsecurity=False).hexdigest()
        shard = StoredShard(key, name, units, *digests, len(data), facts, counts)
        self.blobs.write(f"{key}/{name}.parquet", data)
        self.blobs.write(f"{key}/{name}.json", shard.to_json().encode())
        return shard

    def shards(self, key: str) -> tuple[StoredShard, ...]:
        """The done shards of a recipe, by name; one that is damaged is left out with a warning.

        A parquet file is read and compared with its manifest, unless the listing tells its MD5, or that it is the file
        that was read and found whole before, see :mod:`pipeline.checked`.
        """
        entries = {entry.name: entry for entry in self.blobs.entries(key)}
        names = [name[: -len(".json")] for name in entries if name.endswith(".json") and not name.startswith(".")]
        names = [name for name in names if name != "recipe"]
        texts = self.blobs.read_many([f"{key}/{name}.json" for name in names])
        found, known = [], Checked(self.url, key)
        for name, text in zip(names, texts, strict=True):
            shard = self._checked(key, name, text, entries.get(f"{name}.parquet"), known)
            if shard is not None:
                found.append(shard)
        known.keep()
        return tuple(found)

    def look(self, key: str, units: Sequence[int]) -> StoredShard | None:
        """The done shard of exactly these units, None while there is none; lists nothing.

        A damaged one is told in a warning and does not count.
        """
        name = shard_name(units)
        text = self.blobs.read(f"{key}/{name}.json")
        if text is None:
            return None
        return self._checked(key, name, text, None)

    def done_units(self, key: str) -> frozenset[int]:
        """Units of the done shards of a recipe."""
        return frozenset(unit for shard in self.shards(key) for unit in shard.units)

    def read_shard(self, shard: StoredShard) -> list[Record]:
        """Records of a done shard, by unit.

        Raises:
            DamagedShardError: its file is no longer there or was changed.
        """
        data = self.blobs.read(f"{shard.key}/{shard.name}.parquet")
        if data is None or not shard.holds(data):
            raise DamagedShardError(
                f"shard {shard.key}/{shard.name} of {self.url} has changed; build again to make it anew", shard
            )
        return from_parquet(data)

    def read_units(self, shards: Iterable[StoredShard], units: Iterable[int]) -> dict[int, Record]:
        """Records of those of ``units`` that the shards hold."""
        wanted, found = set(units), dict[int, Record]()
        for shard in shards:
            if wanted & set(shard.units):
                for record in self.read_shard(shard):
                    if record.unit in wanted:
                        found.setdefault(record.unit, record)
        return found

    def discard(self, shard: StoredShard) -> None:
        """Declare a shard not done."""
        self.blobs.remove(f"{shard.key}/{shard.name}.json")

    def clean(self, key: str, keep: Iterable[StoredShard]) -> int:
        """Remove what killed writers left behind in a recipe's folder; files of writers that may be alive stay.

        Args:
            key: of the recipe.
            keep: the done shards, as :meth:`shards` told; they are not checked again.

        Returns:
            The number of files removed.
        """
        done = {shard.name for shard in keep}
        entries = {entry.name: entry for entry in self.blobs.entries(key)}
        for name in entries:
            stem = name[: -len(".json")]
            if name.endswith(".json") and name[0] != "." and stem != "recipe" and stem not in done:
                text = self.blobs.read(f"{key}/{name}")
                if self._load(key, stem, text, entries.get(f"{stem}.parquet")) is not None:
                    done.add(stem)
        leftovers = [name for name, entry in entries.items() if _is_leftover(entry, done)]
        for name in leftovers:
            self.blobs.remove(f"{key}/{name}")
        return len(leftovers)

    def _checked(
        self, key: str, name: str, text: bytes | None, parquet: Entry | None, known: Checked | None = None
    ) -> StoredShard | None:
        try:
            return self._verified(key, name, text, parquet, known)
        except MALFORMED as error:
            log.warning("shard %s/%s of %s is damaged and will be made again: %s", key, name, self.url, error)
            return None

    def _load(self, key: str, name: str, text: bytes | None, parquet: Entry | None) -> StoredShard | None:
        try:
            return self._verified(key, name, text, parquet)
        except MALFORMED:
            return None

    def _verified(
        self, key: str, name: str, text: bytes | None, parquet: Entry | None, known: Checked | None = None
    ) -> StoredShard:
        """Raises one of MALFORMED if the manifest or what it describes is damaged."""
        shard = StoredShard.from_json(key, name, (text or b"").decode())
        wrong = ValueError("its parquet file is not the one its manifest describes")
        if parquet is not None and known is not None and known.knows(parquet, shard.sha256):
            return shard
        if parquet is not None and parquet.md5 is not None:
            if (parquet.md5, parquet.num_bytes) != (shard.md5, shard.num_bytes):
                raise wrong
            return shard
        data = self.blobs.read(f"{key}/{name}.parquet")
        if data is None:
            raise ValueError("its parquet file is missing")
        if not shard.holds(data):
            raise wrong
        if parquet is not None and known is not None:
            known.note(parquet, shard.sha256)
        return shard


def shard_name(units: Sequence[int]) -> str:
    """A name that is equal for equal units: first, last, and a hash of all of them."""
    digest = hashlib.sha256(np.asarray(units, "<i8").tobytes()).hexdigest()[:8]
    return f"{units[0]:06d}-{units[-1]:06d}-{digest}"


def _is_leftover(entry: Entry, done: set[str]) -> bool:
    stem, _, suffix = entry.name.rpartition(".")
    if entry.name.startswith("."):
        return is_leftover(entry.name, entry.age_s)
    if suffix == "claim":
        return stem in done
    if suffix == "parquet":
        return stem not in done and entry.age_s >= ABANDONED_S
    return suffix == "json" and stem != "recipe" and stem not in done
