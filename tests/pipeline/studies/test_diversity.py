"""Diversity: start codes that lead to one picture, and pictures that differ by a known amount."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.config import load_config, read_overrides
from pipeline.studies.base import more
from pipeline.studies.base.context import Context
from pipeline.studies.base.study import TooFew
from pipeline.studies.diversity import NUM_SEEDS, NUM_UNITS, STUDY
from tests.pipeline.studies.changed import change_records, png
from tests.pipeline.studies.conftest import made
from tests.pipeline.studies.study_cases import Folders


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return made(tmp_path_factory.mktemp("seeded"), seeds=3)


def test_known_equal_pictures_have_no_distance(seeded: Folders, context_of: Callable[..., Context]) -> None:
    context = context_of(seeded)
    rng = np.random.default_rng(0)
    images = [png(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)) for _ in range(12)]
    change_records(context, lambda layer, place, record: replace(record, image=images[place], activation=2.0))
    output = STUDY.run(context)
    for unit in range(12):
        row = output.rows["fc", unit, None]
        assert row["seed_distance"] == pytest.approx(0, abs=1e-5)
        assert row["seed_ms_ssim"] == pytest.approx(1)
        assert row["seed_spread"] == 0
    cells = output.findings[0].blocks[0].rows[1]  # type: ignore[union-attr]
    assert cells[1] == "12"
    assert cells[4] == "100%"


def test_pictures_at_random_are_known_to_differ_as_much_as_units_do(
    seeded: Folders, context_of: Callable[..., Context]
) -> None:
    context = context_of(seeded)
    rng = np.random.default_rng(0)

    def draw(layer, place, record):  # type: ignore[no-untyped-def]
        own = np.random.default_rng([place, record.seed, layer.name == "fc"])
        colour = np.broadcast_to(own.integers(0, 256, 3, dtype=np.uint8), (16, 16, 3))
        return replace(record, image=png(np.ascontiguousarray(colour)), activation=float(rng.normal(10, 1)))

    output = STUDY.run(change_records(context, draw))
    cells = output.findings[0].blocks[0].rows[1]  # type: ignore[union-attr]
    assert 25 <= int(cells[4].strip("%")) <= 75
    spreads = [output.rows["fc", u, None]["seed_spread"] for u in range(12)]
    assert 0.03 < float(np.mean(spreads)) < 0.17  # type: ignore[arg-type]


def test_units_of_one_start_code_get_more_and_keep_them(copied: Folders, context_of: Callable[..., Context]) -> None:
    context = context_of(copied)
    STUDY.run(context)
    info = context.layer("fc").info
    for seed in range(1, NUM_SEEDS):
        assert len(context.workspace.store.done_units(context.workspace.recipe(info, seed).key)) == NUM_UNITS
    made_again: list[object] = []
    honest = more.make_shard
    more.make_shard = lambda *a: made_again.append(a) or honest(*a)  # type: ignore[assignment, func-returns-value]
    try:
        STUDY.run(context_of(copied))
    finally:
        more.make_shard = honest  # type: ignore[assignment]
    assert not made_again


def test_too_few_units_are_refused(copied: Folders, context_of: Callable[..., Context], tmp_path: Path) -> None:
    config = read_overrides(None, "0:4", None, None).apply(load_config(str(copied.config)))
    with pytest.raises(TooFew, match="no layer has 5 units"):
        STUDY.run(context_of(copied, config))
