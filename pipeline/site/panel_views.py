"""Studies' panels and findings, ready for the templates: charts are drawn, files and units become links."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import quote

from pipeline.site import charts
from pipeline.site.columns import UnitStudies, written
from pipeline.site.gallery import Gallery, Unit
from pipeline.site.panels import Block, Histogram, Lines, Picture, Pictures, StudyResult, Table, Units
from pipeline.site.paths import image_name, layer_folder
from pipeline.site.pictures import shows_crop

WIDE = 5
"""Columns beyond which a table takes the whole width of the Findings page."""


@dataclass(frozen=True)
class LinkedUnit:
    """A unit of the atlas, shown on a page of another one; ``src`` is empty for a dead unit."""

    href: str
    src: str
    name: str
    layer: str
    caption: str


class Known:
    """The units of a whole atlas."""

    def __init__(self, galleries: Sequence[Gallery]) -> None:
        self._galleries = {gallery.layer.name: gallery for gallery in galleries}

    @cached_property
    def _units(self) -> dict[str, dict[int, Unit]]:
        return {name: {unit.unit: unit for unit in gallery.units} for name, gallery in self._galleries.items()}

    def has(self, layer: str, unit: int) -> bool:
        return unit in self._units.get(layer, {})

    def title(self, layer: str) -> str:
        """A layer's title; empty when the atlas lacks the layer."""
        gallery = self._galleries.get(layer)
        return (gallery.layer.title or gallery.layer.name) if gallery else ""

    def tile(self, layer: str, number: int, root: str, caption: str = "", on: str = "") -> LinkedUnit:
        """A unit that the atlas has; on a page of the layer ``on`` the name of that layer goes without saying."""
        unit, folder = self._units[layer][number], root + layer_folder(layer)
        src = ""
        if unit.best:
            src = f"{folder}/{image_name(number, unit.best.seed, crop=shows_crop(unit.layer))}"
        about = "" if layer == on else self.title(layer)
        return LinkedUnit(f"{folder}/{number}.html", src, unit.short_label or str(number), about, caption)


def panel_view(said: UnitStudies, known: Known, root: str, layer: str) -> dict[str, Any]:
    """A study's section on the page of a unit of ``layer``: rows of columns, a small table of seeds, and blocks."""
    study, panel = said.study, said.panel
    seeds = sorted(panel.by_seed)
    whole = [column for column in study.columns if panel.values.get(column.key) is not None]
    each = [column for column in study.columns if any(panel.by_seed[s].get(column.key) is not None for s in seeds)]
    return {
        "id": f"study-{study.name}",
        "title": study.title,
        "summary": study.summary,
        "rows": [(column, written(panel.values[column.key], column.form)) for column in whole],
        "seed_columns": each,
        "seed_rows": [
            (seed, [written(panel.by_seed[seed].get(column.key), column.form) for column in each]) for seed in seeds
        ],
        "blocks": [block_view(block, study, known, root, layer) for block in panel.blocks],
        "findings": f"{root}findings.html#{study.name}" if study.findings else "",
    }


def finding_views(study: StudyResult, known: Known) -> list[dict[str, Any]]:
    """The sections of a study on the Findings page."""
    return [
        {
            "heading": finding.heading,
            "text": finding.text,
            "figure": picture_view(finding.figure, study, "") if finding.figure else None,
            "wide": any(isinstance(block, Table) and len(block.head) > WIDE for block in finding.blocks),
            "blocks": [block_view(block, study, known, "") for block in finding.blocks],
        }
        for finding in study.findings
    ]


def block_view(block: Block, study: StudyResult, known: Known, root: str, layer: str = "") -> Mapping[str, Any]:
    """A block for the template ``_panels.html``, on a page of ``layer`` if given."""
    if isinstance(block, Histogram):
        marks = [(mark.value, mark.text) for mark in block.marks]
        chart = charts.histogram_of_counts(block.low, block.high, block.counts, block.x_title, block.y_title, marks)
        return {"kind": "histogram", "title": block.title, "chart": chart}
    if isinstance(block, Lines):
        series = [(line.name, line.x, line.y) for line in block.series]
        return {
            "kind": "lines",
            "title": block.title,
            "chart": charts.line_chart(series, block.x_title, block.y_title),
        }
    if isinstance(block, Pictures):
        pictures = [picture_view(picture, study, root) for picture in block.pictures]
        return {"kind": "pictures", "title": block.title, "pictures": pictures}
    if isinstance(block, Units):
        units = [
            known.tile(link.layer, link.unit, root, link.caption, layer)
            for link in block.units
            if known.has(link.layer, link.unit)
        ]
        return {"kind": "units", "title": block.title, "units": units}
    return {"kind": block.kind, "block": block}


def picture_view(picture: Picture, study: StudyResult, root: str) -> dict[str, Any]:
    """A picture with its address; ``part`` where it is cut out of a larger file."""
    return {
        "src": f"{root}{study_folder(study.name)}/{quote(picture.file)}",
        "picture": picture,
        "part": bool(picture.file_width and picture.file_height),
    }


def study_folder(name: str) -> str:
    """Folder of a study's files, relative to the site."""
    return f"study/{name}"
