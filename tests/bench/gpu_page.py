"""The page of `make gpu-check`: what was found, as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from export.manifest import StepGraph
from export.projection import Load, device_named, load_of
from export.update import Ascent

STEPS_A_UNIT = Ascent().steps
WIDTH = 118
COLUMNS = (
    ("parity", "parity: act. grad. move pixel", 31),
    ("capture", "capture", 9),
    ("slots", "slots", 11),
    ("cache", "cache", 21),
    ("rebuild", "rebuild", 16),
)
"""Check, its heading, and its width."""


@dataclass
class Row:
    """What was found of one runtime in one precision.

    Attributes:
        results: by check: what was found, and whether it is as it must be.
        step_s: seconds of one step of the whole batch; nan if it was not measured.
    """

    runtime: str
    precision: str
    results: dict[str, tuple[bool, str]] = field(default_factory=dict)
    step_s: float = float("nan")

    @property
    def failed(self) -> list[str]:
        return [name for name, (ok, _) in self.results.items() if not ok]


def table(title: str, graph: StepGraph, rows: Sequence[Row], gpu: str) -> list[str]:
    """The part of the page about one layer."""
    batch, step = graph.manifest.batch, graph.step
    loads = {precision: load_of(step, 4 if precision == "fp32" else 2) for precision in {row.precision for row in rows}}
    flops = next(iter(loads.values())).flops / batch
    lines = [
        "",
        f"{title}: batch {batch}, {flops / 1e9:.2f} GFLOP an image-step",
        f"{'runtime':<17}{'':<5}" + "".join(f"{head:<{width}}" for _, head, width in COLUMNS).rstrip(),
    ]
    for row in rows:
        texts = [cell(row, name, width) for name, _, width in COLUMNS]
        lines.append(f"{row.runtime:<17}{row.precision:<5}" + "".join(texts).rstrip())
        lines.append(f"{'':<22}{speed_of(row, batch, loads[row.precision], gpu)}")
        lines += [f"{'':<22}{name} FAILED: {row.results[name][1]}"[:WIDTH] for name in row.failed]
    return lines


def cell(row: Row, name: str, width: int) -> str:
    ok, text = row.results[name]
    return f"{text if ok else 'FAILED':<{width}}"


def speed_of(row: Row, batch: int, load: Load, gpu: str) -> str:
    """Milliseconds, units and the share of the roofline."""
    if not row.step_s > 0:
        return "not measured"
    units = 3600 * batch / (row.step_s * STEPS_A_UNIT)
    text = f"{1e3 * row.step_s:.2f} ms a step, {units:,.0f} units an hour at {STEPS_A_UNIT} steps"
    device = device_named(gpu)
    if device is None:
        return f"{text}; peaks of {gpu} are not in export/projection.py"
    least, bound = load.roofline_s(device, row.precision)
    return f"{text}; {100 * least / row.step_s:.0f} % of roofline ({bound}, {1e3 * least:.2f} ms)"


def verdict(rows: Sequence[Row], tests: tuple[bool, str] | None) -> tuple[list[str], int]:
    """The last lines, and the exit status."""
    counted = [ok for row in rows for ok, _ in row.results.values()] + ([tests[0]] if tests else [])
    failed = [f"{row.runtime} {row.precision}: {', '.join(row.failed)}" for row in rows if row.failed]
    lines = ["", *(["failed: " + "; ".join(failed)] if failed else [])]
    lines.append(f"gpu-check: passed {sum(counted)}, failed {len(counted) - sum(counted)}")
    return lines, int(not all(counted))
