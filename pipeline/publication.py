"""From a finished store to what is published: the table of units and the site."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from export.errors import AtlasError
from export.manifest import Box
from pipeline.plan import LayerPlan, Plan
from pipeline.recipe import canonical_json
from pipeline.records import Record
from pipeline.site.incremental import code_version
from pipeline.site.model import Atlas, Layer, Result
from pipeline.site.publish import publish
from pipeline.site.studies import read_studies
from pipeline.store import Store, StoredShard
from pipeline.table import Results, replace_file, write_units
from pipeline.workspace import Workspace

STAMP = "published.json"
"""File of a build's folder that tells what its table and site were made from."""


@dataclass(frozen=True)
class Publication:
    """What was published.

    Attributes:
        index: the page to open.
        fresh: whether it was made now; False when it was up to date.
    """

    index: Path
    fresh: bool


def publish_atlas(workspace: Workspace, plan: Plan, run: dict[str, Any]) -> Publication:
    """Write ``units.parquet`` and ``site/`` from a plan with nothing left to do, unless both are up to date.

    Args:
        workspace: of the plan.
        plan: made after the last shard was stored.
        run: facts of this run that the site shows; nothing else on the site changes from run to run.

    Raises:
        AtlasError: jobs are missing.
        StoreError: a file cannot be written or read.
    """
    if plan.num_todo:
        raise AtlasError(f"{plan.num_todo} of {plan.num_jobs} jobs are not in the store; build again to make them")
    out, digest = workspace.out, _content_digest(workspace, plan)
    stamp, table, site = out / STAMP, out / "units.parquet", out / "site"
    index = site / "index.html"
    if index.is_file() and table.is_file() and _read_stamp(stamp) == digest:
        return Publication(index, fresh=False)
    stamp.unlink(missing_ok=True)
    results = collect(workspace, plan)
    write_units(table, plan.layers, results)
    index = publish(make_atlas(workspace, plan, results, run), site)
    replace_file(stamp, (json.dumps({"digest": digest, "index": str(index.relative_to(out))}) + "\n").encode())
    return Publication(index, fresh=True)


@dataclass(frozen=True)
class StoredPictures:
    """Pictures of a layer, read from the store when they are needed; ``shards`` by seed."""

    store: Store
    shards: tuple[tuple[StoredShard, ...], ...]

    def read(self, units: Sequence[int]) -> Iterable[tuple[int, int, bytes]]:
        for stored in self.shards:
            for record in self.store.read_units(stored, units).values():
                yield record.unit, record.seed, record.image


def collect(workspace: Workspace, plan: Plan) -> Results:
    """Every record that was asked for, without pictures and codes: those of an atlas may be larger than memory."""
    return {
        (layer.info.name, seed.recipe.seed): {
            unit: replace(record, image=b"", code=np.empty(0, np.float32))
            for shard in seed.stored
            for unit, record in workspace.store.read_units([shard], layer.units).items()
        }
        for layer in plan.layers
        for seed in layer.seeds
    }


def make_atlas(workspace: Workspace, plan: Plan, results: Results, run: dict[str, Any]) -> Atlas:
    """The site's data."""
    config, network, generator = workspace.config, workspace.network, workspace.generator
    network_card = network.card.model_dump(mode="json", exclude={"labels"})
    return Atlas(
        name=config.name,
        title=config.title or config.name,
        network={**network_card, "digest": network.digest},
        generator={**generator.card.model_dump(mode="json"), "digest": generator.digest},
        layers=tuple(_layer(workspace, layer, results) for layer in plan.layers),
        run=run,
        studies=read_studies(workspace.out / "studies"),
    )


def run_facts(workspace: Workspace, num_made: int, duration_s: float) -> dict[str, Any]:
    """What the site tells of the run that published it."""
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    return {
        "date": now.isoformat(),
        "runtime": f"{workspace.builder.name} {workspace.builder.availability().detail}",
        "precision": workspace.config.run.precision,
        "jobs_made": num_made,
        "duration_s": round(duration_s, 1),
    }


def _layer(workspace: Workspace, layer: LayerPlan, results: Results) -> Layer:
    first = layer.seeds[0]
    facts = first.stored[0].facts
    labels = workspace.labels_of(layer.info) or ()
    return Layer(
        name=layer.info.name,
        title=layer.section.title or layer.info.name,
        shape=layer.info.shape,
        num_units=layer.info.num_units,
        position=tuple(facts["position"]) if facts["position"] else None,
        receptive_field=Box(**facts["receptive_field"]),
        image_px=facts["image_px"],
        recipe_key=first.recipe.key,
        recipe=first.recipe.to_dict(),
        labels={unit: labels[unit] for unit in layer.units} if labels else {},
        results=tuple(
            _result(results[layer.info.name, seed.recipe.seed][unit]) for unit in layer.units for seed in layer.seeds
        ),
        pictures=StoredPictures(workspace.store, tuple(seed.stored for seed in layer.seeds)),
        version=_digest_of([[seed.recipe.key, [shard.sha256 for shard in seed.stored]] for seed in layer.seeds]),
    )


def _result(record: Record) -> Result:
    return Result(
        unit=record.unit,
        seed=record.seed,
        status=record.status,
        activation=record.activation,
        steps=record.steps,
        target=record.target,
        curve=record.curve,
    )


def _content_digest(workspace: Workspace, plan: Plan) -> str:
    """Changes whenever the table or the site would, run facts aside."""
    layers = [
        {
            "section": [layer.info.name, layer.section.title, layer.units],
            "shards": [[seed.recipe.key, [shard.sha256 for shard in seed.stored]] for seed in layer.seeds],
        }
        for layer in plan.layers
    ]
    config, labels = workspace.config, workspace.labels
    cards = [workspace.network.card.model_dump(mode="json"), workspace.generator.card.model_dump(mode="json")]
    studies = [
        [str(path.relative_to(workspace.out)), hashlib.sha256(path.read_bytes()).hexdigest()]
        for path in sorted((workspace.out / "studies").glob("*/*"))
        if path.name in ("findings.json", "units.parquet")
    ]
    return _digest_of([config.name, config.title, cards, labels, layers, studies, _code_digest()])


def _digest_of(content: object) -> str:
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def _code_digest() -> str:
    """Of everything that turns the store into a site."""
    here = Path(__file__).parent
    digest = hashlib.sha256(code_version().encode())
    for file in (here / "publication.py", here / "table.py"):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _read_stamp(path: Path) -> str | None:
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
