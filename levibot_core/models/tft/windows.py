"""Windows over rows of bars: the last so many bars of one symbol, none of them missing.

A window ends at a row and holds that row and those before it, so nothing in it is later than the row. Polars is not
needed here: whoever has rows in a data frame hands over their columns (`.dataset`), and online a window comes whole
from the store (`FeatureHistory.matrix`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

import numpy as np

ROWS_AT_ONCE: Final = 256
"""Windows that are cut out and handed on together: an hour of bars of 250 features takes 120 kB each."""


@dataclass(frozen=True, slots=True)
class RowWindows:
    """The window that ends at each of n rows, where there is one.

    Attributes:
        values: Features of the rows in order of symbol and time, float64 (n, k).
        length: Bars of a window.
        complete: Whether a window ends at the row, bool (n,), in the order in which the rows were given.
        places: Where each given row stands in `values`, int64 (n,).
    """

    values: np.ndarray
    length: int
    complete: np.ndarray
    places: np.ndarray

    @classmethod
    def over(cls, values: np.ndarray, symbols: np.ndarray, ts_ms: np.ndarray, length: int, bar_ms: int) -> Self:
        """Windows over rows in any order, each symbol and time once.

        Args:
            values: Features, float64 (n, k).
            symbols: Symbol of each row, (n,), of any type that can be ordered.
            ts_ms: Open time of each row's bar, int64 (n,), milliseconds.
            length: Bars of a window, at least 1.
            bar_ms: Length of a bar, milliseconds: rows farther apart are not in one window.
        """
        order = np.lexsort((ts_ms, symbols))
        follows = np.zeros(order.size, dtype=bool)
        follows[1:] = (symbols[order][1:] == symbols[order][:-1]) & (np.diff(ts_ms[order]) == bar_ms)
        numbers = np.arange(order.size)
        begins = np.maximum.accumulate(np.where(follows, 0, numbers))
        places = np.empty_like(order)
        places[order] = numbers
        complete = (numbers - begins + 1 >= length)[places]
        return cls(np.ascontiguousarray(values[order]), length, complete, places)

    def at(self, rows: np.ndarray) -> np.ndarray:
        """The windows that end at these rows, float64 (len(rows), length, k), oldest bar first.

        Args:
            rows: Numbers of rows at which a window ends, int64, in the order in which the rows were given.
        """
        return np.asarray(self.values[self.bars_of(rows)])

    def apply(
        self, forecast: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, rows_at_once: int = ROWS_AT_ONCE
    ) -> np.ndarray:
        """What a function makes of the windows that end at these rows, float64 (len(rows),); NaN where there is none.

        Args:
            forecast: Windows as `at` gives them to one number each.
            rows: Numbers of rows, int64, in the order in which the rows were given.
            rows_at_once: Windows that are cut out at a time, which bounds the memory that it takes.
        """
        answers = np.full(len(rows), np.nan)
        usable = np.flatnonzero(self.complete[rows])
        for start in range(0, len(usable), rows_at_once):
            places = usable[start : start + rows_at_once]
            answers[places] = forecast(self.at(rows[places]))
        return answers

    def bars_of(self, rows: np.ndarray) -> np.ndarray:
        """Which rows of `values` make the windows that end at these rows, int64 (len(rows), length)."""
        return np.asarray(self.places[rows][:, np.newaxis] + np.arange(1 - self.length, 1))
