"""From a finished store to what is published: the table and the site, as a version that is switched to at once."""

from __future__ import annotations

import datetime
import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from export.errors import AtlasError
from export.manifest import Box
from pipeline import registry, remote, versions
from pipeline.beside import hosted, other_atlases
from pipeline.blobs import Blobs
from pipeline.changes import Changes, Side, compare
from pipeline.claims import Claims
from pipeline.lock import FileLock
from pipeline.plan import LayerPlan, Plan
from pipeline.recipe import canonical_json
from pipeline.records import Record
from pipeline.registry import Version
from pipeline.site.changes import Changes as SiteChanges
from pipeline.site.changes import by_unit
from pipeline.site.incremental import code_version
from pipeline.site.model import Atlas, Drawn, Layer, Negatives, Result
from pipeline.site.publish import write_site
from pipeline.site.studies import read_studies
from pipeline.store import Store, StoredShard
from pipeline.table import Results, units_table
from pipeline.workspace import Workspace

log = logging.getLogger(__name__)

LOCK = ".lock"
"""File of a build's folder that is locked while its site is written."""


@dataclass(frozen=True)
class Publication:
    """What was published.

    Attributes:
        index: the page to open.
        url: of the pointer page of the copy, None where there is none.
        fresh: whether it was made now; False when it was up to date.
        version: what is shown.
        changes: since the version before; None when nothing was made, or there was none.
    """

    index: Path
    url: str | None
    fresh: bool
    version: Version
    changes: Changes | None = None


def publish_atlas(
    workspace: Workspace,
    plan: Plan,
    run: dict[str, Any],
    claims: Claims,
) -> Publication:
    """Publish a plan with nothing left to do, unless that is what is shown.

    A version is made beside the one that is shown: table, site, changes. Every shard is compared with its digest on the
    way. Then it is registered, copied to where the configuration says, and switched to. Whatever fails before the
    switch leaves the last version shown.

    Args:
        workspace: of the plan.
        plan: made after the last shard was stored.
        run: facts of this run that the site shows; nothing else on the site changes from run to run.
        claims: of this process; who publishes the same atlas elsewhere is waited for.

    Raises:
        AtlasError: jobs are missing.
        DamagedShardError: a shard is not what it was; nothing has been published.
        StoreError, StoreUnavailableError: a file cannot be written or read.
    """
    if plan.num_todo:
        raise AtlasError(f"{plan.num_todo} of {plan.num_jobs} jobs are not in the store; build again to make them")
    out, config = workspace.out, workspace.config
    patience_s = config.store.patience_s
    site = remote.open_site(config.publish.url, workspace.store_options, patience_s) if config.publish.url else None
    with (
        FileLock(out / LOCK, lambda holder: log.info("%s is being published by %s; waiting", out, holder)),
        claims.waiting_for(registry.publishing_claim(config.name)),
    ):
        digest = _content_digest(workspace, plan)
        here, changes = versions.shown(out), None
        if here is None or here.digest != digest:
            here, changes = _make_version(workspace, plan, run, digest)
            fresh = True
        else:
            fresh = _register(workspace, here)
        if site is not None and remote.shown(site).get("digest") != digest:
            num_files = remote.upload(site, here, out / versions.FOLDER / here.name / "site", {"compare.html": hosted})
            log.info("%d files copied to %s", num_files, site.url)
            remote.show(site, here, config.title or config.name)
            fresh = True
        if fresh:
            _forget_old(workspace, here, site)
    return Publication(out / "site" / "index.html", f"{site.url}/{remote.PAGE}" if site else None, fresh, here, changes)


def _make_version(workspace: Workspace, plan: Plan, run: dict[str, Any], digest: str) -> tuple[Version, Changes | None]:
    """Make, register and show a version in the build's folder."""
    out, store, name = workspace.out, workspace.store, workspace.config.name
    last = registry.current_version(store, name)
    known = [version for version, _ in versions.kept(out)]
    number = 1 + max([version.number for version in known] + [last.number if last else 0])
    if last is not None and last.digest == digest and not (out / versions.FOLDER / last.name).exists():
        number = last.number  # another machine has published it
    version = _version(workspace, plan, number, digest, run)
    results = collect(workspace, plan)
    table = units_table(plan.layers, results)
    before = registry.table_of(store, name, last) if last is not None and last.name != version.name else None
    changes = (
        compare(Side.of(last.name, before, store), Side.of(version.name, table, store)) if last and before else None
    )
    since = by_unit(changes.jobs, last.date[:10]) if last and changes else None
    with versions.new_version(out) as (folder, record):
        record.append(version)
        (folder / "units.parquet").write_bytes(table)
        facts = {**run, **({"since_the_last_version": changes.summary} if changes else {})}
        (folder / "site").mkdir()
        write_site(make_atlas(workspace, plan, results, facts, since), folder / "site", previous=out / "site")
        if changes is not None:
            for target in (folder, folder / "site"):
                (target / "changes.json").write_bytes(changes.to_json())
    registry.register(store, name, version, table)
    versions.show(out, version)
    registry.show(store, name, version)
    return version, changes


def _register(workspace: Workspace, here: Version) -> bool:
    """See that the store knows what is shown, as it may not after a kill, or where another machine published last."""
    store, name = workspace.store, workspace.config.name
    told = registry.current_version(store, name)
    if told is not None and told.digest == here.digest:
        return False
    registry.register(store, name, here, (workspace.out / "units.parquet").read_bytes())
    registry.show(store, name, here)
    return True


