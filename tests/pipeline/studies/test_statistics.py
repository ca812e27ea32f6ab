"""Estimates: against closed forms, coverage of the intervals, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pipeline.studies.base import statistics
from pipeline.studies.base.study import TooFew


def test_a_share_has_wilsons_interval() -> None:
    found = statistics.share(7, 20)
    z, p, n = stats.norm.ppf(0.975), 0.35, 20
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert (found.value, found.count) == (0.35, 20)
    assert (found.low, found.high) == (pytest.approx(centre - half), pytest.approx(centre + half))
    assert found.percent() == "35% [18%, 57%], n = 20"


def test_a_correlation_built_in_is_found_with_its_interval() -> None:
    """Spearman's rho of a bivariate normal is (6 / pi) asin(r / 2)."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=1500)
    y = 0.6 * x + 0.8 * rng.normal(size=1500)
    found = statistics.spearman(x, y)
    assert found.value == pytest.approx(6 / np.pi * np.arcsin(0.3), abs=0.05)
    assert found.low < 6 / np.pi * np.arcsin(0.3) < found.high
    assert 0.05 < found.high - found.low < 0.1
    assert found.excludes_zero
    assert found.p is not None
    assert found.p < 1e-10


def test_no_correlation_is_covered_as_often_as_promised() -> None:
    rng = np.random.default_rng(1)
    covered = sum(
        not statistics.spearman(rng.normal(size=30), rng.normal(size=30), seed=i).excludes_zero for i in range(60)
    )
    assert 52 <= covered <= 60


def test_ties_are_averaged_as_scipy_does() -> None:
    x, y = [1, 1, 2, 2, 3, 3, 4, 4, 5, 5], [1, 2, 1, 2, 3, 3, 3, 5, 4, 4]
    assert statistics.spearman(x, y).value == pytest.approx(stats.spearmanr(x, y).statistic)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: statistics.share(1, 4, "units"), "4 units are too few to report; it takes 5"),
        (lambda: statistics.spearman(range(9), range(9)), "9 pairs are too few"),
        (lambda: statistics.spearman([1.0] * 12, range(12)), "one value"),
        (lambda: statistics.spearman([np.nan] * 5 + [1.0] * 9, range(14)), "9 pairs are too few"),
        (lambda: statistics.median([1.0, np.nan, 2, 3, 4]), "4 values are too few"),
    ],
)
def test_too_few_data_are_refused(call, message: str) -> None:
    with pytest.raises(TooFew, match=message):
        call()


def test_superiority_is_the_share_of_pairs() -> None:
    assert statistics.probability_of_superiority([2, 3], [1, 2]) == pytest.approx(3.5 / 4)
    assert np.isnan(statistics.probability_of_superiority([], [1]))


@pytest.mark.parametrize(("estimate", "exact"), [(statistics.mean, 1.0), (statistics.median, np.log(2))])
def test_intervals_of_means_and_medians_cover_as_often_as_promised(estimate, exact: float) -> None:
    """95% are promised; of a skewed distribution the percentile bootstrap with n = 60 keeps 92 to 95%."""
    rng = np.random.default_rng(2)
    found = [estimate(rng.exponential(size=60), seed=i) for i in range(100)]
    assert 86 <= sum(f.low < exact < f.high for f in found) <= 99
    assert all(f.low < f.value < f.high for f in found)


def test_adjusted_p_values_are_benjamini_and_hochbergs() -> None:
    assert statistics.adjusted([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.04, 0.04])
    assert statistics.adjusted([]) == []


def test_what_is_rounded_to_zero_has_no_sign_and_n_is_given_once() -> None:
    found = statistics.Estimate(-0.001, -0.4, 0.004, 12)
    assert found.text() == "0.00 [-0.40, 0.00], n = 12"
    assert found.among(12) == "0.00 [-0.40, 0.00]"
    assert found.among(20) == found.text(), "where some were left out, it says so"
    assert statistics.share(3, 12).percent_among(12) == statistics.share(3, 12).percent().removesuffix(", n = 12")


def test_a_p_value_is_never_shown_as_0() -> None:
    assert [statistics.p_text(p) for p in (0.0412, 0.0005, 0.00049, 1e-30)] == ["0.041", "0.001", "< 0.001", "< 0.001"]
