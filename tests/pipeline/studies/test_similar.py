"""Similar units: every class has a twin, which must be its nearest; the map and the test against libraries."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pipeline.config import load_config, read_overrides
from pipeline.site.panels import Units
from pipeline.studies.base.context import Context
from pipeline.studies.base.study import TooFew
from pipeline.studies.similar import STUDY, mantel, response_likeness, responses_of, unit_map
from tests.pipeline.studies.study_cases import Folders


def test_the_known_twin_is_nearest_by_response_and_by_code(
    colours: Folders, context_of: Callable[..., Context]
) -> None:
    output = STUDY.run(context_of(colours))
    for unit in range(12):
        by_response, by_code = output.blocks["fc", unit]
        assert isinstance(by_response, Units)
        assert isinstance(by_code, Units)
        assert by_response.units[0].unit == (unit + 6) % 12
        assert by_code.units[0].unit == (unit + 6) % 12
        assert output.rows["fc", unit, None]["nearest_response"] == pytest.approx(1.0)
    agreement = output.findings[0].blocks[0].rows[1]  # type: ignore[union-attr]
    assert float(agreement[4]) > 0.5
    assert float(agreement[5]) <= 0.01


def test_response_likeness_is_spearmans(colours: Folders, context_of: Callable[..., Context]) -> None:
    from scipy import stats

    context = context_of(colours)
    layer = context.layer("fc")
    found = response_likeness(responses_of(context, layer))
    values = context.dataset.sample("fc", "fc")
    np.testing.assert_allclose(found, stats.spearmanr(values).statistic, atol=1e-6)


def test_the_map_keeps_what_lies_in_a_plane() -> None:
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(20, 2))
    places, explained = unit_map((plane @ rng.normal(size=(2, 50))).T)
    assert explained.sum() == pytest.approx(1.0)
    assert places.shape == (20, 2)
    again, _ = unit_map((plane @ np.random.default_rng(0).normal(size=(2, 50))).T)
    assert again.shape == places.shape


def test_mantels_test_finds_a_likeness_and_not_its_absence() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(20, 3))
    near = points @ points.T
    rho, p = mantel(near, near + 0.1 * rng.normal(size=near.shape), 0)
    assert rho > 0.9
    assert p == pytest.approx(0.001)
    other = rng.normal(size=(20, 3))
    assert mantel(near, other @ other.T, 0)[1] > 0.05


def test_too_few_units_are_refused(colours: Folders, context_of: Callable[..., Context]) -> None:
    config = read_overrides(None, "0:7", None, None).apply(load_config(str(colours.config)))
    with pytest.raises(TooFew, match="no layer has 8 units"):
        STUDY.run(context_of(colours, config))
