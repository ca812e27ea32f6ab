"""What each template is given. Links are relative to the page; ``root`` leads from it to the site's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from markupsafe import Markup

from pipeline.site import charts
from pipeline.site.columns import LayerNumbers, written
from pipeline.site.gallery import Gallery, Unit, is_pre_activation
from pipeline.site.model import Atlas, Layer, Result
from pipeline.site.panel_views import Known, finding_views, panel_view
from pipeline.site.panels import Column
from pipeline.site.paths import film_name, image_name, layer_folder
from pipeline.site.pictures import crop_size, sees_everything, shows_crop, visible
from pipeline.site.provenance import card_rows, rows
from pipeline.site.sprites import NUM_TASTE, Grid, grid_for, sprite_name

UP = "../../"
"""From a layer's folder to the site's."""

FILM_SIDE = 64
"""Of a film's cell on the page, whatever it is in the file."""


@dataclass(frozen=True)
class Picture:
    """An image of a page and its natural size."""

    src: str
    width: int
    height: int
    alt: str


@dataclass(frozen=True)
class Tile:
    """A unit in a gallery: a cell of a sprite; ``src`` is empty for a dead unit."""

    unit: int
    href: str
    label: str
    name: str
    value: str
    pre_activation: bool
    src: str
    column: int
    row: int


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
class FilmCell:
    """A frame of a film: where it begins in the strip, its step, the activation there, and its place on the chart."""

    left: int
    step: int
    value: str
    x: float

    @property
    def told(self) -> str:
        """In words."""
        where = f"step {self.step}" if self.step else "start"
        return f"{where}, activation {self.value}" if self.value else where


@dataclass(frozen=True)
class Film:
    """How a result's picture formed: one picture, ``width`` by ``side``, of square cells."""

    seed: int
    src: str
    width: int
    side: int
    cells: tuple[FilmCell, ...]


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


@dataclass(frozen=True)
class Shell:
    """What every page has: titles, and which pages there are."""

    title: str
    network: str
    has_findings: bool

    @classmethod
    def of(cls, atlas: Atlas) -> Shell:
        has_findings = any(study.findings for study in atlas.studies)
        return cls(atlas.title, str(atlas.network.get("title") or "an image network"), has_findings)


@dataclass(frozen=True)
class LayerPage:
    """What the pages of one layer and of its units need.

    Attributes:
        shell: of the atlas.
        numbers: the layer, its units and all their numbers.
        previous: link and title of the layer before, None where there is none.
        next: likewise.
        known: units of the whole atlas, for links between layers.
    """

    shell: Shell
    numbers: LayerNumbers
    previous: tuple[str, str] | None
    next: tuple[str, str] | None
    known: Known

    @property
    def gallery(self) -> Gallery:
        return self.numbers.gallery

    @property
    def layer(self) -> Layer:
        return self.numbers.gallery.layer

    @cached_property
    def about(self) -> LayerSummary:
        """The layer in words."""
        return summary(self.gallery, "index.html")

    @cached_property
    def first_seed(self) -> int:
        """The seed that the layer's recipe is of."""
        seeds = (result.seed for result in self.layer.results)
        return int(self.layer.recipe.get("seed", min(seeds, default=0)))


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
        "changes": change_lists(atlas, known),
        "studies": [study for study in atlas.studies if study.findings],
    }


def layer(page: LayerPage) -> dict[str, Any]:
    """Context of ``layer.html``."""
    gallery, shown = page.gallery, page.layer
    grid = grid_for(len(gallery.units))
    return {
        "root": UP,
        "shell": page.shell,
        "layer": page.about,
        "tiles": [tile(unit, index, grid) for index, unit in enumerate(gallery.units)],
        "grid": grid,
        "sort_columns": [column for column in page.numbers.columns if column.sort != "none" and column.form != "text"],
        "has_labels": any(unit.label for unit in gallery.units),
        "has_pre": any(unit.pre_activation for unit in gallery.units),
        "num_changed": len(page.numbers.changes),
        "histogram": charts.histogram(gallery.activations),
        "num_left_out": gallery.num_left_out,
        "only_pre_activation": bool(gallery.live) and all(unit.pre_activation for unit in gallery.live),
        "recipe": recipe_rows(shown),
        "compare": f"{UP}compare.html#{layer_folder(shown.name)}",
        "previous": page.previous,
        "next": page.next,
    }


