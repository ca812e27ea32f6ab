"""The form of a study, and what comes of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from export.errors import InputError
from pipeline.site.panels import Block, Column, Finding, Value

if TYPE_CHECKING:
    from pipeline.studies.base.context import Context

Need = Literal["dataset", "judge", "training", "held_out", "compare", "checkpoints"]


class TooFew(InputError):
    """There are too few data to report anything."""


class MissingInput(InputError):
    """A study needs something that was not given."""


@dataclass
class Output:
    """What a study found; the site shows it by itself, see :mod:`pipeline.site.panels`.

    Attributes:
        summary: one or two sentences: what was asked, how it was measured, on how much.
        columns: numbers per unit that the site shows.
        findings: sections of the Findings page.
        rows: (layer, unit, seed; None for the unit as a whole) -> values.
        blocks: (layer, unit) -> what the unit's page shows below the values.
        files: pictures by the name under which blocks and findings give them.
    """

    summary: str
    columns: list[Column] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    rows: dict[tuple[str, int, int | None], dict[str, Value]] = field(default_factory=dict)
    blocks: dict[tuple[str, int], list[Block]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    def put(self, layer: str, unit: int, seed: int | None = None, **values: Value) -> None:
        """Add values to a row."""
        self.rows.setdefault((layer, unit, seed), {}).update(values)

    def show(self, layer: str, unit: int, *blocks: Block) -> None:
        """Add blocks to a unit's page."""
        self.blocks.setdefault((layer, unit), []).extend(blocks)


class Study(Protocol):
    """An analysis over the finished results of an atlas.

    Attributes:
        name: of its folder: lower-case letters, digits and ``-``.
        title: to be read by people.
        needs: inputs without which it cannot run.
        revision: raised when its results can change.
    """

    name: str
    title: str
    needs: Sequence[Need]
    revision: int

    def run(self, context: Context) -> Output:
        """Do it.

        Raises:
            TooFew: nothing can be reported; the message tells how many there are and how many it takes.
            MissingInput: an input was not given.
        """
        ...