def _version(workspace: Workspace, plan: Plan, number: int, digest: str, run: dict[str, Any]) -> Version:
    return Version(
        number=number,
        digest=digest,
        date=str(run["date"]),
        recipes={layer.info.name: [seed.recipe.key for seed in layer.seeds] for layer in plan.all_layers},
        starts=sorted({seed.recipe.start for layer in plan.all_layers for seed in layer.seeds if seed.recipe.start}),
        models=[workspace.network.digest, workspace.generator.digest],
        store=workspace.config.store.url or "",
    )


def _forget_old(workspace: Workspace, shown: Version, site: Blobs | None) -> None:
    """Remove versions beyond those that are kept, then their records, in this order."""
    keep = workspace.config.publish.keep
    for version, folder in versions.kept(workspace.out)[:-keep]:
        if version.name != shown.name:
            versions.remove(folder)
    known = registry.versions(workspace.store, workspace.config.name)
    wanted = [version.name for version in known[-keep:]]
    if site is not None:
        remote.remove_others(site, wanted)
    for version in known[:-keep]:
        if version.name != shown.name:
            registry.forget(workspace.store, workspace.config.name, version)


@dataclass(frozen=True)
class StoredPictures:
    """Pictures of a layer, read from the store when they are needed; ``shards`` by seed."""

    store: Store
    shards: tuple[tuple[StoredShard, ...], ...]

    def read(self, units: Sequence[int]) -> Iterable[Drawn]:
        for stored in self.shards:
            for record in self.store.read_units(stored, units).values():
                yield Drawn(record.unit, record.seed, record.image, record.film)


def collect(workspace: Workspace, plan: Plan) -> Results:
    """Every record that was asked for, without pictures and codes: those of an atlas may be larger than memory."""
    return {
        (layer.info.name, seed.recipe.seed): {
            unit: replace(record, image=b"", film=b"", code=np.empty(0, np.float32))
            for shard in seed.stored
            for unit, record in workspace.store.read_units([shard], layer.units).items()
        }
        for layer in plan.all_layers
        for seed in layer.seeds
    }


def make_atlas(
    workspace: Workspace, plan: Plan, results: Results, run: dict[str, Any], changes: SiteChanges | None = None
) -> Atlas:
    """The site's data; ``changes`` since the version before."""
    config, network, generator = workspace.config, workspace.network, workspace.generator
    network_card = network.card.model_dump(mode="json", exclude={"labels"})
    negatives = {layer.info.name: layer for layer in plan.negatives}
    return Atlas(
        name=config.name,
        title=config.title or config.name,
        network={**network_card, "digest": network.digest},
        generator={**generator.card.model_dump(mode="json"), "digest": generator.digest},
        layers=tuple(
            _layer(workspace, layer, negatives.get(layer.info.negative.name), results) for layer in plan.layers
        ),
        run=run,
        studies=read_studies(workspace.out / "studies"),
        changes=changes,
        others=other_atlases(config, workspace.out),
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


def _layer(workspace: Workspace, layer: LayerPlan, negative: LayerPlan | None, results: Results) -> Layer:
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
        version=_digest_of(_shards(layer) + (_shards(negative) if negative else [])),
        negatives=_negatives(workspace, layer, negative, results) if negative else None,
    )


def _negatives(workspace: Workspace, layer: LayerPlan, negative: LayerPlan, results: Results) -> Negatives:
    """What lowers each unit most; activations are the units' own again, not minus them."""
    (seed,) = negative.seeds
    made = (_result(results[negative.info.name, seed.recipe.seed][unit]) for unit in negative.units)
    target = layer.info.pre_activation or layer.info.name
    turned = (replace(r, activation=-r.activation, curve=-r.curve, target=target) for r in made)
    return Negatives(tuple(turned), StoredPictures(workspace.store, (seed.stored,)))


def _shards(layer: LayerPlan) -> list[list[Any]]:
    """Recipes and digests of everything that is stored of a layer."""
    return [[seed.recipe.key, [shard.sha256 for shard in seed.stored]] for seed in layer.seeds]


def _result(record: Record) -> Result:
    return Result(
        unit=record.unit,
        seed=record.seed,
        status=record.status,
        activation=record.activation,
        steps=record.steps,
        target=record.target,
        curve=record.curve,
        film_steps=record.film_steps,
    )


def _content_digest(workspace: Workspace, plan: Plan) -> str:
    """Changes whenever the table or the site would, run facts aside."""
    layers = [
        {
            "section": [layer.info.name, layer.section.title, layer.units],
            "shards": _shards(layer),
        }
        for layer in plan.all_layers
    ]
    config, labels = workspace.config, workspace.labels
    cards = [workspace.network.card.model_dump(mode="json"), workspace.generator.card.model_dump(mode="json")]
    studies = [
        [str(path.relative_to(workspace.out)), hashlib.sha256(path.read_bytes()).hexdigest()]
        for path in sorted((workspace.out / "studies").glob("*/*"))
        if path.name in ("findings.json", "units.parquet")
    ]
    beside = [section.model_dump(mode="json") for section in config.compare]
    return _digest_of([config.name, config.title, cards, labels, layers, studies, beside, _code_digest()])


def _digest_of(content: object) -> str:
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def _code_digest() -> str:
    """Of everything that turns the store into a site."""
    here = Path(__file__).parent
    digest = hashlib.sha256(code_version().encode())
    for file in (here / "publication.py", here / "table.py", here / "beside.py"):
        digest.update(file.read_bytes())
    return digest.hexdigest()
