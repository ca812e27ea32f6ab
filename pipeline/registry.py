"""What is published, told in the store: which results each version of each atlas shows.

::

    atlases/NAME/ID.json         a version: number, date, content digest, and the recipes, starts and models it needs
    atlases/NAME/ID.parquet      its table of units
    atlases/NAME/current.json    a copy of the record of the version that is shown

A version is registered before it is shown and forgotten after it is removed, so what is shown is always protected from
:mod:`pipeline.retention`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.store import MALFORMED, Store

FOLDER = "atlases"
CURRENT = "current.json"


@dataclass(frozen=True)
class Version:
    """A published version of an atlas.

    Attributes:
        number: from 1; versions are ordered by it, not by anybody's clock.
        digest: of everything the table and the site are made from.
        date: when it was published, ISO 8601, UTC.
        recipes: ``{layer: [key of seed 0, key of seed 1, ...]}``.
        starts: the start codes that these recipes name.
        models: digests of the network and the generator.
        store: URL of its results; empty where they are in the folder ``store`` of the build.
    """

    number: int
    digest: str
    date: str
    recipes: dict[str, list[str]] = field(default_factory=dict)
    starts: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    store: str = ""

    @property
    def name(self) -> str:
        """Of its folder: ``00012-ab12cd34``."""
        return f"{self.number:05d}-{self.digest[:8]}"

    @property
    def keys(self) -> set[str]:
        """Of every recipe it shows."""
        return {key for keys in self.recipes.values() for key in keys}

    def to_json(self) -> bytes:
        return (json.dumps(asdict(self), sort_keys=True, indent=1) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes) -> Version:
        """Raises ValueError, KeyError, TypeError or AttributeError if ``data`` is no record."""
        raw: dict[str, Any] = json.loads(data)
        recipes = {str(layer): [str(key) for key in keys] for layer, keys in raw["recipes"].items()}
        return cls(
            int(raw["number"]),
            str(raw["digest"]),
            str(raw["date"]),
            recipes,
            [str(start) for start in raw["starts"]],
            [str(model) for model in raw["models"]],
            str(raw["store"]),
        )


def current_version(store: Store, atlas: str) -> Version | None:
    """The version that was published last; None if there is none."""
    return _read(store, f"{FOLDER}/{atlas}/{CURRENT}")


def last_recipes(store: Store, atlas: str) -> dict[tuple[str, int], str]:
    """Key of the recipe published last, by layer and seed."""
    version = current_version(store, atlas)
    recipes = version.recipes if version else {}
    return {(layer, seed): key for layer, keys in recipes.items() for seed, key in enumerate(keys)}


def versions(store: Store, atlas: str) -> list[Version]:
    """Every version that is registered, by number; a listing."""
    names = [entry.name for entry in store.blobs.entries(f"{FOLDER}/{atlas}")]
    read = [_read(store, f"{FOLDER}/{atlas}/{name}") for name in names if name.endswith(".json") and name != CURRENT]
    return sorted((version for version in read if version is not None), key=lambda version: version.number)


def all_versions(store: Store) -> list[Version]:
    """Every version of every atlas of the store; listings."""
    return [version for atlas in store.blobs.folders(FOLDER) for version in versions(store, atlas)]


def register(store: Store, atlas: str, version: Version, table: bytes) -> None:
    """Protect what a version needs, and keep its table of units; it is not shown yet."""
    store.blobs.write(f"{FOLDER}/{atlas}/{version.name}.parquet", table)
    store.blobs.write(f"{FOLDER}/{atlas}/{version.name}.json", version.to_json())


def show(store: Store, atlas: str, version: Version) -> None:
    """Tell that a registered version is the one that is shown."""
    store.blobs.write(f"{FOLDER}/{atlas}/{CURRENT}", version.to_json())


def forget(store: Store, atlas: str, version: Version) -> None:
    """Protect a version no longer; its files must be gone."""
    store.blobs.remove(f"{FOLDER}/{atlas}/{version.name}.json")
    store.blobs.remove(f"{FOLDER}/{atlas}/{version.name}.parquet")


def table_of(store: Store, atlas: str, version: Version) -> bytes | None:
    """A version's table of units, None if it is gone."""
    return store.blobs.read(f"{FOLDER}/{atlas}/{version.name}.parquet")


def publishing_claim(atlas: str) -> str:
    """The claim of whoever publishes an atlas."""
    return f"{FOLDER}/{atlas}/publishing.claim"


def _read(store: Store, path: str) -> Version | None:
    data = store.blobs.read(path)
    try:
        return Version.from_json(data) if data is not None else None
    except MALFORMED:
        return None
