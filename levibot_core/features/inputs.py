"""What kernels read: the series of one or more symbols on a regular grid, with NaN where a bar is missing.

The leading market is aligned on the same open times; what is published now and then (funding, the fear and greed
index) is taken as it was known at the close of each bar. Higher timeframes are made here of closed bars. What is
computed from these series is in `kernels`; which rows come out, in `compute`; which revision of a bar counts, in
`knowledge`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from levibot_core.errors import DataQualityError, SchemaError
from levibot_core.features.elementary import natural_log
from levibot_core.features.folds import FloatArray, window_sum
from levibot_core.features.published import (
    FEAR_GREED_DAYS,
    NOTHING_PUBLISHED,
    SETTLEMENTS,
    fear_greed_as_known,
    funding_as_known,
    settlements_by_symbol,
)
from levibot_core.features.series import WindowedSeries
from levibot_core.market.timeframe import Timeframe

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Origin = Literal["own", "leader", "clock", "funding", "fear_greed"]

_Number = TypeVar("_Number", np.float64, np.int64)
_Candles = Mapping[str, npt.NDArray[Any]]

NEVER_KNOWN = np.iinfo(np.int64).max
"""Stands in `known_from` where there is no bar."""

_PRICES = ("open", "high", "low", "close", "volume")
_CANDLE_COLUMNS = ("symbol", "ts", *_PRICES, "known_at")
_NO_CANDLES: _Candles = {
    **dict.fromkeys(("ts", "known_at"), np.empty(0, dtype=np.int64)),
    **dict.fromkeys(_PRICES, np.empty(0)),
}
_FUNDING_COLUMNS = ("symbol", "ts", "rate", "known_at")


@dataclass(frozen=True)
class Bars:
    """The bars of k symbols, side by side, on a regular grid of n open times.

    Attributes:
        symbols: Inside spelling.
        open_ms: Open times, UTC milliseconds, int64 (n,).
        step_ms: Length of a bar.
        raw: Raw series by name, float64 (n, k).
        known_from: For the symbols' own bars and the leader's: when each bar became known, UTC milliseconds, int64
            (n, k); `NEVER_KNOWN` where there is none.
    """

    symbols: tuple[str, ...]
    open_ms: IntArray
    step_ms: int
    raw: Mapping[str, FloatArray]
    known_from: Mapping[Origin, IntArray]
    _derived: dict[str, FloatArray] = field(default_factory=dict)
    _whole: dict[frozenset[Origin], FloatArray] = field(default_factory=dict)
    _higher: dict[int, "HigherBars"] = field(default_factory=dict)

    def series(self, name: str) -> FloatArray:
        """A series of the catalogue `SERIES`, float64 (n, k); derived once, then shared. Not to be written to."""
        if name in self.raw:
            return self.raw[name]
        if name not in self._derived:
            self._derived[name] = _DERIVATIONS[name](self)
        return self._derived[name]

    def exists(self, origin: Origin) -> BoolArray:
        """Where there is a bar of that origin. Shape (n, k)."""
        return np.not_equal(self.known_from[origin], NEVER_KNOWN)

    def whole_bars(self, origins: frozenset[Origin]) -> FloatArray:
        """How many bars, each row's own and those before, all exist and were known at the row's decision time.

        The decision time of a row is the close of its bar. A window is whole where its length is at most this.
        Origins without bars of their own do not count. Shape (n, k).
        """
        if origins not in self._whole:
            counts = [self._whole_bars(origin) for origin in origins if origin in self.known_from]
            self._whole[origins] = np.minimum.reduce(counts) if counts else np.full(self.shape, np.inf)
        return self._whole[origins]

    @property
    def shape(self) -> tuple[int, int]:
        """Bars and symbols."""
        return self.open_ms.size, len(self.symbols)

    def _whole_bars(self, origin: Origin) -> FloatArray:
        rows = np.arange(self.open_ms.size)[:, np.newaxis]
        newest_unknown = np.maximum.accumulate(np.where(self.exists(origin), -1, rows))
        for row, market, first_row_that_knows in self.late(origin):
            until_known = newest_unknown[row:first_row_that_knows, market]
            np.maximum(until_known, row, out=until_known)
        return (rows - newest_unknown).astype(np.float64)

    def late(self, origin: Origin) -> Iterator[tuple[int, int, int]]:
        """Bars that became known after their own row's decision time: row, market, and the first row that knows it."""
        known_from = self.known_from[origin]
        decision_ms = self.open_ms + self.step_ms
        for row, market in np.argwhere(self.exists(origin) & (known_from > decision_ms[:, np.newaxis])).tolist():
            yield row, market, int(np.searchsorted(decision_ms, known_from[row, market]))

    def at(self, step_ms: int) -> "HigherBars":
        """The same market in longer bars, each made of closed bars only."""
        if step_ms not in self._higher:
            self._higher[step_ms] = _higher_bars(self, step_ms)
        return self._higher[step_ms]


