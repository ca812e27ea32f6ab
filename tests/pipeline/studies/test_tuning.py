"""Tuning: a network that answers by colour, a generator that draws any colour, pictures that are never quite pure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from pipeline.studies.base.context import Context
from pipeline.studies.base.study import TooFew
from pipeline.studies.tuning import STUDY, chance_to_beat, natural_above
from tests.pipeline.studies.conftest import made
from tests.pipeline.studies.study_cases import Folders


def test_pictures_of_half_strength_are_all_beaten_as_is_known(
    colours: Folders, context_of: Callable[..., Context]
) -> None:
    """Pictures reach 0.5 of the way to the pure colour, the generator nearly all of it: the ratio is about 2."""
    output = STUDY.run(context_of(colours))
    rows = [row for (layer, _, _), row in output.rows.items() if layer == "fc"]
    assert len(rows) == 12
    assert all(row["beats_all"] and row["percentile"] == 100 and row["natural_above"] == 0 for row in rows)
    assert np.median([row["ratio_to_best"] for row in rows]) == pytest.approx(2.0, rel=0.15)
    shares = output.findings[0].blocks[0].rows  # type: ignore[union-attr]
    assert [row[0] for row in shares] == ["map", "Classes"]
    assert shares[1][2].startswith("100% [")


def test_pictures_beyond_the_generators_reach_are_known_to_win(
    tmp_path: Path, context_of: Callable[..., Context]
) -> None:
    """Ten steps from the mean do not reach what pictures of full strength do."""
    folders = made(tmp_path, strength=2.0)
    output = STUDY.run(context_of(folders))
    rows = [row for (layer, _, _), row in output.rows.items() if layer == "fc"]
    assert not any(row["beats_all"] for row in rows)
    assert all(row["ratio_to_best"] < 1 and row["natural_above"] >= 1 for row in rows)
    assert all(80 < row["percentile"] < 100 for row in rows)


def test_the_share_over_subsets_is_hypergeometric() -> None:
    assert chance_to_beat(0, 50, 50) == 1
    assert chance_to_beat(3, 50, 10) == pytest.approx(stats.hypergeom(50, 3, 10).pmf(0))
    assert chance_to_beat(3, 50, 48) == 0


def test_natural_pictures_above_are_counted_exactly_at_the_top(
    colours: Folders, context_of: Callable[..., Context]
) -> None:
    dataset = context_of(colours).dataset
    column = dataset.column("fc", "fc", 0)
    top = dataset.statistics.top_value[:, column]
    assert natural_above(dataset, column, float(top[0]) + 1) == 0
    assert natural_above(dataset, column, float(top[2])) == 3
    half = dataset.statistics.quantile(column, 0.5)
    assert natural_above(dataset, column, half) == pytest.approx(60, abs=6)


def test_a_unit_that_no_picture_moves_is_silent(colours: Folders, context_of: Callable[..., Context]) -> None:
    context = context_of(colours)
    counted = context.dataset.statistics
    column = context.dataset.column("fc", "fc", 3)
    counted.low[column] = counted.high[column] = 0.25
    counted.sample_value[:, context.dataset.column("fc", "fc", 4)] = counted.high[context.dataset.column("fc", "fc", 4)]
    output = STUDY.run(context)
    assert output.rows["fc", 3, None]["silent"] is True
    assert output.rows["fc", 4, None]["saturated"] is True
    assert output.rows["fc", 5, None]["silent"] is False
    assert output.rows["fc", 5, None]["saturated"] is False


def test_too_few_pictures_are_refused(tmp_path: Path, context_of: Callable[..., Context]) -> None:
    with pytest.raises(TooFew, match="12 pictures are too few"):
        STUDY.run(context_of(made(tmp_path, per_class=2)))
