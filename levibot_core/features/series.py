"""A series as a kernel sees it: the rows to compute, and the bars before them, with window statistics kept once.

The statistics are computed in `folds` and `order_statistics`; which series there are is said in `inputs`.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import numpy as np

from levibot_core.features import folds
from levibot_core.features.folds import FloatArray
from levibot_core.features.order_statistics import OrderStatistics, bars_since_maximum, window_order_statistics

# A spread this small beside the mean is what rounding leaves of equal numbers, not a spread.
_RELATIVE_FLOOR = 1e-12

_Statistic = TypeVar("_Statistic")


class WindowedSeries:
    """Rows [begin, end) of a series of k markets, each with the bars before it.

    Every statistic has shape (end - begin, k).

    A statistic is computed once and shared by the kernels that ask for it; nobody writes to it.

    Args:
        values: The whole series, float64 (n, k), one row per bar of a regular grid.
        begin: First row that is wanted; windows reach back from it, at most to the first value.
        end: Row after the last that is wanted.
    """

    __slots__ = ("_kept", "begin", "end", "values")

    def __init__(self, values: FloatArray, begin: int, end: int) -> None:
        self.values = values
        self.begin = begin
        self.end = end
        self._kept: dict[tuple[Any, ...], Any] = {}

    @property
    def now(self) -> FloatArray:
        """The value of each row's own bar."""
        return self.values[self.begin : self.end]

    def lagged(self, bars: int) -> FloatArray:
        """The value `bars` bars before each row."""
        return self.values[self.begin - bars : self.end - bars]

    def span(self, window: int) -> FloatArray:
        """The values that all windows of that length cover: shape (end - begin + window - 1, k)."""
        return self.values[self.begin - window + 1 : self.end]

    def extended(self, bars: int) -> "WindowedSeries":
        """The same series with rows from `bars` bars before, for a statistic of a statistic."""
        return WindowedSeries(self.values, self.begin - bars, self.end)

    def sum(self, window: int) -> FloatArray:
        """Sum of each row's last `window` values."""
        return self._once(("sum", window), lambda: folds.window_sum(self.span(window), window))

    def mean(self, window: int) -> FloatArray:
        """Arithmetic mean of the last `window` values."""
        return self._once(("mean", window), lambda: self.sum(window) / window)

    def squared_sum(self, window: int) -> FloatArray:
        """Sum of the squares of the last `window` values."""
        return self._once(("squared_sum", window), lambda: folds.window_sum(np.square(self.span(window)), window))

    def deviation(self, window: int) -> FloatArray:
        """Population standard deviation of the last `window` values; NaN where all are equal."""
        return self._once(("deviation", window), lambda: self._deviation(window))

    def _deviation(self, window: int) -> FloatArray:
        total, squares = folds.window_moments(self.span(window), window)
        deviation = np.sqrt(squares / window)
        deviation[deviation <= np.abs(total) * (_RELATIVE_FLOOR / window)] = np.nan
        return deviation

    def maximum(self, window: int) -> FloatArray:
        """Largest of the last `window` values."""
        return self._once(("maximum", window), lambda: folds.window_maximum(self.span(window), window))

    def minimum(self, window: int) -> FloatArray:
        """Smallest of the last `window` values."""
        return self._once(("minimum", window), lambda: folds.window_minimum(self.span(window), window))

    def bars_since_maximum(self, window: int) -> FloatArray:
        """Bars since the newest of the largest of the last `window` values; 0 is the row's own bar."""
        return self._once(("bars_since_maximum", window), lambda: bars_since_maximum(self.span(window), window))

    def bars_since_minimum(self, window: int) -> FloatArray:
        """Bars since the newest of the smallest of the last `window` values."""
        return self._once(("bars_since_minimum", window), lambda: bars_since_maximum(-self.span(window), window))

    def order_statistics(self, window: int, share: float) -> OrderStatistics:
        """Rank of the row's own value, and the quantiles of `share` and 1 - `share`, among the last `window`."""
        return self._once(
            ("order_statistics", window, share), lambda: window_order_statistics(self.span(window), window, share)
        )

    def slope(self, window: int) -> FloatArray:
        """Slope of the least-squares line through the last `window` values, per bar."""
        return self._once(
            ("slope", window), lambda: folds.window_trend(self.span(window), window) / time_squares(window)
        )

    def exponential_mean(self, span: float, window: int) -> FloatArray:
        """Exponential mean of that span, cut off after `window` values, with weights that sum to 1.

        alpha = 2 / (span + 1); the weight of the value k bars before is proportional to (1 - alpha)^k.
        """
        return self._once(("exponential_mean", span, window), lambda: exponential_mean(self.span(window), span, window))

    def comoments(self, other: "WindowedSeries", window: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Sums of squared deviations of this and the other series, and of their products, over `window` values.

        NaN in a series' squares where it does not move.
        """
        return self._once(("comoments", id(other), window), lambda: self._comoments(other, window))

    def _comoments(self, other: "WindowedSeries", window: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        total, other_total, squares, other_squares, products = folds.window_comoments(
            self.span(window), other.span(window), window
        )
        for sums, squared in ((total, squares), (other_total, other_squares)):
            squared[squared <= np.square(sums * _RELATIVE_FLOOR) / window] = np.nan
        return squares, other_squares, products

    def _once(self, key: tuple[Any, ...], compute: Callable[[], _Statistic]) -> _Statistic:
        if key not in self._kept:
            self._kept[key] = compute()
        statistic: _Statistic = self._kept[key]
        return statistic


def exponential_mean(values: FloatArray, span: float, window: int) -> FloatArray:
    """As `WindowedSeries.exponential_mean`, for values of shape (n, k). Shape (n - window + 1, k)."""
    decay = 1.0 - 2.0 / (span + 1.0)
    return folds.window_exponential_sum(values, decay, window) / _total_weight(decay, window)


@cache
def _total_weight(decay: float, window: int) -> float:
    # Smallest first, by plain additions: Python's `sum` compensates in some versions and not in others.
    total = 0.0
    for weight in reversed(folds.powers_of(decay, window - 1)):
        total += weight
    return total


def time_squares(window: int) -> float:
    """Sum over a window of (bar number - mean bar number)^2."""
    return window * (window * window - 1) / 12.0
