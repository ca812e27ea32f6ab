"""A layer's page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.site import charts
from pipeline.site.columns import LayerNumbers
from pipeline.site.pages.shared import UP, LayerPage, make_tile
from pipeline.site.panels import Column
from pipeline.site.paths import layer_folder
from pipeline.site.provenance import rows
from pipeline.site.sprites import grid_for, sprite_name


def layer(page: LayerPage) -> dict[str, Any]:
    """Context of ``layer.html``."""
    gallery, shown = page.gallery, page.layer
    grid, tiles = grid_for(len(gallery.units)), []
    for index, unit in enumerate(gallery.units):
        sprite, column, row = grid.place(index)
        tiles.append(make_tile(unit, "", sprite_name(sprite), column, row))
    return {
        "root": UP,
        "shell": page.shell,
        "layer": page.about,
        "tiles": tiles,
        "grid": grid,
        "sort_groups": sort_groups(page.numbers),
        "has_labels": any(unit.label for unit in gallery.units),
        "has_pre": any(unit.pre_activation for unit in gallery.units),
        "num_changed": len(page.numbers.changes),
        "histogram": charts.histogram(gallery.activations),
        "num_left_out": gallery.num_left_out,
        "only_pre_activation": bool(gallery.live) and all(unit.pre_activation for unit in gallery.live),
        "recipe": rows({"recipe key": shown.recipe_key, **shown.recipe}),
        "compare": f"{UP}compare.html#{layer_folder(shown.name)}",
        "previous": page.previous,
        "next": page.next,
    }


def sort_groups(numbers: LayerNumbers) -> list[tuple[str, Sequence[Column]]]:
    """Columns that units can be sorted by: those every atlas has, without a title, then those of each study."""
    titles = {study.name: study.title for study, _ in numbers.studies}
    groups: dict[str, list[Column]] = {"": []}
    for column in numbers.columns:
        if column.sort != "none" and column.form != "text":
            study = column.key.partition(".")[0] if "." in column.key else ""
            groups.setdefault(study, []).append(column)
    return [(titles.get(study, ""), columns) for study, columns in groups.items()]
