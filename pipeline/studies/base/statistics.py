"""Estimates with their uncertainty. SciPy computes them; this module decides when there are enough data to."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from pipeline.studies.base.study import TooFew

LEVEL = 0.95
MIN_CORRELATION = 10
"""Pairs below which no correlation is reported: with fewer, even rho = 0.6 has an interval that holds 0."""
MIN_SHARE = 5
MIN_MEAN = 5
RESAMPLES = 2000

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A number, its 95% confidence interval, the sample size, and a p-value where a hypothesis was tested."""

    value: float
    low: float
    high: float
    count: int
    p: float | None = None

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0

    def text(self, form: str = "{:.2f}") -> str:
        """``0.31 [0.10, 0.49], n = 96``."""
        low, value, high = (_written(number, form) for number in (self.low, self.value, self.high))
        return f"{value} [{low}, {high}], n = {self.count}"

    def among(self, count: int, form: str = "{:.2f}") -> str:
        """The text for a table that gives ``count`` elsewhere: without n where that is n."""
        return _without_n(self.text(form)) if count == self.count else self.text(form)

    def percent_among(self, count: int) -> str:
        """:meth:`percent`, likewise."""
        return _without_n(self.percent()) if count == self.count else self.percent()

    def percent(self) -> str:
        """Of a share: ``31% [10%, 49%], n = 96``."""
        low, value, high = (f"{100 * number:.0f}%" for number in (self.low, self.value, self.high))
        return f"{value} [{low}, {high}], n = {self.count}"


def _written(number: float, form: str) -> str:
    """A number that is rounded to zero has no sign."""
    text = form.format(number)
    return form.format(0.0) if float(text) == 0 else text


def _without_n(text: str) -> str:
    return text.partition(", n =")[0]


def share(hits: int, count: int, what: str = "cases") -> Estimate:
    """A proportion with Wilson's interval.

    Raises:
        TooFew: fewer than :data:`MIN_SHARE`.
    """
    _demand(count, MIN_SHARE, what)
    interval = stats.binomtest(int(hits), int(count)).proportion_ci(LEVEL, method="wilson")
    return Estimate(hits / count, float(interval.low), float(interval.high), int(count))


def spearman(x: npt.ArrayLike, y: npt.ArrayLike, seed: int = 0, what: str = "pairs") -> Estimate:
    """Spearman's rank correlation; percentile interval of the paired bootstrap; two-sided p-value.

    Raises:
        TooFew: fewer than :data:`MIN_CORRELATION` pairs, or one side does not vary.
    """
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    keep = np.isfinite(a) & np.isfinite(b)
    a, b = a[keep], b[keep]
    _demand(len(a), MIN_CORRELATION, what)
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        raise TooFew(f"all {len(a)} {what} have one value, so there is nothing to correlate")
    found = stats.spearmanr(a, b)
    interval = bootstrap((a, b), _rho, seed=seed, paired=True)
    return Estimate(float(found.statistic), *interval, len(a), float(found.pvalue))


def _rho(x: Floats, y: Floats, axis: int = -1) -> Any:
    ranked = [stats.rankdata(v, axis=axis) for v in (x, y)]
    centred = [v - v.mean(axis=axis, keepdims=True) for v in ranked]
    norms = np.sqrt(np.square(centred[0]).sum(axis=axis) * np.square(centred[1]).sum(axis=axis))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (centred[0] * centred[1]).sum(axis=axis) / norms


def median(values: npt.ArrayLike, seed: int = 0, what: str = "values") -> Estimate:
    """The median with a percentile bootstrap interval.

    Raises:
        TooFew: fewer than :data:`MIN_MEAN`.
    """
    return _averaged(values, np.median, seed, what)


def mean(values: npt.ArrayLike, seed: int = 0, what: str = "values") -> Estimate:
    """The mean with a percentile bootstrap interval.

    Raises:
        TooFew: fewer than :data:`MIN_MEAN`.
    """
    return _averaged(values, np.mean, seed, what)


def _averaged(values: npt.ArrayLike, statistic: Callable[..., Any], seed: int, what: str) -> Estimate:
    found = np.asarray(values, np.float64)
    found = found[np.isfinite(found)]
    _demand(len(found), MIN_MEAN, what)
    return Estimate(float(statistic(found)), *bootstrap((found,), statistic, seed=seed), len(found))


def bootstrap(
    data: Sequence[Floats], statistic: Callable[..., Any], *, seed: int, paired: bool = False
) -> tuple[float, float]:
    """Percentile interval; resamples in which the statistic is undefined are left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        found = stats.bootstrap(
            data,
            statistic,
            n_resamples=RESAMPLES,
            batch=200,
            vectorized=True,
            paired=paired,
            confidence_level=LEVEL,
            method="percentile",
            rng=np.random.default_rng(seed),
        )
    values = found.bootstrap_distribution[np.isfinite(found.bootstrap_distribution)]
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def probability_of_superiority(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """P(x > y) + P(x = y) / 2: Mann and Whitney's U over the number of pairs; nan where a side is empty."""
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if not len(a) or not len(b):
        return float("nan")
    return float(stats.mannwhitneyu(a, b).statistic / (len(a) * len(b)))


def adjusted(p_values: Sequence[float]) -> list[float]:
    """Benjamini and Hochberg's adjusted p-values: the false discovery rate at which each would be found."""
    return [float(p) for p in stats.false_discovery_control(p_values)] if p_values else []


def p_text(p: float) -> str:
    """Three decimals; never 0, which no p-value is."""
    return f"{p:.3f}" if p >= 0.0005 else "< 0.001"


def _demand(count: int, least: int, what: str) -> None:
    if count < least:
        raise TooFew(f"{count} {what} are too few to report; it takes {least}")
