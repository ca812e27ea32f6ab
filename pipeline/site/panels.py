"""What a study shows in the site, as plain data. A study writes files; the site finds them and shows them by itself.

A study leaves ``OUT/studies/NAME/``::

    findings.json      what it is called, what it found (see below)
    units.parquet      one row per layer and unit, or per layer, unit and seed
    FILE               pictures that blocks or findings name: SVG, PNG, JPEG or WebP, in folders if wanted

``units.parquet`` holds ``layer`` (string), ``unit`` (integer), if wanted ``seed`` (integer, null for a row about the
whole unit), one column per number or text, and if wanted ``panel``: a string, JSON of a list of blocks, as
:func:`blocks_to_json` makes it. Rows may come in any order; sorted by layer they are read fastest.

``findings.json``::

    {"title": "Recognisability",
     "summary": "How often an independent network names the class it was made for.",
     "columns": [{"key": "top1", "title": "recognised", "description": "…", "form": "percent", "sort": "high"}],
     "findings": [{"heading": "Activation does not tell recognisability", "text": "…", "figure": {…}, "table": {…}}]}

Only ``title`` and ``summary`` must be there. Columns named there are sort keys and captions of every layer page, rows
of the unit's panel, and columns of the exported table; a column of the table that is not named there is only in the
exports. Where a unit has no row, and where a study was not run, nothing is shown.

Everything is escaped by the site; no block carries HTML.
"""

from __future__ import annotations

import dataclasses
import json
import math
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Value = float | int | str | bool | None
"""What a cell may hold; NaN counts as None."""

Form = Literal["number", "percent", "percentile", "count", "text", "yesno"]
"""How a column is written: four digits; a share 0 to 1 as percent; 0 to 100; a whole number; as it is; yes or no."""


@dataclass(frozen=True)
class Column:
    """A number (or text) per unit.

    Attributes:
        key: its name in ``units.parquet``.
        title: to be read by people, lower case, short.
        description: one sentence: what it is, its unit and range.
        form: how it is written.
        sort: which end a layer page shows first, or ``none``: no sort key.
    """

    key: str
    title: str
    description: str = ""
    form: Form = "number"
    sort: Literal["high", "low", "none"] = "high"


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    kind: Literal["text"] = "text"


@dataclass(frozen=True)
class Facts:
    """Names and values, one a row; for what is not a column."""

    rows: tuple[tuple[str, str], ...]
    kind: Literal["facts"] = "facts"


@dataclass(frozen=True)
class Picture:
    """A picture of a study.

    Attributes:
        file: relative to the study's folder.
        width: of what is shown, in pixels.
        height: likewise.
        alt: what it shows, in words.
        caption: below it.
        left: where in the file it begins; a file may hold many pictures, of which this is one.
        top: likewise.
        file_width: of the whole file; 0 when the picture is the whole file.
        file_height: likewise.
    """

    file: str
    width: int
    height: int
    alt: str
    caption: str = ""
    left: int = 0
    top: int = 0
    file_width: int = 0
    file_height: int = 0


@dataclass(frozen=True)
class Pictures:
    """Pictures side by side, such as exemplars; small ones, about ten at most."""

    title: str
    pictures: tuple[Picture, ...]
    kind: Literal["pictures"] = "pictures"


@dataclass(frozen=True)
class UnitLink:
    """A unit of this atlas; the site shows its picture and links to it. One that the atlas lacks is left out."""

    layer: str
    unit: int
    caption: str = ""


@dataclass(frozen=True)
class Units:
    """Units side by side, such as the most similar ones."""

    title: str
    units: tuple[UnitLink, ...]
    kind: Literal["units"] = "units"


@dataclass(frozen=True)
class Mark:
    """A value marked on a chart's horizontal axis."""

    value: float
    text: str


@dataclass(frozen=True)
class Histogram:
    """Counts in bins of equal width between ``low`` and ``high``, with values marked.

    Attributes:
        title: above it.
        x_title: of the horizontal axis.
        low: left end of the first bin.
        high: right end of the last bin.
        counts: per bin.
        marks: such as the synthetic image's activation; they may lie outside [low, high].
        y_title: of the vertical axis: what is counted, in the plural.
    """

    title: str
    x_title: str
    low: float
    high: float
    counts: tuple[float, ...]
    marks: tuple[Mark, ...] = ()
    y_title: str = "images"
    kind: Literal["histogram"] = "histogram"


@dataclass(frozen=True)
class Series:
    """A line: a name, and its points."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True)
class Lines:
    """Up to four lines in one chart, such as a tuning curve."""

    title: str
    x_title: str
    y_title: str
    series: tuple[Series, ...]
    kind: Literal["lines"] = "lines"


@dataclass(frozen=True)
class Table:
    """A small table; numbers as text, already rounded."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    kind: Literal["table"] = "table"


Block = Text | Facts | Pictures | Units | Histogram | Lines | Table
"""What panels and findings are made of."""

BLOCKS: dict[str, type[Any]] = {
    cls.__dataclass_fields__["kind"].default: cls for cls in typing.get_args(Block)
}  # fmt: skip


@dataclass(frozen=True)
class Panel:
    """What a study says of one unit.

    Attributes:
        values: per column, of the unit as a whole.
        by_seed: seed -> per column; where ``values`` lacks a column, the site takes the value of the seed it shows.
        blocks: in the order in which they are shown, below the values.
    """

    values: Mapping[str, Value] = field(default_factory=dict)
    by_seed: Mapping[int, Mapping[str, Value]] = field(default_factory=dict)
    blocks: tuple[Block, ...] = ()

    def value(self, key: str, seed: int | None) -> Value:
        """A column's value for the unit, or for the seed that is shown."""
        found = self.values.get(key)
        if found is None and seed is not None:
            found = self.by_seed.get(seed, {}).get(key)
        return None if isinstance(found, float) and math.isnan(found) else found


@dataclass(frozen=True)
class Finding:
    """A section of the Findings page."""

    heading: str
    text: str = ""
    figure: Picture | None = None
    blocks: tuple[Block, ...] = ()


@dataclass(frozen=True)
class StudyResult:
    """A study as the site shows it.

    Attributes:
        name: of its folder; lower-case letters, digits and ``-`` or ``_``.
        title: to be read by people.
        summary: one or two sentences: what was asked and how it was measured.
        columns: numbers per unit that the site shows.
        panels: layer name -> unit -> panel. A layer is read when it is asked for.
        findings: sections of the Findings page; a study without any is not on it.
        folder: where the files lie that pictures name; None when none does.
    """

    name: str
    title: str
    summary: str
    columns: tuple[Column, ...] = ()
    panels: Mapping[str, Mapping[int, Panel]] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    folder: str | None = None


def blocks_to_json(blocks: Sequence[Block]) -> str:
    """Blocks as the column ``panel`` holds them."""
    return json.dumps([dataclasses.asdict(block) for block in blocks], allow_nan=False, separators=(",", ":"))
