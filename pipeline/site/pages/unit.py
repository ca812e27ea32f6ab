"""A unit's page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from pipeline.site import charts
from pipeline.site.columns import LayerNumbers, written
from pipeline.site.gallery import Unit, is_pre_activation
from pipeline.site.model import Result
from pipeline.site.pages.shared import UP, LayerPage
from pipeline.site.panel_views import panel_view
from pipeline.site.panels import Column
from pipeline.site.paths import film_name, image_name, layer_folder, negative_name
from pipeline.site.pictures import crop_size, sees_everything, shows_crop, visible

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
        "negative": negative(this) if this.negative else None,
        "negative_whole": negative_name(this.unit),
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
        "panels_shown": [panel_view(said, page.known, UP, page.layer.name) for said in page.numbers.of_unit(this)],
        "recipe_key": page.layer.recipe_key,
        "first_seed": page.first_seed,
        "permalink": f"{layer_folder(page.layer.name)}/{this.unit}.html",
        "compare": f"{UP}compare.html#{layer_folder(page.layer.name)}/{this.unit}",
        "number": index + 1,
        "previous": units[index - 1] if index else None,
        "next": units[index + 1] if index + 1 < len(units) else None,
    }


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


def negative(shown: Unit) -> Picture:
    """What lowers a unit most; what it sees of that where galleries show it."""
    crop, side = shows_crop(shown.layer), shown.layer.image_px
    width, height = crop_size(shown.layer) if crop else (side, side)
    part = "the part it sees of the picture" if crop else "the picture"
    alt = f"{shown.title.capitalize()}: {part} that lowers it most"
    return Picture(negative_name(shown.unit, crop=crop), width, height, alt)


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


def _picture(shown: Unit, result: Result, *, crop: bool) -> Picture:
    side = shown.layer.image_px
    width, height = crop_size(shown.layer) if crop else (side, side)
    part = "the part it sees of the picture" if crop else "the picture"
    alt = f"{shown.title.capitalize()}: {part} that excites it most, seed {result.seed}"
    return Picture(image_name(result.unit, result.seed, crop=crop), width, height, alt)
