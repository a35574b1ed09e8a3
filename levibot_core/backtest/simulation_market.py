"""A market as the engine reads it: bars, forecasts and funding on one grid of times, checked once and shared by runs.

What the inputs mean, and which are refused, is specified in docs/backtest.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from levibot_core.backtest.simulation_checks import (
    BarsThere,
    check_candles,
    check_forecasts,
    check_grid,
    check_series,
    shaped,
    utc_text,
)
from levibot_core.backtest.simulation_funding import place_settlements
from levibot_core.backtest.simulation_layout import DECIDED, FORECAST
from levibot_core.errors import DataQualityError
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY, Timeframe

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

VOLATILITY_BARS: Final = 48
"""A bar's volatility is that of so many returns, where none is given."""
_PRICES: Final = ("open", "high", "low", "close")


class MarketArrays(NamedTuple):
    """What the engine reads, shared by every configuration; see `simulation_kernel.run_account`."""

    planes: FloatArray
    whole: bool
    reach: FloatArray
    days: npt.NDArray[np.int64]
    funding_bars: npt.NDArray[np.int64]
    funding: FloatArray


@dataclass(frozen=True, slots=True)
class Market:
    """Bars of several symbols with forecasts, ready to be traded by any number of configurations.

    Attributes:
        symbols: Sorted, (symbols,).
        timeframe: Length of a bar.
        times_ms: Open times of the grid, rising, UTC milliseconds, int64 (bars,).
        arrays: What the engine reads.
        has_range: Whether high and low were given.
        has_volume: Whether the volume was given.
    """

    symbols: tuple[str, ...]
    timeframe: Timeframe
    times_ms: npt.NDArray[np.int64]
    arrays: MarketArrays
    has_range: bool
    has_volume: bool

    @classmethod
    def of(
        cls,
        candles: pl.DataFrame,
        predictions: pl.DataFrame,
        timeframe: Timeframe,
        funding: pl.DataFrame | None = None,
    ) -> "Market":
        """A market of tables.

        Args:
            candles: `symbol`, `ts` (open time, UTC), `open`, `close` and, where there are, `high`, `low`, `volume`
                (base currency); one row per symbol and bar.
            predictions: `symbol`, `ts` (open time of the bar at whose close it is known), `prob_up` and perhaps
                `volatility` (of one bar's return, fraction).
            timeframe: Length of a bar.
            funding: `symbol`, `ts` (settlement), `rate` and perhaps `mark_price`; None is no funding.

        Raises:
            DataQualityError: as docs/backtest.md lists.
        """
        check_candles(candles)
        symbols = tuple(sorted(candles["symbol"].unique()))
        times = candles["ts"].dt.epoch("ms").unique().sort().to_numpy()
        names = [name for name in (*_PRICES, "volume") if name in candles.columns]
        rows, columns, _ = _places(candles, symbols, times)
        has_bar = np.zeros((times.size, len(symbols)), dtype=np.bool_)
        has_bar[rows, columns] = True
        series = {name: _grid(candles[name], rows, columns, has_bar.shape) for name in names}
        check_forecasts(predictions, symbols, timeframe)
        series |= _forecasts(predictions, symbols, times)
        return cls.of_arrays(symbols, timeframe, times, has_bar=has_bar, **series, funding=funding)

    @classmethod
    def of_arrays(
        cls,
        symbols: Sequence[str],
        timeframe: Timeframe,
        times_ms: npt.NDArray[np.int64],
        *,
        open: FloatArray,  # noqa: A002 - the field's name
        close: FloatArray,
        prob_up: FloatArray,
        high: FloatArray | None = None,
        low: FloatArray | None = None,
        volume: FloatArray | None = None,
        volatility: FloatArray | None = None,
        has_bar: BoolArray | None = None,
        funding: pl.DataFrame | None = None,
    ) -> "Market":
        """A market of arrays, each of shape (bars, symbols).

        Args:
            symbols: Names, sorted: events of one instant happen in this order.
            timeframe: Length of a bar.
            times_ms: Open times, rising, UTC milliseconds, (bars,).
            open: First prices, quote currency.
            close: Last prices.
            prob_up: Forecasts known at the close of each bar; NaN is none.
            high: Highest prices; None where unknown.
            low: Lowest prices; None where unknown.
            volume: Base currency; None where unknown.
            volatility: Of one bar's return, known at its close, fraction; None or NaN takes what the last 48 bars say.
            has_bar: Where a symbol has a bar; None is everywhere.
            funding: As of `of`.

        Raises:
            DataQualityError: as docs/backtest.md lists.
        """
        times = np.ascontiguousarray(times_ms, dtype=np.int64)
        shape = (times.size, len(symbols))
        check_grid(tuple(symbols), timeframe, times)
        given = {"open": open, "high": high, "low": low, "close": close, "prob_up": prob_up, "volume": volume}
        given |= {"volatility": volatility}
        series = {name: shaped(name, values, shape) for name, values in given.items() if values is not None}
        there = np.ones(shape, dtype=np.bool_) if has_bar is None else shaped("has_bar", has_bar, shape) != 0.0
        where = BarsThere(tuple(symbols), times, there)
        check_series(series, where)
        last = _carried(series["close"], there)
        high = np.where(there, series.get("high", np.maximum(series["open"], series["close"])), last)
        low = np.where(there, series.get("low", np.minimum(series["open"], series["close"])), last)
        traded = np.full(shape, np.inf)
        if "volume" in series:
            traded = _carried(series["volume"] * (series["open"] + series["close"]) / 2.0, there)
        opened = np.where(there, series["open"], np.nan)
        settlement_bars, settlements = place_settlements(funding, tuple(symbols), timeframe, times, opened, last)
        volatilities = _volatilities(series.get("volatility"), last, there)
        # In the order of the constants in `simulation_layout`.
        planes = np.stack([opened, high, low, last, traded, series["prob_up"], volatilities, _latest(there)])
        days = times // MILLISECONDS_PER_DAY
        arrays = MarketArrays(planes, bool(there.all()), _reach(high, low, last), days, settlement_bars, settlements)
        return cls(tuple(symbols), timeframe, times, arrays, "high" in series and "low" in series, "volume" in series)

    @property
    def end_ms(self) -> int:
        """Close of the last bar, UTC milliseconds."""
        return int(self.times_ms[-1]) + self.timeframe.milliseconds

    def between(self, start_ms: int, end_ms: int) -> "Market":
        """The bars that open from `start_ms` on and before `end_ms`, UTC milliseconds.

        Raises:
            DataQualityError: there is no bar between.
        """
        first, stop = (int(place) for place in np.searchsorted(self.times_ms, (start_ms, end_ms)))
        if first >= stop:
            raise DataQualityError(f"Expected bars from {utc_text(start_ms)} to {utc_text(end_ms)}, was none.")
        arrays = self.arrays
        kept = slice(*np.searchsorted(arrays.funding_bars, (first, stop)))
        # A copy: the engine is compiled for arrays in one piece.
        planes = arrays.planes[:, first:stop].copy()
        planes[DECIDED] = np.maximum(planes[DECIDED] - first, -1.0)
        cut = MarketArrays(
            planes=planes,
            whole=bool((planes[DECIDED] == np.arange(stop - first)[:, None]).all()),
            reach=arrays.reach[first:stop],
            days=arrays.days[first:stop],
            funding_bars=arrays.funding_bars[kept] - first,
            funding=arrays.funding[kept],
        )
        return replace(self, times_ms=self.times_ms[first:stop], arrays=cut)

    def places(self, frame: pl.DataFrame, column: str) -> FloatArray:
        """A column of a table of `symbol` and `ts` (open time) on this grid, (bars, symbols); NaN where it has none."""
        rows, columns, inside = _places(frame, self.symbols, self.times_ms)
        return _grid(frame[column].filter(pl.Series(inside)), rows, columns, (self.times_ms.size, len(self.symbols)))

    def believing(self, prob_up: float | FloatArray) -> "Market":
        """The same bars with other forecasts: one for all of them, or (bars, symbols), NaN where there is none."""
        planes = self.arrays.planes.copy()
        planes[FORECAST] = prob_up
        return replace(self, arrays=self.arrays._replace(planes=planes))

    def without_funding(self) -> "Market":
        """The same bars where holding a position costs nothing."""
        arrays = self.arrays._replace(
            funding_bars=np.zeros(0, dtype=np.int64), funding=np.zeros((0, 2, len(self.symbols)))
        )
        return replace(self, arrays=arrays)


