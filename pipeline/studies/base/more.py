"""Further results that a study needs and the atlas lacks: other start codes of a few units. Kept in the store."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.engines import Engines
from pipeline.plan import Shard
from pipeline.records import Record
from pipeline.studies.base.context import Context, LayerResults
from pipeline.worker import make_shard


def seeds_of(
    context: Context, layer: LayerResults, units: Sequence[int], seeds: int, engines: Engines
) -> dict[int, list[Record]]:
    """Records of ``units`` from the first ``seeds`` start codes; those the store lacks are made and stored.

    Args:
        context: of the study.
        layer: of the atlas.
        units: of the layer.
        seeds: start codes per unit.
        engines: of the context's workspace.

    Returns:
        unit -> its records that are not dead, by seed.

    Raises:
        EngineError: the runtime failed.
        StoreError: the store cannot be read or written.
    """
    workspace = context.workspace
    found: dict[int, list[Record]] = {unit: [] for unit in units}
    for seed in range(seeds):
        key = workspace.recipe(layer.info, seed).key
        shards = workspace.store.shards(key)
        done = {unit for shard in shards for unit in shard.units}
        missing = tuple(sorted(unit for unit in units if unit not in done))
        if missing:
            make_shard(workspace, Shard(layer.name, key, seed, missing), engines)
            shards = workspace.store.shards(key)
        for unit, record in workspace.store.read_units(shards, units).items():
            if record.status == "done":
                found[unit].append(record)
    return found