@dataclass(frozen=True, slots=True)
class HigherBars:
    """A symbol's bars at a higher timeframe, and where each row of the base bars looks.

    Attributes:
        bars: The longer bars; only the symbols' own prices.
        newest_closed: For every row the number of the newest longer bar that was closed at its decision time; int64
            (n,), -1 where there is none.
        whole_bars: How many longer bars, that one and those before, were known whole at the row's decision time;
            float64 (n, k).
    """

    bars: Bars
    newest_closed: IntArray
    whole_bars: FloatArray


class BarsChunk:
    """Rows [begin, end) of bars, as kernels see them: series with their window statistics."""

    def __init__(self, bars: Bars, begin: int, end: int) -> None:
        self.bars = bars
        self.begin = begin
        self.end = end
        self._series: dict[str, WindowedSeries] = {}

    def series(self, name: str) -> WindowedSeries:
        """A series of the catalogue `SERIES`, made once."""
        if name not in self._series:
            self._series[name] = WindowedSeries(self.bars.series(name), self.begin, self.end)
        return self._series[name]


@dataclass(frozen=True, slots=True)
class Series:
    """An entry of the catalogue of input series: where it comes from, and how many bars before its own it reaches."""

    origins: frozenset[Origin]
    reach: int
    description: str


def _own(reach: int, description: str) -> Series:
    return Series(frozenset({"own"}), reach, description)


def _leader(reach: int, description: str) -> Series:
    return Series(frozenset({"leader"}), reach, description)


SERIES: Mapping[str, Series] = {
    "open": _own(0, "first price of the bar"),
    "high": _own(0, "highest price of the bar"),
    "low": _own(0, "lowest price of the bar"),
    "close": _own(0, "last price of the bar"),
    "volume": _own(0, "traded amount, base currency"),
    "typical_price": _own(0, "mean of high, low and close"),
    "traded_value": _own(0, "typical_price times volume"),
    "log_close": _own(0, "natural logarithm of the close"),
    "log_return": _own(1, "change of log_close from the bar before"),
    "close_change": _own(1, "change of the close from the bar before"),
    "absolute_change": _own(1, "size of close_change"),
    "direction": _own(1, "1 where the close rose, -1 where it fell, 0 where it stayed"),
    "signed_volume": _own(1, "direction times volume"),
    "move_volume": _own(1, "size of log_return times volume"),
    "log_volume": _own(0, "natural logarithm of 1 + volume"),
    "log_volume_change": _own(1, "change of log_volume from the bar before"),
    "volume_change": _own(1, "change of the volume from the bar before"),
    "true_range": _own(1, "largest of high - low, |high - close before| and |low - close before|"),
    "log_range": _own(0, "natural logarithm of high / low"),
    "open_time": Series(frozenset({"clock"}), 0, "open time of the bar, UTC milliseconds"),
    "leader_close": _leader(0, "close of the leading market's bar at the same time"),
    "leader_log_close": _leader(0, "natural logarithm of leader_close"),
    "leader_log_return": _leader(1, "change of leader_log_close from the bar before"),
    "leader_log_ratio": Series(frozenset({"own", "leader"}), 0, "log_close minus leader_log_close"),
    **{
        f"funding_{what}_{number}": Series(
            frozenset({"funding"}), 0, f"{words} of the {which} settlement known at the close"
        )
        for number, which in zip(range(1, SETTLEMENTS + 1), ("newest", "second newest", "third newest"), strict=True)
        for what, words in (("rate", "rate"), ("age", "age in hours, at the close,"))
    },
    **{
        f"fear_greed_{before + 1}": Series(
            frozenset({"fear_greed"}),
            0,
            f"index, 0 to 1, {days} the newest day known at the close",
        )
        for before, days in enumerate(["of", "1 day before", *(f"{n} days before" for n in range(2, FEAR_GREED_DAYS))])
    },
    "fear_greed_age": Series(
        frozenset({"fear_greed"}), 0, "hours from the end of the newest day known at the close to that close"
    ),
}

OF_HIGHER_TIMEFRAMES = frozenset(name for name, series in SERIES.items() if series.origins == {"own"})
"""Series that exist at higher timeframes."""


@cache
def origins_of(inputs: tuple[str, ...]) -> frozenset[Origin]:
    """Where these series come from, taken together."""
    return frozenset[Origin]().union(*(SERIES[name].origins for name in inputs))


def _change(values: FloatArray) -> FloatArray:
    changed = np.full(values.shape, np.nan)
    np.subtract(values[1:], values[:-1], out=changed[1:])
    return changed


