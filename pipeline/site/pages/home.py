"""The first page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.site import charts
from pipeline.site.changes import UnitChange
from pipeline.site.gallery import Gallery
from pipeline.site.model import Atlas
from pipeline.site.pages.shared import Shell, Tile, make_tile, summary
from pipeline.site.panel_views import Known
from pipeline.site.paths import layer_folder
from pipeline.site.provenance import Row, card_rows, rows
from pipeline.site.sprites import NUM_TASTE

ARROW = "\N{RIGHTWARDS ARROW}"


def home(atlas: Atlas, galleries: Sequence[Gallery], known: Known) -> dict[str, Any]:
    """Context of ``home.html``."""
    summaries = [summary(gallery, layer_folder(gallery.layer.name) + "/index.html") for gallery in galleries]
    return {
        "root": "",
        "shell": Shell.of(atlas),
        "atlas": atlas,
        "layers": [(about, taste_tiles(gallery)) for about, gallery in zip(summaries, galleries, strict=True)],
        "num_shown": sum(about.num_shown for about in summaries),
        "num_dead": sum(about.num_dead for about in summaries),
        "num_seeds": sum(len(gallery.layer.results) for gallery in galleries),
        "network": card_rows(atlas.network),
        "generator": card_rows(atlas.generator),
        "recipe": common_recipe([gallery.layer.recipe for gallery in galleries]),
        "changes": change_lists(atlas, known),
        "studies": [study for study in atlas.studies if study.findings],
    }


def taste_tiles(gallery: Gallery) -> list[Tile]:
    """The units that the home page shows of a layer."""
    folder = layer_folder(gallery.layer.name) + "/"
    return [
        make_tile(unit, folder, f"{folder}taste.webp", index, 0) for index, unit in enumerate(gallery.taste(NUM_TASTE))
    ]


def common_recipe(recipes: Sequence[Mapping[str, Any]]) -> tuple[Row, ...]:
    """What the recipes of all layers share, less the models, which have cards."""
    if not recipes:
        return ()
    first, *others = recipes
    shared = {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}
    return rows({key: value for key, value in shared.items() if key not in ("network", "generator")})


def change_lists(atlas: Atlas, known: Known) -> dict[str, Any] | None:
    """What changed since the publication before: how many of each kind, and those that changed most."""
    if atlas.changes is None:
        return None
    every = [(name, unit, change) for name, units in atlas.changes.units.items() for unit, change in units.items()]
    counts: dict[str, int] = {}
    for _, _, change in every:
        counts[change.kind] = counts.get(change.kind, 0) + 1
    shown = [entry for entry in every if known.has(entry[0], entry[1])]
    shown.sort(key=lambda entry: (-entry[2].amount, entry[0], entry[1]))
    return {
        "since": atlas.changes.since,
        "notes": atlas.changes.notes,
        "counts": sorted(counts.items(), key=lambda item: -item[1]),
        "num": len(every),
        "most": [known.tile(name, unit, "", told(change)) for name, unit, change in shown[:NUM_TASTE]],
        "by_layer": [
            (f"{layer_folder(name)}/index.html", known.title(name), len(changed))
            for name, changed in atlas.changes.units.items()
            if known.title(name)
        ],
    }


def told(change: UnitChange) -> str:
    """A change in few words: from which activation to which, as far as there are any."""
    before, after = (None if value is None else charts.measured(value) for value in (change.before, change.after))
    if change.kind == "made again":
        return change.kind
    if before is not None and after is not None:
        return f"{before} {ARROW} {after}"
    if after is not None:
        return f"{change.kind}, {after}"
    return change.kind if before is None else f"{change.kind}, was {before}"
