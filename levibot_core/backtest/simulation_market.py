"""A market as the engine reads it: bars, forecasts and funding on one grid of times, checked once and shared by runs.

What the inputs mean, and which are refused, is specified in docs/backtest.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from levibot_core.backtest.simulation_funding import place_settlements
from levibot_core.backtest.simulation_kernel import DECIDED, FORECAST
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
        if candles.is_empty():
            raise DataQualityError("Expected candles to trade on, was none. Take a longer window.")
        symbols = tuple(sorted(candles["symbol"].unique()))
        times = candles["ts"].dt.epoch("ms").unique().sort().to_numpy()
        names = [name for name in (*_PRICES, "volume") if name in candles.columns]
        rows, columns, _ = _places(candles, symbols, times)
        has_bar = np.zeros((times.size, len(symbols)), dtype=np.bool_)
        has_bar[rows, columns] = True
        if int(has_bar.sum()) != candles.height:
            at = candles.filter(candles.select("symbol", "ts").is_duplicated()).row(0, named=True)
            raise DataQualityError(
                f"Expected one candle per symbol and time, was two of {at['symbol']} at {at['ts']:%Y-%m-%d %H:%M}."
            )
        series = {name: _grid(candles[name], rows, columns, has_bar.shape) for name in names}
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
        _check_grid(tuple(symbols), timeframe, times)
        given = {"open": open, "high": high, "low": low, "close": close, "prob_up": prob_up, "volume": volume}
        given |= {"volatility": volatility}
        series = {name: _shaped(name, values, shape) for name, values in given.items() if values is not None}
        there = np.ones(shape, dtype=np.bool_) if has_bar is None else _shaped("has_bar", has_bar, shape) != 0.0
        where = _Where(tuple(symbols), times, there)
        _check_series(series, where)
        last = _carried(series["close"], there)
        high = np.where(there, series.get("high", np.maximum(series["open"], series["close"])), last)
        low = np.where(there, series.get("low", np.minimum(series["open"], series["close"])), last)
        traded = np.full(shape, np.inf)
        if "volume" in series:
            traded = _carried(series["volume"] * (series["open"] + series["close"]) / 2.0, there)
        opened = np.where(there, series["open"], np.nan)
        settlement_bars, settlements = place_settlements(funding, tuple(symbols), timeframe, times, opened, last)
        volatilities = _volatilities(series.get("volatility"), last, there)
        # In the order of the constants in `simulation_kernel`.
        planes = np.stack([opened, high, low, last, traded, series["prob_up"], volatilities, _latest(there)])
        days = times // MILLISECONDS_PER_DAY
        arrays = MarketArrays(planes, _reach(high, low, last), days, settlement_bars, settlements)
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
            raise DataQualityError(f"Expected bars from {_utc(start_ms)} to {_utc(end_ms)}, was none.")
        arrays = self.arrays
        kept = slice(*np.searchsorted(arrays.funding_bars, (first, stop)))
        # A copy: the engine is compiled for arrays in one piece.
        planes = arrays.planes[:, first:stop].copy()
        planes[DECIDED] = np.maximum(planes[DECIDED] - first, -1.0)
        cut = MarketArrays(
            planes=planes,
            reach=arrays.reach[first:stop],
            days=arrays.days[first:stop],
            funding_bars=arrays.funding_bars[kept] - first,
            funding=arrays.funding[kept],
        )
        return replace(self, times_ms=self.times_ms[first:stop], arrays=cut)

    def believing(self, prob_up: float) -> "Market":
        """The same bars with one forecast for all of them."""
        planes = self.arrays.planes.copy()
        planes[FORECAST] = prob_up
        return replace(self, arrays=self.arrays._replace(planes=planes))


@dataclass(frozen=True, slots=True)
class _Where:
    """Which bars there are, to name them in messages."""

    symbols: tuple[str, ...]
    times_ms: npt.NDArray[np.int64]
    has_bar: BoolArray

    def refuse(self, wrong: BoolArray, words: str, *values: FloatArray) -> None:
        """Raise where something is wrong with a bar that is there, naming the first."""
        wrong = wrong & self.has_bar
        if not wrong.any():
            return
        row, column = (int(place) for place in np.argwhere(wrong)[0])
        shown = " and ".join(f"{series[row, column]:g}" for series in values)
        raise DataQualityError(
            f"Expected {words}, was {shown} of {self.symbols[column]} at {_utc(int(self.times_ms[row]))}. "
            "Check the data."
        )


def _check_grid(symbols: tuple[str, ...], timeframe: Timeframe, times: npt.NDArray[np.int64]) -> None:
    if not times.size or not symbols:
        raise DataQualityError("Expected bars of at least one symbol to trade on, was none. Take a longer window.")
    if list(symbols) != sorted(set(symbols)):
        raise DataQualityError(f"Expected symbols in order, each once, was {symbols}. Sort them, and their columns.")
    if times.size > 1 and int(np.diff(times).min()) < timeframe.milliseconds:
        raise DataQualityError(f"Expected rising times at least {timeframe} apart, was less. Sort the bars.")


def _check_series(series: Mapping[str, FloatArray], where: _Where) -> None:
    first, last = series["open"], series["close"]
    prices = [first, last]
    where.refuse(~_positive(first) | ~_positive(last), "positive prices", *prices)
    for name in ("high", "low"):
        if name in series:
            where.refuse(~_positive(series[name]), f"a positive {name}", series[name])
    if "high" in series:
        where.refuse(series["high"] < np.maximum(first, last), "a high at or above open and close", series["high"])
    if "low" in series:
        where.refuse(series["low"] > np.minimum(first, last), "a low at or below open and close", series["low"])
    for name in ("volume", "volatility"):
        if name in series:
            values = series[name]
            # A volatility may be missing: then that of the last bars stands in.
            missing = np.isnan(values) if name == "volatility" else np.zeros(values.shape, dtype=np.bool_)
            where.refuse(~missing & ~(np.isfinite(values) & (values >= 0.0)), f"a {name} of 0 or above", values)
    beliefs = series["prob_up"]
    where.refuse(~np.isnan(beliefs) & ~((beliefs >= 0.0) & (beliefs <= 1.0)), "a probability from 0 to 1", beliefs)


def _positive(values: FloatArray) -> BoolArray:
    return np.asarray(np.isfinite(values) & (values > 0.0))


def _shaped(name: str, values: npt.NDArray[np.generic], shape: tuple[int, int]) -> FloatArray:
    array = np.ascontiguousarray(values, dtype=np.float64)
    if array.shape != shape:
        raise DataQualityError(
            f"Expected {name} of shape {shape} (bars, symbols), was {array.shape}. Align it with the bars first."
        )
    return array


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
    if (keys := predictions.select("symbol", "ts")).is_duplicated().any():
        at = predictions.filter(keys.is_duplicated()).row(0, named=True)
        raise DataQualityError(
            f"Expected one prediction per symbol and time, was two of {at['symbol']} at {at['ts']:%Y-%m-%d %H:%M}."
        )
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


def _utc(milliseconds: int) -> str:
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M} UTC"