def unit(page: LayerPage, index: int, histogram: charts.Histogram | None, ground: Markup) -> dict[str, Any]:
    """Context of ``unit.html``; ``histogram`` is of :meth:`Gallery.compared`, ``ground`` what it has without marks."""
    gallery, units = page.gallery, page.gallery.units
    this = units[index]
    shots = [shot(this, result) for result in this.results]
    best = this.best
    value = charts.measured(best.activation) if best else ""
    climb = charts.climb([(f"seed {r.seed}", r.steps, r.curve.tolist()) for r in this.results if r.status == "done"])
    return {
        "root": UP,
        "shell": page.shell,
        "layer": page.about,
        "unit": this,
        "shots": shots,
        "best": shots[0] if best else None,
        "others": shots[1:] if best else shots,
        "field": visible(page.layer),
        "outlined": not sees_everything(page.layer),
        "image_px": page.layer.image_px,
        "standing": gallery.standing(this),
        "facts": unit_rows(page.numbers, this),
        "change": page.numbers.changes.get(this.unit),
        "climb": climb,
        "film": film(this, climb) if climb else None,
        "histogram": histogram.marked(best.activation, f"this unit {value}") if best and histogram else None,
        "histogram_ground": ground,
        "panels_shown": [panel_view(said, page.known, UP) for said in page.numbers.of_unit(this)],
        "recipe_key": page.layer.recipe_key,
        "first_seed": page.first_seed,
        "permalink": f"{layer_folder(page.layer.name)}/{this.unit}.html",
        "compare": f"{UP}compare.html#{layer_folder(page.layer.name)}/{this.unit}",
        "number": index + 1,
        "previous": units[index - 1] if index else None,
        "next": units[index + 1] if index + 1 < len(units) else None,
    }


def findings(atlas: Atlas, known: Known) -> dict[str, Any]:
    """Context of ``findings.html``."""
    return {
        "root": "",
        "shell": Shell.of(atlas),
        "studies": [(study, finding_views(study, known)) for study in atlas.studies if study.findings],
    }


def compare(atlas: Atlas) -> dict[str, Any]:
    """Context of ``compare.html``."""
    layers = [(layer_folder(layer.name), layer.title or layer.name) for layer in atlas.layers]
    return {"root": "", "shell": Shell.of(atlas), "layers": layers, "others": atlas.others}


def summary(gallery: Gallery, href: str) -> LayerSummary:
    """A layer in words."""
    shown = gallery.layer
    return LayerSummary(
        name=shown.name,
        title=shown.title or shown.name or "(no name)",
        href=href,
        shape=f" {charts.TIMES} ".join(map(str, shown.shape)),
        position=f"row {shown.position[0]}, column {shown.position[1]}" if shown.position else "",
        sees=_sees(shown),
        num_units=shown.num_units,
        num_shown=len(gallery.units),
        num_dead=gallery.num_dead,
        crop=shows_crop(shown),
    )


def tile(shown: Unit, index: int, grid: Grid) -> Tile:
    """A unit of a layer's page."""
    sprite, column, row = grid.place(index)
    return _tile(shown, "", sprite_name(sprite), column, row)


def taste_tiles(gallery: Gallery) -> list[Tile]:
    """The units that the home page shows of a layer."""
    folder = layer_folder(gallery.layer.name) + "/"
    return [_tile(unit, folder, f"{folder}taste.webp", index, 0) for index, unit in enumerate(gallery.taste(NUM_TASTE))]


