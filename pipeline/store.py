"""The store: finished shards on any fsspec file system.

::

    KEY/recipe.json              what determined these results
    KEY/SHARD.parquet            one row per unit
    KEY/SHARD.json               its manifest: units, counts, digest and size of the parquet file

A file is written under a temporary name in its folder and then renamed; the manifest comes last. A shard is done when
its manifest is there and its parquet file is the one the manifest describes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import posixpath
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import fsspec
import numpy as np

from export.errors import StoreError
from pipeline.recipe import Recipe
from pipeline.records import Record, from_parquet, to_parquet
from pipeline.temporary import ABANDONED_S, is_leftover, temporary_name

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredShard:
    """A done shard.

    Attributes:
        key: of its recipe.
        name: of its files.
        units: ascending.
        sha256: of its parquet file.
        num_bytes: of its parquet file.
        facts: what the engine knew of the layer: ``position``, ``receptive_field``, ``image_px``, ``num_units``.
        counts: number of records by status.
    """

    key: str
    name: str
    units: tuple[int, ...]
    sha256: str
    num_bytes: int
    facts: dict[str, Any]
    counts: dict[str, int]

    def to_json(self) -> str:
        value = {
            "units": self.units,
            "parquet": {"bytes": self.num_bytes, "sha256": self.sha256},
            "counts": self.counts,
            "layer": self.facts,
        }
        return json.dumps(value, sort_keys=True, indent=1) + "\n"

    @classmethod
    def from_json(cls, key: str, name: str, text: str) -> StoredShard:
        """Raises ValueError, KeyError or TypeError if ``text`` is no manifest."""
        raw = json.loads(text)
        parquet, units = raw["parquet"], tuple(int(unit) for unit in raw["units"])
        counts = {str(status): int(count) for status, count in raw["counts"].items()}
        if sum(counts.values()) != len(units):
            raise ValueError(f"{len(units)} units, but counts of {sum(counts.values())}")
        return cls(key, name, units, str(parquet["sha256"]), int(parquet["bytes"]), dict(raw["layer"]), counts)


class Store:
    """Shards under one fsspec URL: a folder, ``memory://``, ``s3://``."""

    def __init__(self, url: str) -> None:
        """Raises StoreError if no installed file system reads such a URL. Writes nothing."""
        self.url = url
        try:
            self._fs, self._root = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError, OSError) as error:
            raise StoreError(f"the store {url} cannot be opened: {error}") from error

    def check_writable(self) -> None:
        """Write, read and remove a probe, and those that killed processes left.

        Raises:
            StoreError: that failed; the message says what to do.
        """
        probe = posixpath.join(self._root, temporary_name("probe"))
        try:
            self._fs.makedirs(self._root, exist_ok=True)
            self._fs.pipe_file(probe, b"probe")
            if self._fs.cat_file(probe) != b"probe":
                raise OSError("a probe file came back changed")
            self._fs.rm_file(probe)
            for name in self._names(""):
                if is_leftover(name, 0.0):
                    self._remove(posixpath.join(self._root, name))
        except (OSError, ValueError) as error:
            raise StoreError(
                f"the store {self.url} cannot be written ({_reason(error)}); choose another folder with --out, or make "
                "this one writable"
            ) from error

    def write_recipe(self, recipe: Recipe) -> None:
        """Write the recipe beside its shards unless it is there.

        Raises:
            StoreError: it cannot be written.
        """
        path = self._path(recipe.key, "recipe.json")
        text = json.dumps(recipe.to_dict(), sort_keys=True, indent=1) + "\n"
        if self._read(path) != text.encode():
            self._write(path, text.encode())

    def read_recipe(self, key: str) -> dict[str, Any] | None:
        """The recipe of a key, as :meth:`write_recipe` wrote it; None if it is not there."""
        text = self._read(self._path(key, "recipe.json"))
        return dict(json.loads(text)) if text else None

    def write_shard(self, key: str, records: Sequence[Record], facts: dict[str, Any]) -> StoredShard:
        """Write a shard; equal records make equal bytes.

        Args:
            key: of its recipe.
            records: of different units; at least one.
            facts: see :class:`StoredShard`.

        Raises:
            StoreError: it cannot be written.
        """
        records = sorted(records, key=lambda record: record.unit)
        units = tuple(record.unit for record in records)
        name, data = shard_name(units), to_parquet(records)
        statuses: list[str] = [record.status for record in records]
        counts = {status: statuses.count(status) for status in sorted(set(statuses))}
        shard = StoredShard(key, name, units, hashlib.sha256(data).hexdigest(), len(data), facts, counts)
        self._remove(self._path(key, f"{name}.json"))
        self._write(self._path(key, f"{name}.parquet"), data)
        self._write(self._path(key, f"{name}.json"), shard.to_json().encode())
        return shard

    def shards(self, key: str) -> tuple[StoredShard, ...]:
        """The done shards of a recipe, by name; one that is damaged is left out with a warning."""
        names = sorted(name[: -len(".json")] for name in self._names(key) if name.endswith(".json"))
        found = [self._checked(key, name) for name in names if name != "recipe" and not name.startswith(".")]
        return tuple(shard for shard in found if shard is not None)

    def done_units(self, key: str) -> frozenset[int]:
        """Units of the done shards of a recipe."""
        return frozenset(unit for shard in self.shards(key) for unit in shard.units)

    def read_shard(self, shard: StoredShard) -> list[Record]:
        """Records of a done shard, by unit.

        Raises:
            StoreError: its file is no longer there or was changed.
        """
        data = self._read(self._path(shard.key, f"{shard.name}.parquet"))
        if data is None or hashlib.sha256(data).hexdigest() != shard.sha256:
            raise StoreError(f"shard {shard.key}/{shard.name} of {self.url} has changed; build again to make it anew")
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

    def clean(self, key: str, keep: Iterable[StoredShard]) -> int:
        """Remove what killed writers left behind in a recipe's folder; files of writers that may be alive stay.

        Args:
            key: of the recipe.
            keep: the done shards, as :meth:`shards` told; they are not checked again.

        Returns:
            The number of files removed.
        """
        kept = {shard.name for shard in keep}
        names = self._names(key)
        done = kept | {
            stem
            for stem, suffix in map(posixpath.splitext, names)
            if suffix == ".json" and stem not in kept and self._is_done(key, stem)
        }
        leftovers = []
        for name in names:
            stem, suffix = posixpath.splitext(name)
            if name.startswith("."):
                wanted = not is_leftover(name, self._age_s(self._path(key, name)))
            elif suffix == ".parquet" and stem not in done:
                wanted = self._age_s(self._path(key, name)) < ABANDONED_S
            else:
                wanted = suffix != ".json" or stem == "recipe" or stem in done
            if not wanted:
                leftovers.append(name)
        for name in leftovers:
            self._remove(self._path(key, name))
        return len(leftovers)

    def _checked(self, key: str, name: str) -> StoredShard | None:
        try:
            return self._load(key, name)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("shard %s/%s of %s is damaged and will be made again: %s", key, name, self.url, error)
            return None

    def _is_done(self, key: str, name: str) -> bool:
        try:
            self._load(key, name)
        except (ValueError, KeyError, TypeError, AttributeError):
            return False
        return True

    def _load(self, key: str, name: str) -> StoredShard:
        """Raises ValueError, KeyError, TypeError or AttributeError if the manifest or what it describes is damaged."""
        text = self._read(self._path(key, f"{name}.json"))
        shard = StoredShard.from_json(key, name, (text or b"").decode())
        data = self._read(self._path(key, f"{name}.parquet"))
        if data is None:
            raise ValueError("its parquet file is missing")
        if len(data) != shard.num_bytes or hashlib.sha256(data).hexdigest() != shard.sha256:
            raise ValueError("its parquet file is not the one its manifest describes")
        return shard

    def _path(self, key: str, name: str) -> str:
        return posixpath.join(self._root, key, name)

    def _names(self, key: str) -> list[str]:
        folder = posixpath.join(self._root, key)
        try:
            self._fs.invalidate_cache(folder)
            return [posixpath.basename(path.rstrip("/")) for path in self._fs.ls(folder, detail=False)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(f"the store {self.url} cannot be read: {_reason(error)}") from error

    def _read(self, path: str) -> bytes | None:
        try:
            data: bytes = self._fs.cat_file(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{path} in the store cannot be read: {_reason(error)}") from error
        return data

    def _write(self, path: str, data: bytes) -> None:
        folder, name = posixpath.split(path)
        part = posixpath.join(folder, temporary_name(name))
        try:
            self._fs.makedirs(folder, exist_ok=True)
            self._fs.pipe_file(part, data)
            self._fs.mv(part, path)
        except OSError as error:
            self._remove(part)
            raise StoreError(f"{path} in the store cannot be written: {_reason(error)}") from error

    def _remove(self, path: str) -> None:
        try:
            self._fs.rm_file(path)
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("%s in the store cannot be removed: %s", path, _reason(error))

    def _age_s(self, path: str) -> float:
        """Age in seconds; 0 where the file system does not tell."""
        try:
            modified = self._fs.modified(path).timestamp()
        except (OSError, NotImplementedError):
            return 0.0
        return max(0.0, time.time() - float(modified))


def shard_name(units: Sequence[int]) -> str:
    """A name that is equal for equal units: first, last, and a hash of all of them."""
    digest = hashlib.sha256(np.asarray(units, "<i8").tobytes()).hexdigest()[:8]
    return f"{units[0]:06d}-{units[-1]:06d}-{digest}"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