def _true_range(bars: Bars) -> FloatArray:
    high, low = bars.raw["high"], bars.raw["low"]
    before = np.full(bars.shape, np.nan)
    before[1:] = bars.raw["close"][:-1]
    largest: FloatArray = np.maximum(high - low, np.maximum(np.abs(high - before), np.abs(low - before)))
    return largest


_DERIVATIONS: Mapping[str, Callable[[Bars], FloatArray]] = {
    "typical_price": lambda bars: (bars.raw["high"] + bars.raw["low"] + bars.raw["close"]) / 3.0,
    "traded_value": lambda bars: bars.series("typical_price") * bars.raw["volume"],
    "log_close": lambda bars: natural_log(bars.raw["close"]),
    "log_return": lambda bars: _change(bars.series("log_close")),
    "close_change": lambda bars: _change(bars.raw["close"]),
    "absolute_change": lambda bars: np.abs(bars.series("close_change")),
    "direction": lambda bars: np.sign(bars.series("close_change")),
    "signed_volume": lambda bars: bars.series("direction") * bars.raw["volume"],
    "move_volume": lambda bars: np.abs(bars.series("log_return")) * bars.raw["volume"],
    "log_volume": lambda bars: natural_log(bars.raw["volume"] + 1.0),
    "log_volume_change": lambda bars: _change(bars.series("log_volume")),
    "volume_change": lambda bars: _change(bars.raw["volume"]),
    "true_range": _true_range,
    "log_range": lambda bars: natural_log(bars.raw["high"] / bars.raw["low"]),
    "leader_log_close": lambda bars: natural_log(bars.raw["leader_close"]),
    "leader_log_return": lambda bars: _change(bars.series("leader_log_close")),
    "leader_log_ratio": lambda bars: bars.series("log_close") - bars.series("leader_log_close"),
}


def assemble(
    candles: pl.DataFrame,
    funding: pl.DataFrame,
    fear_greed: pl.DataFrame | None,
    timeframe: Timeframe,
    leader: str,
    *,
    lead_in: int,
    start_ms: int | None = None,
    end_ms: int | None = None,
    side_by_side_up_to: int = 0,
) -> Iterator[Bars]:
    """Lay the candles of every symbol on one grid, from the first to the last bar of any of them.

    Args:
        candles: One row per symbol and open time, with symbol, ts, open, high, low, close, volume and known_at.
        funding: Settlements, all revisions, with symbol, ts, rate and known_at; may be empty.
        fear_greed: Days of the index, all revisions, with ts, value and known_at; None is the same as empty.
        timeframe: Length of a bar.
        leader: The symbol whose closes every symbol sees.
        lead_in: Bars of the grid before the first row that is wanted, whether there are candles of them or not.
        start_ms: First open time that is wanted, UTC milliseconds; None is the first there is.
        end_ms: Open time from which nothing is wanted; None wants all.
        side_by_side_up_to: All symbols come side by side where no more rows than this are wanted: then the calls are
            what costs, not the numbers.

    Yields:
        The bars of the symbols of `candles`, in order of symbol: each alone, or all of them side by side.

    Raises:
        SchemaError: a column is missing, or two rows are the same bar.
        DataQualityError: an open time is not on the timeframe's grid.
    """
    step = timeframe.milliseconds
    _check(candles, _CANDLE_COLUMNS, "candles")
    _check(funding, _FUNDING_COLUMNS, "funding")
    if candles.is_empty():
        return
    opens = candles["ts"].dt.epoch("ms")
    if off_grid := int((opens % step != 0).sum()):
        raise DataQualityError(
            f"Expected open times on the {timeframe} grid, was off it in {off_grid} candles. Fetch them anew."
        )
    first, last = int(opens.min()), int(opens.max())  # type: ignore[arg-type]
    first = first if start_ms is None else max(first, start_ms - start_ms % -step)
    last = last if end_ms is None else min(last, end_ms - 1)
    if last < first:
        return
    grid = np.arange(first - lead_in * step, last + 1, step, dtype=np.int64)
    by_symbol = _by_symbol(candles)
    settled = settlements_by_symbol(funding)
    decision_ms = grid + step
    leading, leader_known_from = _on_grid(by_symbol.get(leader, _NO_CANDLES), grid, step)
    shared = {
        "open_time": grid.astype(np.float64),
        "leader_close": leading["close"],
        **fear_greed_as_known(fear_greed, decision_ms),
    }
    markets = []
    for symbol in sorted(by_symbol):
        own, own_known_from = _on_grid(by_symbol[symbol], grid, step)
        raw = {**own, **funding_as_known(settled.get(symbol, NOTHING_PUBLISHED), decision_ms), **shared}
        markets.append((symbol, raw, own_known_from))
        if grid.size - lead_in > side_by_side_up_to:
            yield _side_by_side(markets, grid, step, leader_known_from)
            markets = []
    if markets:
        yield _side_by_side(markets, grid, step, leader_known_from)


