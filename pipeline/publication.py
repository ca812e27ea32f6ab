"""From a finished store to what is published: the table of units and the site."""

from __future__ import annotations

import datetime
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.errors import AtlasError
from export.manifest import Box
from pipeline.plan import LayerPlan, Plan
from pipeline.recipe import canonical_json
from pipeline.records import Record
from pipeline.site.model import Atlas, Layer, Result
from pipeline.site.publish import publish
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


def collect(workspace: Workspace, plan: Plan) -> Results:
    """Every record that was asked for."""
    return {
        (layer.info.name, seed.recipe.seed): workspace.store.read_units(seed.stored, layer.units)
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
    )


def _result(record: Record) -> Result:
    return Result(
        unit=record.unit,
        seed=record.seed,
        status=record.status,
        activation=record.activation,
        steps=record.steps,
        target=record.target,
        curve=tuple(record.curve.tolist()),
        image=record.image,
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
    content = [config.name, config.title, cards, labels, layers, _code_digest()]
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def _code_digest() -> str:
    """Of everything that turns the store into a site."""
    here = Path(__file__).parent
    files = [here / "publication.py", here / "table.py", *(f for f in (here / "site").rglob("*") if f.is_file())]
    digest = hashlib.sha256()
    for file in sorted(files):
        if file.suffix != ".pyc":
            digest.update(f"{file.relative_to(here)}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def _read_stamp(path: Path) -> str | None:
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
