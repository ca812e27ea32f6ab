"""Running the dataset pass: resumable, in bounded memory; equal inputs make equal files."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.runtimes import get_builder
from export.dataset_graph import STATE, Target, compile_dataset
from export.errors import InputError
from export.interrupts import check
from export.network import Network
from pipeline.dataset.images import Batch, ImageSet, batches
from pipeline.dataset.statistics import Statistics
from pipeline.forward import RUNTIME, Stateful
from pipeline.recipe import short_digest
from pipeline.temporary import replace_file

REVISION = 1
"""Raised whenever a change can change what a pass counts."""
ORDER_SEED = 0
PROGRESS, RESULT, FACTS = "progress.npz", "statistics.npz", "facts.json"


@dataclass(frozen=True)
class PassSettings:
    """Settings of a pass.

    Attributes:
        top: pictures kept per unit.
        bins: of the histograms.
        sample: pictures of the random sample, whose values are all kept.
        batch: pictures at a time.
        threads: 0 for all cores.
        checkpoint_s: seconds of work that a killed pass loses at most, about.
    """

    top: int = 9
    bins: int = 64
    sample: int = 1024
    batch: int = 32
    threads: int = 0
    checkpoint_s: float = 30.0

    def __post_init__(self) -> None:
        for name in ("top", "bins", "sample", "batch"):
            if getattr(self, name) < 1:
                raise InputError(f"dataset.{name} must be at least 1, not {getattr(self, name)}")


@dataclass(frozen=True)
class Progress:
    """Where a pass is: pictures done, pictures there are, pictures per second of this run."""

    done: int
    total: int
    per_s: float


def pass_key(network: Network, images: ImageSet, targets: Sequence[Target], settings: PassSettings) -> str:
    """What determines the files of a pass, as 20 hexadecimal digits."""
    version = get_builder(RUNTIME).availability().detail.partition(",")[0]
    value = {
        "network": network.digest,
        "card": network.card.input.model_dump(mode="json"),
        "images": images.digest,
        "targets": [asdict(target) for target in targets],
        "settings": [settings.top, settings.bins, settings.sample, settings.batch],
        "runtime": [RUNTIME, version],
        "revision": REVISION,
    }
    return short_digest(value)


def run_pass(
    network: Network,
    images: ImageSet,
    targets: Sequence[Target],
    settings: PassSettings,
    out: Path,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> dict[str, Any]:
    """Run the pass, or what is left of it, and write its result to ``out``; a finished one is left alone.

    Args:
        network: to measure.
        images: to show it.
        targets: whose units are measured.
        settings: see :class:`PassSettings`.
        out: folder of the pass; a pass with another key that is there is replaced.
        on_progress: called after every batch.

    Returns:
        The facts that were written beside the statistics.

    Raises:
        InputError: no picture can be read, or the folder cannot be written.
        EngineError: the runtime failed.
    """
    key = pass_key(network, images, targets, settings)
    facts = read_facts(out)
    if facts is not None and facts["key"] == key:
        return facts
    graph = compile_dataset(network, targets, batch=settings.batch, top=settings.top, bins=settings.bins)
    order = images.order(ORDER_SEED)
    counted, cursor, broken = _resume(out, key, graph.num_units, settings)
    state = {name: counted.arrays()[name] for name in STATE}
    constants = {"origin": counted.origin, "per_width": counted.per_width}
    model = Stateful(graph.model, state, constants, settings.threads)
    counter = _Counter(counted, settings.sample, model)
    card = network.card.input
    start, saved, first = time.monotonic(), time.monotonic(), cursor
    threads = settings.threads or os.cpu_count() or 1
    for batch in batches(images, order[cursor:], settings.batch, card.height, card.width, threads):
        check()
        counter.add(batch)
        broken += batch.broken
        cursor = min(cursor + settings.batch, len(order))
        now = time.monotonic()
        on_progress(Progress(cursor, len(order), (cursor - first) / max(now - start, 1e-9)))
        if now - saved >= settings.checkpoint_s and cursor < len(order):
            _save(out / PROGRESS, counter.finished(), {"key": key, "cursor": cursor, "broken": broken})
            saved = time.monotonic()
    counted = counter.finished()
    if counted.num_seen == 0:
        raise InputError(f"images {images.source}: none of {len(images)} pictures can be read ({broken[0]})")
    if counted.per_width[0] == 0:
        counted.place_bins()
    facts = {
        "key": key,
        "source": images.source.name,
        "images": len(images),
        "images_digest": images.digest,
        "seen": counted.num_seen,
        "broken": broken,
        "order_seed": ORDER_SEED,
        "sample": len(counted.sample_image),
        "targets": [asdict(target) for target in targets],
        "settings": asdict(settings),
        "network": network.digest,
    }
    _save(out / RESULT, counted, {"key": key})
    replace_file(out / FACTS, (json.dumps(facts, indent=1) + "\n").encode())
    (out / PROGRESS).unlink(missing_ok=True)
    return facts


class _Counter:
    """Feeds batches to the graph and counts what comes out; the first pictures are the sample that sets the bins."""

    def __init__(self, counted: Statistics, sample: int, model: Stateful) -> None:
        self._counted, self._sample, self._model = counted, sample, model
        self._pending: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, batch: Batch) -> None:
        rows = batch.index >= 0
        outputs = self._model.step(image=batch.pixels, index=batch.index)
        counted = self._counted
        values = np.asarray(outputs["value"][rows], np.float32)
        counted.add_values(values)
        wanted = self._sample - len(counted.sample_image) - sum(len(part[0]) for part in self._pending)
        if counted.per_width[0] != 0:
            counted.add_bins(np.asarray(outputs["bin"][rows], np.int32))
            return
        # Until the bins are placed every picture belongs to the sample, also the rest of the batch that fills it.
        self._pending.append((batch.index[rows], values, np.asarray(outputs["place"][rows], np.int32)))
        if wanted <= int(rows.sum()):
            self._gather()
            counted.place_bins()
            self._model.set(origin=counted.origin, per_width=counted.per_width)

    def finished(self) -> Statistics:
        """The statistics, with the graph's state."""
        self._gather()
        for name in STATE:
            setattr(self._counted, name, np.array(self._model.state[name]))
        return self._counted

    def _gather(self) -> None:
        if self._pending:
            counted = self._counted
            old = (counted.sample_image, counted.sample_value, counted.sample_place)
            parts = [np.concatenate(part) for part in zip(old, *self._pending, strict=True)]
            counted.sample_image, counted.sample_value, counted.sample_place = parts
            self._pending = []


