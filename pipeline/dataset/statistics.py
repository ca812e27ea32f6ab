"""What the dataset pass has counted so far, and what can be read from it."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from export.dataset_graph import NOTHING

Floats = npt.NDArray[np.float32]
BELOW, ABOVE = 0.25, 0.75
"""How far a histogram reaches beyond the range of the sample, in parts of that range."""


@dataclass(eq=False)
class Statistics:
    """Counts of U units over the pictures seen so far; columns are the U maxima, then the U values at the centre.

    Attributes:
        seen: (1,) pictures counted.
        top_value: (top, U) highest maxima, descending; -inf where fewer pictures were seen.
        top_image: (top, U) their pictures.
        top_place: (top, U) where the maximum is: row x W + column.
        origin: (2U,) left end of the histograms.
        per_width: (2U,) bins per unit of activation.
        counts: (2U, bins + 2): below, the bins, above.
        low: (2U,) lowest value.
        high: (2U,) highest value.
        total: (2U,) float64 sum of values.
        squares: (2U,) float64 sum of squares.
        sample_image: (n,) the first pictures of the random order: a random sample of the data set.
        sample_value: (n, 2U) their values.
        sample_place: (n, U) where their maxima are.
    """

    seen: npt.NDArray[np.int64]
    top_value: Floats
    top_image: npt.NDArray[np.int64]
    top_place: npt.NDArray[np.int64]
    origin: Floats
    per_width: Floats
    counts: npt.NDArray[np.int64]
    low: Floats
    high: Floats
    total: npt.NDArray[np.float64]
    squares: npt.NDArray[np.float64]
    sample_image: npt.NDArray[np.int64]
    sample_value: Floats
    sample_place: npt.NDArray[np.int32]

    @classmethod
    def empty(cls, units: int, top: int, bins: int) -> Statistics:
        columns = 2 * units
        return cls(
            seen=np.zeros(1, np.int64),
            top_value=np.full((top, units), -np.inf, np.float32),
            top_image=np.full((top, units), NOTHING, np.int64),
            top_place=np.zeros((top, units), np.int64),
            origin=np.zeros(columns, np.float32),
            per_width=np.zeros(columns, np.float32),
            counts=np.zeros((columns, bins + 2), np.int64),
            low=np.full(columns, np.inf, np.float32),
            high=np.full(columns, -np.inf, np.float32),
            total=np.zeros(columns),
            squares=np.zeros(columns),
            sample_image=np.empty(0, np.int64),
            sample_value=np.empty((0, columns), np.float32),
            sample_place=np.empty((0, units), np.int32),
        )

    @property
    def num_seen(self) -> int:
        return int(self.seen[0])

    @property
    def num_units(self) -> int:
        return int(self.top_value.shape[1])

    @property
    def bins(self) -> int:
        return int(self.counts.shape[1]) - 2

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def add_values(self, values: Floats) -> None:
        """Count sums and extremes of (n, 2U) values."""
        if len(values) == 0:
            return
        self.seen += len(values)
        np.minimum(self.low, values.min(axis=0), out=self.low)
        np.maximum(self.high, values.max(axis=0), out=self.high)
        self.total += values.sum(axis=0, dtype=np.float64)
        self.squares += np.square(values, dtype=np.float64).sum(axis=0)

    def add_bins(self, bins: npt.NDArray[np.int32]) -> None:
        """Count (n, 2U) bins, -1 below and ``bins`` above the histogram."""
        width = self.counts.shape[1]
        places = bins + (np.arange(bins.shape[1], dtype=np.int32) * width + 1)
        self.counts += np.bincount(places.ravel(), minlength=self.counts.size).reshape(self.counts.shape)

    def place_bins(self) -> None:
        """Choose the histograms' ranges from the sample, and count the sample."""
        low, high = self.sample_value.min(axis=0), self.sample_value.max(axis=0)
        spread = high - low
        spread = np.where(spread > 0, spread, np.maximum(np.abs(high), 1.0) * 1e-3)
        origin = np.where(low >= 0, np.minimum(low, 0), low - BELOW * spread)  # what cannot be negative starts at 0
        self.origin = origin.astype(np.float32)
        self.per_width = (self.bins / (high + ABOVE * spread - origin)).astype(np.float32)
        bins = np.clip(np.floor((self.sample_value - self.origin) * self.per_width), -1, self.bins)
        self.add_bins(bins.astype(np.int32))

    def width(self, column: int) -> float:
        """Of one bin."""
        return 1.0 / float(self.per_width[column])

    def mean(self) -> npt.NDArray[np.float64]:
        return self.total / max(self.num_seen, 1)

    def std(self) -> npt.NDArray[np.float64]:
        count = max(self.num_seen, 1)
        return np.sqrt(np.maximum(self.squares / count - np.square(self.total / count), 0.0))

    def percentile_of(self, column: int, value: float) -> float:
        """Share of pictures below ``value`` in percent, linear within a bin; exact outside the range of the data."""
        if value <= self.low[column]:
            return 0.0
        if value > self.high[column]:
            return 100.0
        edges = self.edges(column)
        cumulative = np.concatenate([[0.0], np.cumsum(self.counts[column])]) / max(self.num_seen, 1)
        return float(100.0 * np.interp(value, edges, cumulative))

    def quantile(self, column: int, share: float) -> float:
        """The value below which ``share`` of the pictures lie, linear within a bin: off by less than a bin's width."""
        edges = self.edges(column)
        cumulative = np.concatenate([[0.0], np.cumsum(self.counts[column])]) / max(self.num_seen, 1)
        right = int(np.searchsorted(cumulative, share, side="left"))
        if right == 0:
            return float(self.low[column])
        span = cumulative[right] - cumulative[right - 1]
        part = (share - cumulative[right - 1]) / span if span > 0 else 0.0
        return float(edges[right - 1] + part * (edges[right] - edges[right - 1]))

    def edges(self, column: int) -> npt.NDArray[np.float64]:
        """(bins + 3,) edges of: below, the bins, above; narrowed to the range of the data."""
        origin, width = float(self.origin[column]), self.width(column)
        inner = origin + width * np.arange(self.bins + 1)
        low, high = float(self.low[column]), float(self.high[column])
        return np.concatenate([[min(low, origin)], np.clip(inner, low, max(high, low)), [max(high, inner[-1])]])