def shot(shown: Unit, result: Result) -> Shot:
    """A seed on its unit's page."""
    alive = result.status == "done"
    return Shot(
        seed=result.seed,
        activation=result.activation,
        steps=result.steps,
        target=result.target,
        pre_activation=is_pre_activation(shown.layer, result),
        whole=_picture(shown, result, crop=False) if alive else None,
        crop=_picture(shown, result, crop=True) if alive and shows_crop(shown.layer) else None,
    )


def film(shown: Unit, climb: charts.LineChart) -> Film | None:
    """The film of the best result that has one."""
    result = next((result for result in shown.results if result.film_steps and result.status == "done"), None)
    if result is None:
        return None
    curve, steps = result.curve.tolist(), result.film_steps
    at_step = [""] + [charts.measured(value) for value in curve]
    texts = [at_step[round(step / result.steps * len(curve))] for step in steps[:-1]]
    cells = tuple(
        FilmCell(index * FILM_SIDE, step, text, climb.at(step))
        for index, (step, text) in enumerate(zip(steps, [*texts, charts.measured(result.activation)], strict=True))
    )
    return Film(result.seed, film_name(result.unit, result.seed), FILM_SIDE * len(steps), FILM_SIDE, cells)


def unit_rows(numbers: LayerNumbers, shown: Unit) -> list[tuple[Column, str]]:
    """The numbers every atlas has of a unit; those of studies are in their panels."""
    values = numbers.values(shown)
    return [
        (column, written(values[column.key], column.form))
        for column in numbers.columns
        if "." not in column.key and column.key not in ("activation", "change") and values[column.key] is not None
    ]


def recipe_rows(shown: Layer) -> tuple[Any, ...]:
    """The recipe as rows, its key first."""
    return rows({"recipe key": shown.recipe_key, **shown.recipe})


def neighbour(galleries: Sequence[Gallery], index: int) -> tuple[str, str] | None:
    """Link and title of the layer at an index; None where there is none."""
    if not 0 <= index < len(galleries):
        return None
    other = galleries[index].layer
    return f"../{layer_folder(other.name).removeprefix('layer/')}/index.html", other.title or other.name


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
        "most": [
            (known.tile(name, unit, "", _told(change.kind, change.before, change.after)))
            for name, unit, change in shown[:NUM_TASTE]
        ],
        "by_layer": _by_layer(atlas.changes.units, known),
    }


def _by_layer(units: Mapping[str, Mapping[int, Any]], known: Known) -> list[tuple[str, str, int]]:
    return [
        (f"{layer_folder(name)}/index.html", known.title(name), len(changed))
        for name, changed in units.items()
        if known.title(name)
    ]


def _told(kind: str, before: float | None, after: float | None) -> str:
    if before is None or after is None or kind == "made again":
        return kind
    return f"{charts.measured(before)} \N{RIGHTWARDS ARROW} {charts.measured(after)}"


def _tile(shown: Unit, folder: str, src: str, column: int, row: int) -> Tile:
    best = shown.best
    return Tile(
        unit=shown.unit,
        href=f"{folder}{shown.unit}.html",
        label=shown.label,
        name=shown.short_label or str(shown.unit),
        value=charts.measured(best.activation) if best else "",
        pre_activation=shown.pre_activation,
        src=src if best else "",
        column=column,
        row=row,
    )


def _picture(shown: Unit, result: Result, *, crop: bool) -> Picture:
    side = shown.layer.image_px
    width, height = crop_size(shown.layer) if crop else (side, side)
    part = "the part it sees of the picture" if crop else "the picture"
    alt = f"{shown.title.capitalize()}: {part} that excites it most, seed {result.seed}"
    return Picture(image_name(result.unit, result.seed, crop=crop), width, height, alt)


def _sees(shown: Layer) -> str:
    if sees_everything(shown):
        return "the whole picture"
    box = visible(shown)
    size, whole = (box.bottom - box.top, box.right - box.left), (shown.image_px, shown.image_px)
    return " of ".join(f"{height} {charts.TIMES} {width}" for height, width in (size, whole)) + " px"
