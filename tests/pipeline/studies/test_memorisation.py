"""Memorisation: an atlas of planted training pictures, and one of pictures that nobody has seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.dataset.images import open_images
from pipeline.studies.base.context import Context
from pipeline.studies.base.study import TooFew
from pipeline.studies.memorisation import STUDY
from tests.pipeline.studies.changed import change_records, png
from tests.pipeline.studies.study_cases import Folders, write_textures


@pytest.fixture(scope="session")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sets")
    counts = {"training": 300, "held_out": 400, "new": 40}
    return {name: write_textures(folder / name, n, seed=i) for i, (name, n) in enumerate(counts.items())}


def of_pictures(context: Context, source: Path) -> Context:
    """The context with its pictures replaced by those of a folder."""
    images = open_images(source)
    found = [png(picture) for picture in images.pictures(range(24), 16, 16)]
    return change_records(
        context, lambda layer, place, record: replace(record, image=found[place + 12 * (layer.name == "fc")])
    )


def run(context_of, copied: Folders, sets: dict[str, Path], source: str):  # type: ignore[no-untyped-def]
    context = context_of(copied, training=(sets["training"],), held_out=(sets["held_out"],))
    return STUDY.run(of_pictures(context, sets[source]))


def test_planted_training_pictures_are_known_and_found(copied: Folders, context_of, sets) -> None:
    output = run(context_of, copied, sets, "training")
    assert all(row["copy_flagged"] for row in output.rows.values())
    names = [fact[1] for fact in output.blocks["fc", 0][0].rows]  # type: ignore[union-attr]
    assert names[0].startswith("0012.png, distance ratio 0.0")
    power = {row[:2]: row[2] for row in output.findings[1].blocks[0].rows}  # type: ignore[union-attr]
    for kind in ("recompressed", "brighter, less contrast"):
        hits = power["either", f"planted copies, {kind}"]
        assert int(hits.split("%")[0]) >= 99, (kind, hits)


def test_pictures_nobody_has_seen_are_known_not_to_be_copies(copied: Folders, context_of, sets) -> None:
    output = run(context_of, copied, sets, "new")
    assert sum(bool(row["copy_flagged"]) for row in output.rows.values()) <= 1
    wrong = [r[2] for r in output.findings[1].blocks[0].rows if r[1].startswith("held-out")]  # type: ignore[union-attr]
    assert all(int(share.split("%")[0]) <= 4 for share in wrong)
    for row in output.findings[0].blocks[0].rows:  # type: ignore[union-attr]
        low, high = (int(part.strip("%")) for part in row[3].split("[")[1].split("]")[0].split(", "))
        assert low <= 50 <= high, "neither nearer to training nor farther"


def test_blur_alone_does_not_make_a_copy(copied: Folders, context_of, sets) -> None:
    """A grey wash is near everything; its ratio is near 1."""
    context = context_of(copied, training=(sets["training"],), held_out=(sets["held_out"],))
    rng = np.random.default_rng(0)

    def wash(layer, place, record):  # type: ignore[no-untyped-def]
        slope = np.linspace(-30, 30, 16)[:, None, None] * rng.normal(size=3)
        return replace(record, image=png(np.broadcast_to(np.clip(128 + slope, 0, 255), (16, 16, 3)).astype(np.uint8)))

    output = STUDY.run(change_records(context, wash))
    assert sum(bool(row["copy_flagged"]) for row in output.rows.values()) <= 2


def test_too_few_held_out_pictures_are_refused(
    copied: Folders, context_of: Callable[..., Context], sets, tmp_path: Path
) -> None:
    few = write_textures(tmp_path / "few", 100, seed=7)
    with pytest.raises(TooFew, match="300 training and 100 held-out pictures are too few"):
        STUDY.run(context_of(copied, training=(sets["training"],), held_out=(few,)))


def test_embeddings_are_computed_once(copied: Folders, context_of, sets, monkeypatch) -> None:
    run(context_of, copied, sets, "new")
    from pipeline.studies.base import embeddings

    seen: list[int] = []
    honest = embeddings.embed
    monkeypatch.setattr(embeddings, "embed", lambda c, p, k: seen.append(len(p)) or honest(c, p, k))
    run(context_of, copied, sets, "new")
    assert not seen
