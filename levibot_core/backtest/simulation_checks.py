"""What a market of a backtest may not hold: each refusal names the symbol and the time. Listed in docs/backtest.md."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import polars as pl

from levibot_core.errors import DataQualityError
from levibot_core.market.timeframe import Timeframe

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class BarsThere:
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
            f"Expected {words}, was {shown} of {self.symbols[column]} at {utc_text(int(self.times_ms[row]))}. "
            "Check the data."
        )


def check_grid(symbols: tuple[str, ...], timeframe: Timeframe, times: npt.NDArray[np.int64]) -> None:
    """Refuse a grid without bars, or whose symbols or open times (UTC milliseconds, (bars,)) are not in order.

    Raises:
        DataQualityError: so it is.
    """
    if not times.size or not symbols:
        raise DataQualityError("Expected bars of at least one symbol to trade on, was none. Take a longer window.")
    if list(symbols) != sorted(set(symbols)):
        raise DataQualityError(f"Expected symbols in order, each once, was {symbols}. Sort them, and their columns.")
    if times.size > 1 and int(np.diff(times).min()) < timeframe.milliseconds:
        raise DataQualityError(f"Expected rising times at least {timeframe} apart, was less. Sort the bars.")


def check_series(series: Mapping[str, FloatArray], where: BarsThere) -> None:
    """Refuse prices, volumes, volatilities and probabilities that are none; each of shape (bars, symbols).

    Raises:
        DataQualityError: so it is.
    """
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


def check_forecasts(predictions: pl.DataFrame, symbols: tuple[str, ...], timeframe: Timeframe) -> None:
    """Refuse forecasts that would be left out in silence: all of other symbols, or at times that no candle can have.

    Raises:
        DataQualityError: a symbol and time is there twice or lies between two opens, or no symbol has candles.
    """
    _check_named(predictions, "prediction")
    keys = predictions.select("symbol", "ts")
    if (twice := keys.is_duplicated()).any():
        raise DataQualityError(f"Expected one prediction per symbol and time, was two of {_first(predictions, twice)}.")
    forecast = keys["symbol"].unique().sort().to_list()
    if forecast and not set(forecast) & set(symbols):
        raise DataQualityError(
            f"Expected forecasts of {', '.join(symbols)}, whose candles there are, was none: they are of "
            f"{', '.join(forecast)}. Spell both alike."
        )
    between = predictions["ts"].dt.epoch("ms") % timeframe.milliseconds != 0
    if between.any():
        raise DataQualityError(
            f"Expected predictions at the opens of {timeframe} bars, was {_first(predictions, between)}. "
            "Give each the open time of the bar at whose close it is known."
        )


def check_candles(candles: pl.DataFrame) -> None:
    """Refuse candles that are none, or there twice.

    Raises:
        DataQualityError: so it is.
    """
    if candles.is_empty():
        raise DataQualityError("Expected candles to trade on, was none. Take a longer window.")
    _check_named(candles, "candle")
    if (twice := candles.select("symbol", "ts").is_duplicated()).any():
        raise DataQualityError(f"Expected one candle per symbol and time, was two of {_first(candles, twice)}.")


def _check_named(frame: pl.DataFrame, what: str) -> None:
    if (nameless := frame["symbol"].is_null() | frame["ts"].is_null()).any():
        raise DataQualityError(
            f"Expected a symbol and a time of every {what}, was none of {int(nameless.sum())}. Check the data."
        )


def _first(frame: pl.DataFrame, those: pl.Series) -> str:
    at = frame.filter(those).row(0, named=True)
    return f"{at['symbol']} at {at['ts']:%Y-%m-%d %H:%M:%S}"


def _positive(values: FloatArray) -> BoolArray:
    return np.asarray(np.isfinite(values) & (values > 0.0))


def shaped(name: str, values: npt.NDArray[np.generic], shape: tuple[int, int]) -> FloatArray:
    """The values as float64 in one piece.

    Raises:
        DataQualityError: they are of another shape.
    """
    array = np.ascontiguousarray(values, dtype=np.float64)
    if array.shape != shape:
        raise DataQualityError(
            f"Expected {name} of shape {shape} (bars, symbols), was {array.shape}. Align it with the bars first."
        )
    return array


def utc_text(milliseconds: int) -> str:
    """An instant for people."""
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M} UTC"
