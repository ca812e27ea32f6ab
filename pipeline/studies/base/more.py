"""Further results that a study needs and the atlas lacks: other start codes, other networks. Kept in the store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pipeline.engines import Engines
from pipeline.plan import Shard
from pipeline.records import Record
from pipeline.studies.base.context import Context, LayerResults
from pipeline.worker import make_shard
from pipeline.workspace import Workspace


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
    made = [records_of(context.workspace, layer.name, units, engines, seed=seed) for seed in range(seeds)]
    return {unit: [found[unit] for found in made if found[unit].status == "done"] for unit in units}


def records_of(
    workspace: Workspace, layer: str, units: Iterable[int], engines: Engines, *, seed: int = 0, start: str | None = None
) -> dict[int, Record]:
    """Records of ``units`` under one recipe; those the store lacks are made and stored.

    Args:
        workspace: may be of another network than the atlas.
        layer: of its network.
        units: of the layer.
        engines: of the workspace.
        seed: of the start codes.
        start: codes to start from instead, see :func:`pipeline.warm.keep_codes`.

    Raises:
        EngineError: the runtime failed.
        StoreError: the store cannot be read or written.
    """
    wanted, store = sorted(units), workspace.store
    key = key_of(workspace, layer, seed=seed, start=start)
    done = {unit for shard in store.shards(key) for unit in shard.units}
    missing = tuple(unit for unit in wanted if unit not in done)
    if missing:
        make_shard(workspace, Shard(layer, key, seed, missing, start), engines)
    return store.read_units(store.shards(key), wanted)


def key_of(workspace: Workspace, layer: str, *, seed: int = 0, start: str | None = None) -> str:
    """Of the recipe that :func:`records_of` follows."""
    return workspace.recipe(workspace.network.layer(layer), seed).with_start(start).key
