"""What each template is given. Links are relative to the page; ``root`` leads from it to the site's folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from export.manifest import Box
from pipeline.site import charts
from pipeline.site.gallery import Gallery, Unit, is_pre_activation
from pipeline.site.model import Atlas, Layer, Result
from pipeline.site.paths import image_name, layer_folder
from pipeline.site.pictures import crop_size, sees_everything, shows_crop, visible
from pipeline.site.provenance import card_rows, rows

NUM_TASTE = 12
"""Pictures of a layer on the home page."""


@dataclass(frozen=True)
class Picture:
    """An image of a page and its natural size."""

    src: str
    width: int
    height: int
    alt: str


@dataclass(frozen=True)
class Tile:
    """A unit in a gallery; a picture of None is a dead unit."""

    unit: int
    href: str
    label: str
    short_label: str
    activation: float | None
    pre_activation: bool
    picture: Picture | None


@dataclass(frozen=True)
class Shot:
    """A seed on a unit's page; ``whole`` is None when it was dead, ``crop`` also when galleries show the whole."""

    seed: int
    activation: float
    steps: int
    target: str
    pre_activation: bool
    whole: Picture | None
    crop: Picture | None


@dataclass(frozen=True)
class LayerSummary:
    """A layer in words, for headings and the home page."""

    name: str
    title: str
    href: str
    shape: str
    position: str
    sees: str
    num_units: int
    num_shown: int
    num_dead: int
    crop: bool


def home(atlas: Atlas, galleries: Sequence[Gallery]) -> dict[str, Any]:
    """Context of ``home.html``."""
    summaries = [summary(gallery, layer_folder(gallery.layer.name) + "/index.html") for gallery in galleries]
    return {
        "root": "",
        "atlas": atlas,
        "layers": [
            (about, [tile(unit, layer_folder(gallery.layer.name) + "/") for unit in gallery.taste(NUM_TASTE)])
            for about, gallery in zip(summaries, galleries, strict=True)
        ],
        "num_shown": sum(about.num_shown for about in summaries),
        "num_dead": sum(about.num_dead for about in summaries),
        "network": card_rows(atlas.network),
        "generator": card_rows(atlas.generator),
    }


def layer(atlas: Atlas, galleries: Sequence[Gallery], index: int, *, has_sheet: bool) -> dict[str, Any]:
    """Context of ``layer.html``."""
    gallery = galleries[index]
    return {
        "root": "../../",
        "atlas": atlas,
        "layer": summary(gallery, "index.html"),
        "tiles": [tile(unit, "") for unit in gallery.units],
        "has_labels": any(unit.label for unit in gallery.units),
        "histogram": charts.histogram(gallery.activations),
        "num_left_out": gallery.num_left_out,
        "only_pre_activation": bool(gallery.live) and all(unit.pre_activation for unit in gallery.live),
        "sheet": "sheet.png" if has_sheet else "",
        "recipe": recipe_rows(gallery.layer),
        "previous": _neighbour(galleries, index - 1),
        "next": _neighbour(galleries, index + 1),
    }


def unit(atlas: Atlas, gallery: Gallery, index: int, histogram: charts.Histogram | None) -> dict[str, Any]:
    """Context of ``unit.html``; ``histogram`` is of :meth:`Gallery.compared`."""
    this = gallery.units[index]
    units = gallery.units
    shots = [shot(this, result) for result in this.results]
    curves = [(f"seed {r.seed}", r.steps, r.curve) for r in this.results if r.status == "done"]
    same_target = {r.target for r in this.results if r.status == "done"}
    return {
        "root": "../../",
        "atlas": atlas,
        "layer": summary(gallery, "index.html"),
        "unit": this,
        "shots": shots,
        "best": shots[0] if this.best else None,
        "others": shots[1:] if this.best else shots,
        "field": visible(gallery.layer),
        "outlined": not sees_everything(gallery.layer),
        "image_px": gallery.layer.image_px,
        "standing": gallery.standing(this),
        "trajectory": charts.trajectory(curves),
        "mixed_targets": len(same_target) > 1,
        "histogram": histogram,
        "mark": histogram.at(this.best.activation) if this.best and histogram else None,
        "recipe": recipe_rows(gallery.layer),
        "first_seed": gallery.layer.recipe.get("seed", min((r.seed for r in gallery.layer.results), default=0)),
        "json": f"{this.unit}.json",
        "permalink": f"{layer_folder(gallery.layer.name)}/{this.unit}.html",
        "number": index + 1,
        "previous": units[index - 1] if index else None,
        "next": units[index + 1] if index + 1 < len(units) else None,
    }


def summary(gallery: Gallery, href: str) -> LayerSummary:
    """A layer in words."""
    shown = gallery.layer
    return LayerSummary(
        name=shown.name,
        title=shown.title or shown.name or "(no name)",
        href=href,
        shape=f" {charts.TIMES} ".join(map(str, shown.shape)),
        position=f"row {shown.position[0]}, column {shown.position[1]}" if shown.position else "",
        sees=_sees(shown, visible(shown)),
        num_units=shown.num_units,
        num_shown=len(gallery.units),
        num_dead=gallery.num_dead,
        crop=shows_crop(shown),
    )


def tile(shown: Unit, folder: str) -> Tile:
    """A unit in a gallery; ``folder`` leads from the page to the layer's folder."""
    best = shown.best
    return Tile(
        unit=shown.unit,
        href=f"{folder}{shown.unit}.html",
        label=shown.label,
        short_label=shown.short_label,
        activation=best.activation if best else None,
        pre_activation=shown.pre_activation,
        picture=_picture(shown, best, folder, crop=shows_crop(shown.layer)) if best else None,
    )


def shot(shown: Unit, result: Result) -> Shot:
    """A seed on its unit's page."""
    alive = result.status == "done"
    return Shot(
        seed=result.seed,
        activation=result.activation,
        steps=result.steps,
        target=result.target,
        pre_activation=is_pre_activation(shown.layer, result),
        whole=_picture(shown, result, "", crop=False) if alive else None,
        crop=_picture(shown, result, "", crop=True) if alive and shows_crop(shown.layer) else None,
    )


def recipe_rows(shown: Layer) -> tuple[Any, ...]:
    """The recipe as rows, its key first."""
    return rows({"recipe key": shown.recipe_key, **shown.recipe})


def _picture(shown: Unit, result: Result, folder: str, *, crop: bool) -> Picture:
    side = shown.layer.image_px
    width, height = crop_size(shown.layer) if crop else (side, side)
    part = "the part it sees of the picture" if crop else "the picture"
    alt = f"{shown.title.capitalize()}: {part} that excites it most, seed {result.seed}"
    return Picture(folder + image_name(result.unit, result.seed, crop=crop), width, height, alt)


def _sees(shown: Layer, box: Box) -> str:
    if sees_everything(shown):
        return "the whole picture"
    size, whole = (box.bottom - box.top, box.right - box.left), (shown.image_px, shown.image_px)
    return " of ".join(f"{height} {charts.TIMES} {width}" for height, width in (size, whole)) + " px"


def _neighbour(galleries: Sequence[Gallery], index: int) -> tuple[str, str] | None:
    if not 0 <= index < len(galleries):
        return None
    other = galleries[index].layer
    return f"../{layer_folder(other.name).removeprefix('layer/')}/index.html", other.title or other.name