def _places(
    frame: pl.DataFrame, symbols: tuple[str, ...], times: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], BoolArray]:
    """Row and column of each entry on the grid, and which entries are on it; the others are left out."""
    entries = frame["ts"].dt.epoch("ms").to_numpy()
    rows = np.minimum(np.searchsorted(times, entries), times.size - 1)
    columns = frame["symbol"].replace_strict(list(symbols), range(len(symbols)), default=-1).to_numpy()
    inside = (times[rows] == entries) & (columns >= 0)
    return rows[inside], columns[inside], inside


def _forecasts(
    predictions: pl.DataFrame, symbols: tuple[str, ...], times: npt.NDArray[np.int64]
) -> dict[str, FloatArray]:
    shape = (times.size, len(symbols))
    rows, columns, inside = _places(predictions, symbols, times)
    return {
        name: _grid(predictions[name].filter(pl.Series(inside)), rows, columns, shape)
        for name in ("prob_up", "volatility")
        if name in predictions.columns
    }


def _grid(
    values: pl.Series, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64], shape: tuple[int, int]
) -> FloatArray:
    grid = np.full(shape, np.nan)
    grid[rows, columns] = values.cast(pl.Float64).to_numpy()
    return grid


def _carried(values: FloatArray, there: BoolArray) -> FloatArray:
    """Each bar's value, that of the bar before where there is none, 0 before the first."""
    if there.all():
        return values
    latest = _latest(there)
    return np.where(latest >= 0, np.take_along_axis(values, np.maximum(latest, 0), axis=0), 0.0)


def _latest(there: BoolArray) -> npt.NDArray[np.int64]:
    """The latest bar so far, -1 before the first."""
    return np.asarray(np.maximum.accumulate(np.where(there, np.arange(there.shape[0])[:, None], -1), axis=0))


def _reach(high: FloatArray, low: FloatArray, last: FloatArray) -> FloatArray:
    seen = last > 0.0
    safe = np.where(seen, last, 1.0)
    return np.asarray(np.where(seen, np.maximum(high / safe - 1.0, 1.0 - low / safe), 0.0).max(axis=1))


def _volatilities(given: FloatArray | None, last: FloatArray, there: BoolArray) -> FloatArray:
    """What was given, and elsewhere the root of the mean squared log return of the symbol's last bars."""
    realised = np.zeros(there.shape)
    for column in range(there.shape[1]):
        bars = np.flatnonzero(there[:, column])
        squares = np.diff(np.log(last[bars, column])) ** 2
        sums = np.concatenate([[0.0], np.cumsum(squares)])
        ends = np.arange(bars.size)
        starts = np.maximum(ends - VOLATILITY_BARS, 0)
        means = (sums[ends] - sums[starts]) / np.maximum(ends - starts, 1)
        realised[bars, column] = np.sqrt(means)
    known = realised if given is None else np.where(np.isnan(given), realised, given)
    return _carried(known, there)