def _side_by_side(
    markets: Sequence[tuple[str, Mapping[str, FloatArray], IntArray]],
    grid: IntArray,
    step_ms: int,
    leader_known_from: IntArray,
) -> Bars:
    symbols, raws, own_known_from = zip(*markets, strict=True)
    raw = {name: _columns([series[name] for series in raws]) for name in raws[0]}
    known_from: dict[Origin, IntArray] = {
        "own": _columns(own_known_from),
        "leader": _columns([leader_known_from] * len(symbols)),
    }
    return Bars(symbols, grid, step_ms, raw, known_from)


def _columns(markets: Sequence[npt.NDArray[_Number]]) -> npt.NDArray[_Number]:
    """Arrays (n,) side by side, (n, k); one alone is not copied."""
    return markets[0][:, np.newaxis] if len(markets) == 1 else np.stack(markets, axis=1)


def _check(frame: pl.DataFrame, columns: tuple[str, ...], what: str) -> None:
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise SchemaError(f"Expected {what} with columns {', '.join(columns)}, was without {', '.join(missing)}.")


def _by_symbol(candles: pl.DataFrame) -> dict[str, _Candles]:
    """Times (UTC milliseconds), prices and volume of each symbol."""
    times = [pl.col(name).dt.epoch("ms") for name in ("ts", "known_at")]
    needed = candles.select("symbol", *times, *_PRICES)
    if not needed["symbol"].is_sorted():
        needed = needed.sort("symbol", maintain_order=True)
    columns = {name: needed[name].to_numpy() for name in needed.columns[1:]}
    runs = needed["symbol"].rle().struct.unnest()
    ends = runs["len"].cum_sum().to_list()
    return {
        symbol: {name: values[end - length : end] for name, values in columns.items()}
        for symbol, length, end in zip(runs["value"].to_list(), runs["len"].to_list(), ends, strict=True)
    }


def _on_grid(candles: _Candles, grid: IntArray, step_ms: int) -> tuple[dict[str, FloatArray], IntArray]:
    """Prices and volume on the grid with NaN in gaps, and since when each bar is known."""
    positions = (candles["ts"] - grid[0]) // step_ms
    inside = (positions >= 0) & (positions < grid.size)
    positions = positions[inside]
    series = {}
    for name in _PRICES:
        series[name] = np.full(grid.size, np.nan)
        series[name][positions] = candles[name][inside]
    known_from = np.full(grid.size, NEVER_KNOWN, dtype=np.int64)
    known_from[positions] = candles["known_at"][inside]
    if repeated := positions.size - np.count_nonzero(known_from != NEVER_KNOWN):
        raise SchemaError(
            f"Expected one row per symbol and open time in candles, was {repeated} repeated. Read one revision per "
            "row, or all of them with the column revision."
        )
    return series, known_from


def _higher_bars(bars: Bars, step_ms: int) -> HigherBars:
    """Longer bars on the clock's grid; one that lacks a base bar is missing."""
    ratio = step_ms // bars.step_ms
    begin = int(-bars.open_ms[0] % step_ms) // bars.step_ms
    count = max((bars.open_ms.size - begin) // ratio, 0)
    covered = slice(begin, begin + count * ratio)
    parts = {name: bars.raw[name][covered].reshape(count, ratio, -1) for name in ("open", "high", "low", "close")}
    volume = bars.raw["volume"][covered]
    raw = {
        "open": parts["open"][:, 0].copy(),
        "high": parts["high"].max(axis=1),
        "low": parts["low"].min(axis=1),
        "close": parts["close"][:, -1].copy(),
        "volume": window_sum(volume, ratio)[::ratio].copy() if count else volume,
    }
    exists = bars.exists("own")[covered].reshape(count, ratio, -1).all(axis=1)
    open_ms = bars.open_ms[covered][::ratio]
    known_from = np.where(exists, open_ms[:, np.newaxis] + step_ms, NEVER_KNOWN)
    newest_closed = np.maximum((np.arange(bars.open_ms.size) + 1 - begin) // ratio - 1, -1)
    missing = np.where(exists, -1, np.arange(count)[:, np.newaxis])
    newest_unknown = np.maximum.accumulate(missing)[newest_closed]
    for row, market, first_row_that_knows in bars.late("own"):
        number = (row - begin) // ratio
        until_known = newest_unknown[begin + (number + 1) * ratio - 1 : first_row_that_knows, market]
        np.maximum(until_known, number, out=until_known)
    whole_bars = (newest_closed[:, np.newaxis] - newest_unknown).astype(np.float64)
    return HigherBars(Bars(bars.symbols, open_ms, step_ms, raw, {"own": known_from}), newest_closed, whole_bars)
