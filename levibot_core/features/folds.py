"""Window-exact statistics: every window is folded by a tree whose shape depends on its length alone.

Two neighbouring blocks of bars merge into one; blocks of 1, 2, 4, ... bars are merged for all rows at once, and a
window is put together from the powers of two in its length, newest block first. So a row's value is a pure function
of its own window, in a fixed order, with the same 64 bits wherever the row stands; it costs the logarithm of the
window's length instead of the length, and rounds less than a running sum (pairwise summation: Higham, Accuracy and
Stability of Numerical Algorithms, 2nd ed., section 4.2).

All functions take series of shape (n,), or (n, k) for k markets side by side, and give results of shape
(n - window + 1,) or (n - window + 1, k), one per whole window; a NaN in a window makes its result NaN. Nothing here
uses an operation whose last bit depends on the machine or on where in an array a number stands. Order
statistics are in `order_statistics`; what features are made of these, in `families`.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt
from numba import njit

FloatArray = npt.NDArray[np.float64]

Block = tuple[FloatArray, ...]
"""What is known of one block of bars per row: arrays of one shape."""

Merge = Callable[[Block, Block, int, int], Block]
"""From a newer block, the older one before it and their lengths in bars to the block of both."""


def fold(leaves: Block, window: int, merge: Merge) -> Block:
    """Fold every window of the leaves, which describe one bar each.

    Args:
        leaves: Arrays of shape (n,) or (n, k), n >= window.
        window: Length of the windows in bars, at least 1.
        merge: How two neighbouring blocks become one.

    Returns:
        Arrays of shape (n - window + 1,) or (n - window + 1, k).
    """
    rows = leaves[0].shape[0] - window + 1
    level, width = leaves, 1
    folded: Block | None = None
    covered = 0
    while True:
        if window & width:
            begin = window - covered - width
            older = tuple(part[begin : begin + rows] for part in level)
            folded = older if folded is None else merge(folded, older, covered, width)
            covered += width
        if covered == window:
            return folded if folded is not None else level
        level = merge(
            tuple(part[width:] for part in level), tuple(part[: len(part) - width] for part in level), width, width
        )
        width *= 2


def window_sum(values: FloatArray, window: int) -> FloatArray:
    """Sum of every window."""
    return fold((values,), window, _merge_sums)[0]


def window_maximum(values: FloatArray, window: int) -> FloatArray:
    """Largest value of every window."""
    return fold((values,), window, _merge_maxima)[0]


def window_minimum(values: FloatArray, window: int) -> FloatArray:
    """Smallest value of every window."""
    return fold((values,), window, _merge_minima)[0]


def window_moments(values: FloatArray, window: int) -> tuple[FloatArray, FloatArray]:
    """Sum, and sum of squared deviations from the mean, of every window.

    Squares are merged as in Chan, Golub and LeVeque (1983), Algorithms for computing the sample variance, eq. 2.1:
    never a difference of large squares.
    """
    total, squares = fold((values, _zeros_like(values)), window, _merge_moments)
    return total, squares


def window_comoments(first: FloatArray, second: FloatArray, window: int) -> Block:
    """Sums of both series, of their squared deviations and of the products of those, of every window (Chan 1983)."""
    none, other_none = _zeros_like(first), _zeros_like(second)
    return fold((first, second, none, other_none, none + other_none), window, _merge_comoments)


def window_trend(values: FloatArray, window: int) -> FloatArray:
    """Sum over every window of (value - mean) times (bar number - mean bar number), bars counted forward in time.

    Divided by `window (window^2 - 1) / 12` it is the slope of the least-squares line, per bar.
    """
    return fold((values, _zeros_like(values)), window, _merge_trends)[1]


def window_exponential_sum(values: FloatArray, decay: float, window: int) -> FloatArray:
    """Sum of `decay ** lag` times the value `lag` bars before the newest, over every window."""
    powers = powers_of(decay, window)

    def merge(newer: Block, older: Block, newer_bars: int, _: int) -> Block:
        return (_compiled(_add_scaled, newer[:1], older[:1], powers[newer_bars], 1.0)[0],)

    return fold((values,), window, merge)[0]


@cache
def powers_of(base: float, count: int) -> tuple[float, ...]:
    """1, base, base^2, ... up to base^count by plain multiplications: a library's power may round otherwise."""
    powers = [1.0]
    for _ in range(count):
        powers.append(powers[-1] * base)
    return tuple(powers)


