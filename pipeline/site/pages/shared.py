"""What several pages have: their shell, a layer in words, units as tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from pipeline.site import charts
from pipeline.site.columns import LayerNumbers
from pipeline.site.gallery import Gallery, Unit
from pipeline.site.model import Atlas, Layer
from pipeline.site.panel_views import Known
from pipeline.site.paths import layer_folder
from pipeline.site.pictures import sees_everything, shows_crop, visible

UP = "../../"
"""From a layer's folder to the site's."""


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


def make_tile(shown: Unit, folder: str, src: str, column: int, row: int) -> Tile:
    """A unit as a cell of the sprite ``src``; ``folder`` leads from the page to the layer's."""
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


def neighbour(galleries: Sequence[Gallery], index: int) -> tuple[str, str] | None:
    """Link and title of the layer at an index; None where there is none."""
    if not 0 <= index < len(galleries):
        return None
    other = galleries[index].layer
    return f"../{layer_folder(other.name).removeprefix('layer/')}/index.html", other.title or other.name


def _sees(shown: Layer) -> str:
    if sees_everything(shown):
        return "the whole picture"
    box = visible(shown)
    size, whole = (box.bottom - box.top, box.right - box.left), (shown.image_px, shown.image_px)
    return " of ".join(f"{height} {charts.TIMES} {width}" for height, width in (size, whole)) + " px"
