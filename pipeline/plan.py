"""The plan: which shards are still to be made. Nothing is compiled and no job is run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from export.errors import AtlasError, InputError
from export.network import LayerInfo
from pipeline.config import LayerSection
from pipeline.recipe import Recipe
from pipeline.registry import last_recipes
from pipeline.store import CLAIM, StoredShard, shard_name
from pipeline.units import select_units
from pipeline.warm import decide, settle
from pipeline.workspace import Workspace


@dataclass(frozen=True)
class Shard:
    """Jobs of one layer and seed that are run and stored together.

    Attributes:
        layer: its name.
        key: of the recipe.
        seed: of the start codes.
        units: ascending.
        start: of the recipe: the codes its jobs start from.
    """

    layer: str
    key: str
    seed: int
    units: tuple[int, ...]
    start: str | None = None

    @property
    def name(self) -> str:
        """Of its files."""
        return shard_name(self.units)

    @property
    def claim_path(self) -> str:
        return f"{self.key}/{self.name}{CLAIM}"

    def __str__(self) -> str:
        """For people: which units of which layer."""
        return (
            f"layer {self.layer}, seed {self.seed}, units {self.units[0]} to {self.units[-1]} ({self.key}/{self.name})"
        )


@dataclass(frozen=True)
class SeedPlan:
    """One (layer, seed).

    Attributes:
        recipe: of these results.
        stored: done shards of the recipe; they may hold units that were not asked for.
        missing: units asked for that no done shard holds.
    """

    recipe: Recipe
    stored: tuple[StoredShard, ...]
    missing: tuple[int, ...]


@dataclass(frozen=True)
class LayerPlan:
    """One layer.

    Attributes:
        section: what the configuration says of it.
        info: what the network says of it.
        units: asked for, ascending.
        seeds: one entry per seed.
    """

    section: LayerSection
    info: LayerInfo
    units: tuple[int, ...]
    seeds: tuple[SeedPlan, ...]

    @property
    def num_jobs(self) -> int:
        return len(self.units) * len(self.seeds)

    @property
    def num_todo(self) -> int:
        return sum(len(seed.missing) for seed in self.seeds)


@dataclass(frozen=True)
class Plan:
    """What there is to do.

    Attributes:
        layers: from early to late.
        shards: in the order in which engines are reused; of the negatives too.
        negatives: of each layer, where negatives are asked for; apart, since they are no further seeds of its units.
    """

    layers: tuple[LayerPlan, ...]
    shards: tuple[Shard, ...]
    negatives: tuple[LayerPlan, ...] = ()

    @property
    def all_layers(self) -> tuple[LayerPlan, ...]:
        """Everything that is made: the layers, then their negatives."""
        return (*self.layers, *self.negatives)

    @property
    def num_jobs(self) -> int:
        return sum(layer.num_jobs for layer in self.all_layers)

    @property
    def num_todo(self) -> int:
        return sum(layer.num_todo for layer in self.all_layers)

    @property
    def num_done(self) -> int:
        return self.num_jobs - self.num_todo

    def to_dict(self) -> dict[str, Any]:
        """``{"jobs", "done", "todo", "layers": {name: {"jobs", "done", "todo"}}}``."""
        layers = {
            layer.info.name: {
                "jobs": layer.num_jobs,
                "done": layer.num_jobs - layer.num_todo,
                "todo": layer.num_todo,
            }
            for layer in self.all_layers
        }
        return {"jobs": self.num_jobs, "done": self.num_done, "todo": self.num_todo, "layers": layers}


def make_plan(workspace: Workspace, *, settled: bool = False, probe: bool = True) -> Plan:
    """Check what was asked for and look up what is done.

    Args:
        workspace: what was asked for.
        settled: decide for good where jobs start, see :mod:`pipeline.warm`; otherwise nothing is written.
        probe: see that the store can be written.

    Raises:
        InputError: unknown layers, a layer named twice, units a layer does not have (all such faults are listed).
        StoreError: the store cannot be written.
    """
    selected = _select(workspace)
    if probe:
        workspace.store.check_writable()
    last = last_recipes(workspace.store, workspace.config.name) if workspace.config.start.from_last else {}
    layers, negatives, shards = list[LayerPlan](), list[LayerPlan](), list[Shard]()
    wanted = [(section, info, units, section.seeds) for section, info, units in selected]
    if workspace.config.ascent.negative:
        wanted += [(section, info.negative, units, 1) for section, info, units in selected]
    for section, info, units, num_seeds in wanted:
        seeds = []
        parts = split(units, workspace.config.run.shard_size)
        for seed in range(num_seeds):
            recipe = _started(workspace, workspace.recipe(info, seed), last.get((info.name, seed)), settled)
            key = recipe.key
            stored = workspace.store.shards(key)
            done = {unit for shard in stored for unit in shard.units}
            missing = tuple(unit for unit in units if unit not in done)
            seeds.append(SeedPlan(recipe, stored, missing))
            for part in parts:
                left = tuple(unit for unit in part if unit not in done)
                if left:
                    shards.append(Shard(info.name, key, seed, left, recipe.start))
        (layers if info.sign > 0 else negatives).append(LayerPlan(section, info, units, tuple(seeds)))
    return Plan(tuple(layers), tuple(shards), tuple(negatives))


def split(units: Sequence[int], size: int) -> list[tuple[int, ...]]:
    """``units`` in parts of ``size``, the last one possibly shorter.

    What is asked for decides the parts, not what is done, so that two flows, and a run after an interruption, mean the
    same shards.
    """
    return [tuple(units[start : start + size]) for start in range(0, len(units), size)]


def _started(workspace: Workspace, recipe: Recipe, last_key: str | None, settled: bool) -> Recipe:
    if not workspace.config.start.from_last:
        return recipe
    decision = decide(workspace.store, recipe, last_key)
    return recipe.with_start(settle(workspace.store, decision) if settled else decision.start)


def _select(workspace: Workspace) -> list[tuple[LayerSection, LayerInfo, tuple[int, ...]]]:
    selected: list[tuple[LayerSection, LayerInfo, tuple[int, ...]]] = []
    faults: list[AtlasError] = []
    for section in workspace.config.layers:
        try:
            info = workspace.network.layer(section.name)
            if any(info.name == other.name for _, other, _ in selected):
                raise InputError(f"layer {section.name} is asked for twice; give it once, with more units or seeds")
            units = select_units(section.selection, info.name, info.num_units, workspace.labels_of(info))
        except AtlasError as error:
            faults.append(error)
        else:
            selected.append((section, info, units))
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise InputError("\n  ".join([f"{len(faults)} layers are wrong:", *map(str, faults)]))
    depth = {layer.name: index for index, layer in enumerate(workspace.network.layers)}
    return sorted(selected, key=lambda entry: depth[entry[1].name])
