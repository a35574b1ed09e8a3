"""What kernels read: the series of one symbol on a regular grid, with NaN where a bar is missing.

The leading market is aligned on the same open times; funding is taken as it was known at the close of each bar. What
is computed from these series is in `kernels`; which rows come out, in `compute`.
"""

from bisect import insort
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from levibot_core.errors import DataQualityError, SchemaError
from levibot_core.features.elementary import MILLISECONDS_PER_HOUR, FloatArray, natural_log
from levibot_core.features.kernels import lagged
from levibot_core.market.timeframe import Timeframe

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Origin = Literal["own", "leader", "clock", "funding"]

NEVER_KNOWN = np.iinfo(np.int64).max
"""Stands in `known_from` where there is no bar."""

_PRICES = ("open", "high", "low", "close", "volume")
_CANDLE_COLUMNS = ("symbol", "ts", *_PRICES, "known_at")
_FUNDING_COLUMNS = ("symbol", "ts", "rate", "known_at")
_SETTLEMENTS = 3


@dataclass(frozen=True)
class Bars:
    """One symbol's bars on a regular grid of n open times.

    Attributes:
        symbol: Inside spelling.
        open_ms: Open times, UTC milliseconds, int64 (n,).
        step_ms: Length of a bar.
        raw: Raw series by name, float64 (n,).
        known_from: For the symbol's own bars and the leader's: when each bar became known, UTC milliseconds, int64
            (n,); `NEVER_KNOWN` where there is none.
    """

    symbol: str
    open_ms: IntArray
    step_ms: int
    raw: Mapping[str, FloatArray]
    known_from: Mapping[Origin, IntArray]
    _derived: dict[str, FloatArray] = field(default_factory=dict)
    _whole: dict[tuple[Origin, int], BoolArray] = field(default_factory=dict)

    def series(self, name: str) -> FloatArray:
        """A series of the catalogue `SERIES`, float64 (n,); derived once, then shared. Not to be written to."""
        if name in self.raw:
            return self.raw[name]
        if name not in self._derived:
            self._derived[name] = _DERIVATIONS[name](self)
        return self._derived[name]

    def exists(self, origin: Origin) -> BoolArray:
        """Where there is a bar of that origin. Shape (n,)."""
        return np.not_equal(self.known_from[origin], NEVER_KNOWN)

    def whole_windows(self, origin: Origin, bars: int) -> BoolArray:
        """Rows whose last `bars` bars of that origin all exist and were known at the row's decision time. Shape (n,).

        The decision time of a row is the close of its bar; a corrected bar is known only from its correction on.
        """
        if (origin, bars) not in self._whole:
            known_from = self.known_from[origin]
            exists = self.exists(origin)
            counts = np.concatenate([[0], np.cumsum(exists)])
            whole = np.zeros(exists.size, dtype=np.bool_)
            whole[bars - 1 :] = counts[bars:] - counts[: max(exists.size - bars + 1, 0)] == bars
            decision_ms = self.open_ms + self.step_ms
            for row in np.flatnonzero(exists & (known_from > decision_ms)).tolist():
                first_row_that_knows = int(np.searchsorted(decision_ms, known_from[row]))
                whole[row : min(first_row_that_knows, row + bars)] = False
            self._whole[origin, bars] = whole
        return self._whole[origin, bars]


@dataclass(frozen=True, slots=True)
class Series:
    """An entry of the catalogue of input series: where it comes from, and how many bars before its own it reaches."""

    origin: Origin
    reach: int
    description: str


SERIES: Mapping[str, Series] = {
    "open": Series("own", 0, "first price of the bar"),
    "high": Series("own", 0, "highest price of the bar"),
    "low": Series("own", 0, "lowest price of the bar"),
    "close": Series("own", 0, "last price of the bar"),
    "volume": Series("own", 0, "traded amount, base currency"),
    "log_close": Series("own", 0, "natural logarithm of the close"),
    "log_return": Series("own", 1, "change of log_close from the bar before"),
    "close_change": Series("own", 1, "change of the close from the bar before"),
    "true_range": Series("own", 1, "largest of high - low, |high - close before| and |low - close before|"),
    "log_range": Series("own", 0, "natural logarithm of high / low"),
    "open_time": Series("clock", 0, "open time of the bar, UTC milliseconds"),
    "leader_close": Series("leader", 0, "close of the leading market's bar at the same time"),
    "leader_log_close": Series("leader", 0, "natural logarithm of leader_close"),
    **{
        f"funding_{what}_{number}": Series(
            "funding", 0, f"{words} of the {number}. newest settlement known at the close"
        )
        for number in range(1, _SETTLEMENTS + 1)
        for what, words in (("rate", "rate"), ("age", "age in hours"))
    },
}


def _true_range(bars: Bars) -> FloatArray:
    high, low, before = bars.raw["high"], bars.raw["low"], lagged(bars.raw["close"], 1)
    return np.maximum(high - low, np.maximum(np.abs(high - before), np.abs(low - before)))


