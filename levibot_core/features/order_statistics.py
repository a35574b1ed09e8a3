"""Order statistics of every window, by one sorted window that slides along: exact whatever the algorithm.

Results have shape (n - window + 1, k) for a series of shape (n, k), k markets side by side, and without k for one of
shape (n,); a NaN in a window makes its results NaN. Sums and
extremes are in `folds`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit

from levibot_core.features.folds import FloatArray

_ONE = np.uint64(1)


class OrderStatistics(NamedTuple):
    """Of every window: three arrays of shape (n - window + 1,) or (n - window + 1, k).

    Attributes:
        rank: Share of the window below the newest value, equal ones counted half; 0 to 1.
        lower: Quantile of the share that was asked for, interpolated linearly between neighbours.
        upper: Quantile of 1 minus that share.
    """

    rank: FloatArray
    lower: FloatArray
    upper: FloatArray


def window_order_statistics(values: FloatArray, window: int, share: float) -> OrderStatistics:
    """Rank of the newest value, and the quantiles of `share` and of 1 - `share`, of every window.

    Args:
        values: Series of shape (n,) or (n, k), n >= window.
        window: Length of the windows in bars, at least 2.
        share: Between 0 and 0.5.
    """
    columns = [_slide(column, window, share) for column in _columns(values)]
    return OrderStatistics(*(_joined(parts, values) for parts in zip(*columns, strict=True)))


def bars_since_maximum(values: FloatArray, window: int) -> FloatArray:
    """Bars from the newest of the largest values to the end of every window; 0 is the newest bar."""
    return _joined([_newest_of_the_largest(column, window) for column in _columns(values)], values)


def _columns(values: FloatArray) -> FloatArray:
    """The markets of a series, each contiguous. Shape (k, n)."""
    return np.ascontiguousarray(values.reshape(len(values), -1).T)


def _joined(columns: Sequence[FloatArray], like: FloatArray) -> FloatArray:
    """The statistic of each market, side by side as in the series."""
    return columns[0].reshape(-1, *like.shape[1:]) if len(columns) == 1 else np.stack(columns, axis=1)


@njit(cache=True, nogil=True)
def _slide(values: FloatArray, window: int, share: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    rows = values.size - window + 1
    rank, lower, upper = np.full(rows, np.nan), np.full(rows, np.nan), np.full(rows, np.nan)
    place = share * (window - 1)
    below = int(place)
    between = place - below
    ordered = np.empty(window + 1)
    held = 0  # numbers in `ordered`: those since the newest NaN, at most a window of them
    for bar in range(values.size):
        entering = values[bar]
        if entering != entering:
            held = 0
            continue
        smaller = _count_below(ordered, held, entering)
        if held < window:
            _shift_up(ordered, smaller, np.uint64(held))
            held += 1
        else:
            leaving = _count_below(ordered, held, values[bar - window])
            if leaving < smaller:
                smaller -= _ONE
                for index in range(leaving, smaller):
                    ordered[index] = ordered[index + _ONE]
            else:
                _shift_up(ordered, smaller, leaving)
        ordered[smaller] = entering
        if held < window:
            continue
        row = bar - window + 1
        equal = _ONE
        while smaller + equal < held and ordered[smaller + equal] == entering:
            equal += _ONE
        rank[row] = (smaller + 0.5 * equal) / window
        low, high = ordered[below], ordered[min(below + 1, window - 1)]
        lower[row] = low + between * (high - low)
        high, low = ordered[window - 1 - below], ordered[max(window - 2 - below, 0)]
        upper[row] = high + between * (low - high)
    return rank, lower, upper


# Indices below are unsigned: signed ones are checked for Python's negative indices, which stops vectorisation.


@njit(cache=True, nogil=True)
def _count_below(ordered: FloatArray, held: int, value: float) -> np.uint64:
    """How many of the first `held` numbers are below `value`; for such lengths faster than a binary search."""
    count = np.uint64(0)
    for index in range(held):
        count += _ONE if ordered[index] < value else np.uint64(0)
    return count


@njit(cache=True, nogil=True)
def _shift_up(ordered: FloatArray, begin: np.uint64, end: np.uint64) -> None:
    """Move what stands in [begin, end) one place up."""
    while end > begin:
        ordered[end] = ordered[end - _ONE]
        end -= _ONE


@njit(cache=True, nogil=True)
def _newest_of_the_largest(values: FloatArray, window: int) -> FloatArray:
    """A queue of bars whose values fall: its first is the newest of the largest (Lemire 2006, arXiv:cs/0610046)."""
    since = np.full(values.size - window + 1, np.nan)
    queue = np.empty(values.size, np.int64)
    first = last = 0
    whole_from = window - 1  # the first bar whose window holds no NaN
    for bar in range(values.size):
        value = values[bar]
        if value != value:
            first = last = 0
            whole_from = bar + window
            continue
        while last > first and values[queue[last - 1]] <= value:
            last -= 1
        queue[last] = bar
        last += 1
        if queue[first] <= bar - window:
            first += 1
        if bar >= whole_from:
            since[bar - window + 1] = bar - queue[first]
    return since