def _zeros_like(values: FloatArray) -> FloatArray:
    """The deviation of single bars from their own mean: 0, and NaN where the value is."""
    return values - values


def _merge_sums(newer: Block, older: Block, _: int, __: int) -> Block:
    return (newer[0] + older[0],)


def _merge_maxima(newer: Block, older: Block, _: int, __: int) -> Block:
    return (np.maximum(newer[0], older[0]),)


def _merge_minima(newer: Block, older: Block, _: int, __: int) -> Block:
    return (np.minimum(newer[0], older[0]),)


def _merge_moments(newer: Block, older: Block, newer_bars: int, older_bars: int) -> Block:
    return _compiled(_moments, newer, older, float(newer_bars), float(older_bars))


def _merge_comoments(newer: Block, older: Block, newer_bars: int, older_bars: int) -> Block:
    return _compiled(_comoments, newer, older, float(newer_bars), float(older_bars))


def _merge_trends(newer: Block, older: Block, newer_bars: int, older_bars: int) -> Block:
    return _compiled(_trends, newer, older, float(newer_bars), float(older_bars))


def _compiled(merge: Callable[..., Block], newer: Block, older: Block, first: float, second: float) -> Block:
    """Run a compiled merge, which knows flat arrays; slices of whole rows are contiguous, so that none is copied."""
    shape = newer[0].shape
    merged = merge(tuple(part.ravel() for part in newer), tuple(part.ravel() for part in older), first, second)
    return tuple(part.reshape(shape) for part in merged)


# One pass over memory per merge instead of one per operation. Without fast-math, so that every operation rounds as
# IEEE 754 says: no fused multiply-add, no reordering; `tests/unit/features/test_folds.py` holds them to plain Python.


@njit(cache=True, nogil=True)
def _add_scaled(newer: Block, older: Block, factor: float, _: float) -> Block:
    total = np.empty(newer[0].size)
    for row in range(total.size):
        total[row] = newer[0][row] + factor * older[0][row]
    return (total,)


@njit(cache=True, nogil=True, error_model="numpy")
def _moments(newer: Block, older: Block, newer_bars: float, older_bars: float) -> Block:
    weight = 1.0 / (newer_bars * older_bars * (newer_bars + older_bars))
    total, squares = np.empty(newer[0].size), np.empty(newer[0].size)
    for row in range(total.size):
        total[row] = newer[0][row] + older[0][row]
        apart = newer[0][row] * older_bars - older[0][row] * newer_bars
        squares[row] = newer[1][row] + older[1][row] + apart * apart * weight
    return total, squares


@njit(cache=True, nogil=True, error_model="numpy")
def _comoments(newer: Block, older: Block, newer_bars: float, older_bars: float) -> Block:
    weight = 1.0 / (newer_bars * older_bars * (newer_bars + older_bars))
    rows = newer[0].size
    first, second = np.empty(rows), np.empty(rows)
    squares, other_squares, products = np.empty(rows), np.empty(rows), np.empty(rows)
    for row in range(rows):
        first[row] = newer[0][row] + older[0][row]
        second[row] = newer[1][row] + older[1][row]
        apart = newer[0][row] * older_bars - older[0][row] * newer_bars
        other_apart = newer[1][row] * older_bars - older[1][row] * newer_bars
        squares[row] = newer[2][row] + older[2][row] + apart * apart * weight
        other_squares[row] = newer[3][row] + older[3][row] + other_apart * other_apart * weight
        products[row] = newer[4][row] + older[4][row] + apart * other_apart * weight
    return first, second, squares, other_squares, products


@njit(cache=True, nogil=True)
def _trends(newer: Block, older: Block, newer_bars: float, older_bars: float) -> Block:
    total, trend = np.empty(newer[0].size), np.empty(newer[0].size)
    for row in range(total.size):
        total[row] = newer[0][row] + older[0][row]
        # The mean bar numbers of the two blocks are half their joint length apart.
        apart = newer[0][row] * older_bars - older[0][row] * newer_bars
        trend[row] = newer[1][row] + older[1][row] + 0.5 * apart
    return total, trend