def read_facts(out: Path) -> dict[str, Any] | None:
    """Facts of a finished pass; None when there is none."""
    try:
        facts: dict[str, Any] = json.loads((out / FACTS).read_text(encoding="utf-8"))
        return facts if (out / RESULT).is_file() and "key" in facts else None
    except (OSError, ValueError):
        return None


def read_statistics(path: Path) -> tuple[Statistics, dict[str, Any]]:
    """Statistics and what was saved with them.

    Raises:
        OSError: the file cannot be read.
        ValueError, KeyError: it is damaged.
    """
    with np.load(path, allow_pickle=False) as file:
        note: dict[str, Any] = json.loads(str(file["note"]))
        return Statistics(**{name: file[name] for name in Statistics.__dataclass_fields__}), note


def _save(path: Path, counted: Statistics, note: dict[str, Any]) -> None:
    sink = io.BytesIO()
    arrays: dict[str, Any] = dict(counted.arrays())
    np.savez(sink, note=np.asarray(json.dumps(note)), **arrays)
    replace_file(path, sink.getvalue())


def _resume(out: Path, key: str, units: int, settings: PassSettings) -> tuple[Statistics, int, list[str]]:
    """(statistics, pictures done, broken pictures) of an interrupted pass with this key, or of a new one."""
    try:
        counted, note = read_statistics(out / PROGRESS)
        if note["key"] == key:
            return counted, int(note["cursor"]), list(note["broken"])
    except (OSError, ValueError, KeyError):
        pass
    return Statistics.empty(units, settings.top, settings.bins), 0, []