_DERIVATIONS: Mapping[str, Callable[[Bars], FloatArray]] = {
    "log_close": lambda bars: natural_log(bars.raw["close"]),
    "log_return": lambda bars: bars.series("log_close") - lagged(bars.series("log_close"), 1),
    "close_change": lambda bars: bars.raw["close"] - lagged(bars.raw["close"], 1),
    "true_range": _true_range,
    "log_range": lambda bars: natural_log(bars.raw["high"] / bars.raw["low"]),
    "leader_log_close": lambda bars: natural_log(bars.raw["leader_close"]),
}


def assemble(candles: pl.DataFrame, funding: pl.DataFrame, timeframe: Timeframe, leader: str) -> Iterator[Bars]:
    """Lay the candles of every symbol on one grid, from the first to the last bar of any of them.

    Args:
        candles: One row per symbol and open time, with symbol, ts, open, high, low, close, volume and known_at.
        funding: One row per symbol and settlement, with symbol, ts, rate and known_at; may be empty.
        timeframe: Length of a bar.
        leader: The symbol whose closes every symbol sees.

    Yields:
        The bars of each symbol of `candles`, in order of symbol.

    Raises:
        SchemaError: a column is missing, or two rows are the same bar or settlement.
        DataQualityError: an open time is not on the timeframe's grid.
    """
    _check(candles, _CANDLE_COLUMNS, "candles")
    _check(funding, _FUNDING_COLUMNS, "funding")
    if candles.is_empty():
        return
    opens = candles["ts"].dt.epoch("ms")
    if off_grid := int((opens % timeframe.milliseconds != 0).sum()):
        raise DataQualityError(
            f"Expected open times on the {timeframe} grid, was off it in {off_grid} candles. Fetch them anew."
        )
    first, last = int(opens.min()), int(opens.max())  # type: ignore[arg-type]
    grid = np.arange(first, last + 1, timeframe.milliseconds, dtype=np.int64)
    by_symbol = {symbol: rows for (symbol,), rows in candles.partition_by("symbol", as_dict=True).items()}
    settled = {symbol: rows for (symbol,), rows in funding.partition_by("symbol", as_dict=True).items()}
    leading, leader_known_from = _on_grid(by_symbol.get(leader, candles.clear()), grid, timeframe.milliseconds)
    for symbol in sorted(by_symbol):
        own, own_known_from = _on_grid(by_symbol[symbol], grid, timeframe.milliseconds)
        raw = {
            **own,
            "open_time": grid.astype(np.float64),
            "leader_close": leading["close"],
            **_funding_as_known(settled.get(symbol, funding.clear()), grid + timeframe.milliseconds),
        }
        known_from: dict[Origin, IntArray] = {"own": own_known_from, "leader": leader_known_from}
        yield Bars(symbol, grid, timeframe.milliseconds, raw, known_from)


def _check(frame: pl.DataFrame, columns: tuple[str, ...], what: str) -> None:
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise SchemaError(f"Expected {what} with columns {', '.join(columns)}, was without {', '.join(missing)}.")
    repeated = frame.height - frame.select("symbol", "ts").n_unique() if frame.height else 0
    if repeated:
        raise SchemaError(
            f"Expected one row per symbol and time in {what}, was {repeated} repeated. Read one revision per row."
        )


def _on_grid(rows: pl.DataFrame, grid: IntArray, step_ms: int) -> tuple[dict[str, FloatArray], IntArray]:
    """Prices and volume on the grid with NaN in gaps, and since when each bar is known."""
    positions = (rows["ts"].dt.epoch("ms").to_numpy() - grid[0]) // step_ms
    series = {}
    for name in _PRICES:
        series[name] = np.full(grid.size, np.nan)
        series[name][positions] = rows[name].to_numpy()
    known_from = np.full(grid.size, NEVER_KNOWN, dtype=np.int64)
    known_from[positions] = rows["known_at"].dt.epoch("ms").to_numpy()
    return series, known_from


def _funding_as_known(rows: pl.DataFrame, decision_ms: IntArray) -> dict[str, FloatArray]:
    """Rate and age (hours) of the newest settlements among those known at each decision time; NaN where none is."""
    events = rows.select(pl.col("known_at").dt.epoch("ms"), pl.col("ts").dt.epoch("ms"), "rate").sort("known_at", "ts")
    rate_of = dict(zip(events["ts"].to_list(), events["rate"].to_list(), strict=True))
    newest_after: list[list[int | None]] = [[None] * _SETTLEMENTS]
    known: list[int] = []
    for settled_ms in events["ts"].to_list():
        insort(known, settled_ms)
        newest = known[: -_SETTLEMENTS - 1 : -1]
        newest_after.append([*newest, *[None] * (_SETTLEMENTS - len(newest))])
    event = np.searchsorted(events["known_at"].to_numpy(), decision_ms, side="right")
    series = {}
    for number in range(_SETTLEMENTS):
        settlements = [newest[number] for newest in newest_after]
        rates = np.array([np.nan if ts is None else rate_of[ts] for ts in settlements], dtype=np.float64)
        times = np.array([np.nan if ts is None else ts for ts in settlements], dtype=np.float64)
        series[f"funding_rate_{number + 1}"] = rates[event]
        series[f"funding_age_{number + 1}"] = (decision_ms - times[event]) / MILLISECONDS_PER_HOUR
    return series
