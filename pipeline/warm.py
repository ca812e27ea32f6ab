"""Warm starts: when only the network has changed, jobs start from the codes that were published last.

Which codes a recipe starts from is part of the recipe, and is decided once::

    starts/BASE.json        the decision for the recipe whose key, start aside, is BASE; created on the condition that
                            there is none, and followed by every later run; drawn codes need no decision
    starts/DIGEST.codes     the codes: a line with the SHA-256 of the rest, and a parquet file (unit, code)

DIGEST is that of the shards the codes are from, so a decision needs no code read. Jobs of units without such a code
start from drawn ones.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from export.errors import StoreError
from pipeline.recipe import Recipe, short_digest
from pipeline.records import write_table
from pipeline.store import DamagedShardError, Store, StoredShard

FOLDER = "starts"
Codes = Mapping[int, npt.NDArray[np.float32]]
"""Start code (code_dim,) by unit."""

FREE_TO_DIFFER = ("network", "target", "fallback", "start", "film")
"""What may differ between a recipe and the one it starts from: the network, how it names its tensors, what is shown."""

SCHEMA = pa.schema(
    [pa.field("unit", pa.int32(), nullable=False), pa.field("code", pa.list_(pa.float32()), nullable=False)]
)


@dataclass(frozen=True)
class Decision:
    """Where the jobs of a recipe start.

    Attributes:
        base: key of the recipe, start aside.
        start: DIGEST of the codes, None to draw them.
        source: shards the codes are from; empty once the decision is stored.
        is_stored: whether it was made earlier.
    """

    base: str
    start: str | None
    source: tuple[StoredShard, ...]
    is_stored: bool


def decide(store: Store, recipe: Recipe, last_key: str | None) -> Decision:
    """Decide where a recipe's jobs start; write nothing.

    Args:
        store: of the results.
        recipe: without a start.
        last_key: the recipe published last for this layer and seed, if any.
    """
    base = recipe.key
    stored = _read_decision(store, base)
    if stored is not None:
        return stored
    cold = Decision(base, None, (), is_stored=False)
    if last_key is None or last_key == base:
        return cold
    last = store.read_recipe(last_key)
    if last is None or not _differs_in_network_alone(recipe.to_dict(), last) or store.read_recipe(base) is not None:
        return cold
    source = store.shards(last_key)
    if not source:
        return cold
    return Decision(base, _digest(last_key, source), source, is_stored=False)


def settle(store: Store, decision: Decision) -> str | None:
    """Store a decision and its codes; return the start that holds, which is another's if he was faster.

    Raises:
        DamagedShardError: codes that were to be started from have been damaged; they no longer count, decide again.
    """
    if decision.is_stored or decision.start is None:
        return decision.start
    store.blobs.write(_codes_path(decision.start), _pack(store, decision.source))
    text = json.dumps({"start": decision.start}, sort_keys=True) + "\n"
    if store.blobs.create(_decision_path(decision.base), text.encode()):
        return decision.start
    found = _read_decision(store, decision.base)
    return found.start if found is not None else decision.start


def keep_codes(store: Store, key: str) -> str:
    """Keep the codes of a recipe's results for another recipe to start from; nothing is decided for later runs.

    Returns:
        The start, for :meth:`Recipe.with_start`.

    Raises:
        StoreError: the recipe has no results, or the codes cannot be written.
        DamagedShardError: results have been damaged; they no longer count.
    """
    source = store.shards(key)
    if not source:
        raise StoreError(f"{store.url} holds no results of recipe {key} whose codes could be started from")
    start = _digest(key, source)
    if store.blobs.read(_codes_path(start)) is None:
        store.blobs.write(_codes_path(start), _pack(store, source))
    return start


def read_codes(store: Store, start: str | None) -> Codes:
    """Start codes by unit.

    Raises:
        StoreError: they are gone or damaged.
    """
    if start is None:
        return {}
    head, _, data = (store.blobs.read(_codes_path(start)) or b"").partition(b"\n")
    if hashlib.sha256(data).hexdigest().encode() != head:
        raise StoreError(
            f"the start codes {_codes_path(start)} of {store.url} are gone or damaged; bring them back, or remove the "
            f"files of {FOLDER}/ that name {start} and build again, which starts from other codes"
        )
    table = pq.read_table(io.BytesIO(data), schema=SCHEMA, use_threads=False)
    codes = [np.asarray(row.values, np.float32) for row in table.column("code")]
    return dict(zip(table.column("unit").to_pylist(), codes, strict=True))


def decided(store: Store, name: str) -> str | None:
    """The start that a decision's file names; None for other files."""
    stored = _read_decision(store, name.removesuffix(".json")) if name.endswith(".json") else None
    return stored.start if stored is not None else None


def _digest(key: str, source: Sequence[StoredShard]) -> str:
    """Of the codes of a recipe's shards."""
    content = [key, sorted(shard.sha256 for shard in source)]
    return short_digest(content)


def _pack(store: Store, source: Sequence[StoredShard]) -> bytes:
    units: dict[int, npt.NDArray[np.float32]] = {}
    for shard in source:
        try:
            records = store.read_shard(shard)
        except DamagedShardError:
            store.discard(shard)
            raise
        units |= {record.unit: record.code for record in records if record.status == "done"}
    ordered = sorted(units)
    columns = {"unit": ordered, "code": [units[unit] for unit in ordered]}
    data = write_table(pa.Table.from_pydict(columns, schema=SCHEMA))
    return hashlib.sha256(data).hexdigest().encode() + b"\n" + data


def _differs_in_network_alone(new: dict[str, Any], old: dict[str, Any]) -> bool:
    differing = {name for name in new | old if new.get(name) != old.get(name)}
    return "network" in differing and differing <= set(FREE_TO_DIFFER)


def _read_decision(store: Store, base: str) -> Decision | None:
    try:
        raw = json.loads(store.blobs.read(_decision_path(base)) or b"null")
        if raw is None:
            return None
        start = raw["start"]
        if start is not None and not isinstance(start, str):
            raise ValueError(start)
    except (ValueError, KeyError, TypeError):
        store.blobs.remove(_decision_path(base))
        return None
    return Decision(base, start, (), is_stored=True)


def _decision_path(base: str) -> str:
    return f"{FOLDER}/{base}.json"


def _codes_path(start: str) -> str:
    return f"{FOLDER}/{start}.codes"
