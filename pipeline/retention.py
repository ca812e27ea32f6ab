"""Retention: results that no kept version shows are removed once they are old.

A version of an atlas is kept while it is among the last ``publish.keep``. The store keeps what any kept version of any
atlas in it needs, and everything written in the last ``store.keep_days`` days, whatever it is: work in progress too.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from pipeline import registry, tuning, warm
from pipeline.store import Store

log = logging.getLogger(__name__)

DAY_S = 24 * 3600.0
MODELS, ORDERS = "models", "orders"
OURS = (registry.FOLDER, warm.FOLDER, tuning.FOLDER, MODELS, ORDERS)


@dataclass(frozen=True)
class Pruned:
    """What was removed, or would be.

    Attributes:
        recipes: keys.
        files: start codes and models.
        num_bytes: of all of them.
    """

    recipes: tuple[str, ...]
    files: tuple[str, ...]
    num_bytes: int


def prune(store: Store, keep_days: int, *, dry_run: bool = False) -> Pruned:
    """Remove what nobody shows and nobody has written for ``keep_days`` days; 0 keeps everything.

    The age of files is told by the clock of their place. A manifest is removed before its parquet file, so a run that
    looks meanwhile finds a shard whole or not at all, and makes it again.

    Raises:
        StoreError, StoreUnavailableError: the store cannot be read or written.
    """
    if keep_days == 0:
        return Pruned((), (), 0)
    shown = registry.all_versions(store)
    keys = {key for version in shown for key in version.keys}
    recipes, num_bytes = [], 0
    for key in store.blobs.folders(""):
        entries = [] if key in keys or key in OURS else store.blobs.entries(key)
        if not entries or min(entry.age_s for entry in entries) < keep_days * DAY_S:
            continue
        recipes.append(key)
        num_bytes += sum(entry.num_bytes for entry in entries)
        for entry in sorted(entries, key=lambda entry: (not entry.name.endswith(".json"), entry.name == "recipe.json")):
            if not dry_run:
                store.blobs.remove(f"{key}/{entry.name}")
    files = []
    needed = {name for version in shown for name in [*version.starts, *version.models]}
    for folder in (warm.FOLDER, MODELS, ORDERS):
        for entry in store.blobs.entries(folder):
            if entry.age_s < keep_days * DAY_S or entry.name.partition(".")[0] in needed:
                continue
            if folder == warm.FOLDER and warm.decided(store, entry.name) in needed:
                continue
            files.append(f"{folder}/{entry.name}")
            num_bytes += entry.num_bytes
            if not dry_run:
                store.blobs.remove(files[-1])
    if recipes and not dry_run:
        log.info("%d recipes and %d files removed from %s, %d bytes", len(recipes), len(files), store.url, num_bytes)
    return Pruned(tuple(recipes), tuple(files), num_bytes)
