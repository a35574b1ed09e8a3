"""Markets of recorded candles in which nothing can be forecast: their bars are real, their direction or order is not.

Two ways to destroy what a model could find:

* `sign`: whole days are drawn with replacement, all symbols together (a block bootstrap, H. R. Kuensch, "The jackknife
  and the bootstrap for general stationary observations", 1989), and every bar is mirrored or not by a coin. Sizes keep
  their rhythm and their clusters, symbols their company; a rise is as likely as a fall whatever came before.
* `order`: single bars are drawn with replacement, all symbols together. Every bar is as it was, skew and jumps
  included; none knows of the one before.

What was published beside the candles (funding, fear and greed) is drawn anew, each value by itself, so it tells nothing
either. Days with a missing bar are not drawn from. Simulated markets are in `levibot_core.market.simulator`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import polars as pl

from levibot_core.errors import DataQualityError
from levibot_core.market.sources import MarketSource
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY, Timeframe
from levibot_core.schemas import TIMESTAMP
from levibot_core.stores.files import write_atomically

Destruction = Literal["sign", "order"]

LEAST_DAYS: Final = 30
"""Fewer days to draw from would come again and again, and could be learnt by heart."""
_FUNDING_EVERY_MS = 8 * 3_600_000
_HIGH, _LOW, _CLOSE, _TURNOVER = range(4)


@dataclass(frozen=True, slots=True)
class Recordings:
    """Tables with the columns of recorded files, UTC; funding and the index may be empty.

    Attributes:
        candles: ts, symbol, open, high, low, close, volume.
        funding: ts, symbol, funding_rate.
        fear_greed: date, value, classification.
    """

    candles: pl.DataFrame
    funding: pl.DataFrame
    fear_greed: pl.DataFrame

    def write(self, folder: Path, market: str, timeframe: Timeframe) -> None:
        """Write what is not empty as a recorded source finds it; the folder is made."""
        for name, table in (
            (f"candles_{timeframe}_{market}", self.candles),
            ("funding_perp", self.funding),
            ("fear_greed", self.fear_greed),
        ):
            if not table.is_empty():
                write_atomically(folder / f"{name}.parquet", table.write_parquet)


def read_recordings(source: MarketSource, symbols: Sequence[str], market: str, timeframe: Timeframe) -> Recordings:
    """Everything a source has of some symbols.

    Raises:
        UnknownSymbolError, MarketDataUnavailableError, DataQualityError: as the source.
    """
    ends = [source.latest_close_ms(symbol, market, timeframe) for symbol in symbols]
    bars = pl.concat(
        source.candles(symbol, market, timeframe, 0, end) for symbol, end in zip(symbols, ends, strict=True)
    )
    funding = pl.concat(source.funding_rates(symbol, 0, max(ends)) for symbol in symbols)
    index = source.fear_greed(0, max(ends))
    return Recordings(
        bars.select("ts", "symbol", "open", "high", "low", "close", "volume"),
        funding.select("ts", "symbol", funding_rate="rate"),
        index.select(date=pl.col("ts").dt.date(), value="value", classification="classification"),
    )


def destroyed(
    recorded: Recordings, what: Destruction, timeframe: Timeframe, start_ms: int, days: int, seed: int
) -> Recordings:
    """A market of that many days, drawn from recorded ones.

    Args:
        recorded: What is drawn from; of every symbol, the same days count.
        what: What is destroyed.
        timeframe: Length of a bar.
        start_ms: Open time of the first bar, UTC milliseconds, a midnight.
        days: Its length.
        seed: Another seed is another market.

    Raises:
        DataQualityError: there are fewer than 30 days that every symbol has whole.
    """
    generator = np.random.default_rng([seed, days, ("sign", "order").index(what)])
    symbols, bars = _whole_days(recorded.candles, timeframe)
    drawn, flipped = _draw(bars, what, days, generator)
    high, low, close, turnover = (drawn[:, :, part] for part in (_HIGH, _LOW, _CLOSE, _TURNOVER))
    up, down = np.where(flipped, -low, high), np.where(flipped, -high, low)
    moves = np.where(flipped, -close, close)
    first = recorded.candles.sort("ts").group_by("symbol").last()
    log_close = np.log(_of(first, symbols)) + np.cumsum(moves, axis=0)
    log_open = log_close - moves
    log_open[1:] = log_close[:-1]
    opens, closes = np.exp(log_open), np.exp(log_close)
    step, count = timeframe.milliseconds, len(drawn)
    times = start_ms + step * np.arange(count, dtype=np.int64)
    candles = pl.concat(
        pl.DataFrame(
            {
                "ts": pl.Series(times).cast(TIMESTAMP),
                "symbol": pl.repeat(symbol, count, eager=True),
                "open": opens[:, place],
                "high": np.maximum(np.exp(log_open + up)[:, place], np.maximum(opens, closes)[:, place]),
                "low": np.minimum(np.exp(log_open + down)[:, place], np.minimum(opens, closes)[:, place]),
                "close": closes[:, place],
                "volume": (turnover / closes)[:, place],
            }
        )
        for place, symbol in enumerate(symbols)
    )
    end_ms = start_ms + days * MILLISECONDS_PER_DAY
    return Recordings(
        candles,
        _published(recorded.funding, symbols, start_ms, end_ms, generator),
        _index(recorded.fear_greed, start_ms, days, generator),
    )


def _whole_days(candles: pl.DataFrame, timeframe: Timeframe) -> tuple[list[str], np.ndarray]:
    """The symbols, and float64 (days, bars a day, symbols, 4): log high, low and close over the open, and turnover."""
    symbols = candles["symbol"].unique().sort().to_list()
    per_day = MILLISECONDS_PER_DAY // timeframe.milliseconds
    dated = candles.with_columns(day=pl.col("ts").dt.date()).sort("ts", "symbol")
    counted = dated.group_by("day").agg(bars=pl.len(), traded=(pl.col("volume") > 0).sum())
    whole = counted.filter(pl.min_horizontal("bars", "traded") == per_day * len(symbols))
    if whole.height < LEAST_DAYS:
        raise DataQualityError(
            f"Expected at least {LEAST_DAYS} days to draw from that {', '.join(symbols)} all have whole, was "
            f"{whole.height}. Record more, or certify on fewer symbols."
        )
    rows = dated.join(whole.select("day"), on="day", how="semi", maintain_order="left")
    values = rows.select(
        (pl.col("high") / pl.col("open")).log(),
        (pl.col("low") / pl.col("open")).log(),
        (pl.col("close") / pl.col("open")).log(),
        pl.col("volume") * pl.col("close"),
    )
    return symbols, values.to_numpy().reshape(whole.height, per_day, len(symbols), 4)


def _draw(
    bars: np.ndarray, what: Destruction, days: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Drawn bars, (bars, symbols, 4), and which are mirrored, bool (bars, 1)."""
    per_day = bars.shape[1]
    if what == "sign":
        drawn = bars[generator.integers(len(bars), size=days)].reshape(days * per_day, *bars.shape[2:])
        return drawn, generator.random((days * per_day, 1)) < 0.5
    single = bars.reshape(-1, *bars.shape[2:])
    return single[generator.integers(len(single), size=days * per_day)], np.zeros((days * per_day, 1), dtype=bool)


def _of(last: pl.DataFrame, symbols: Sequence[str]) -> np.ndarray:
    """The newest recorded close of each symbol, where its path begins."""
    closes = dict(last.select("symbol", "close").iter_rows())
    return np.array([closes[symbol] for symbol in symbols])


def _published(
    funding: pl.DataFrame, symbols: Sequence[str], start_ms: int, end_ms: int, generator: np.random.Generator
) -> pl.DataFrame:
    """A settlement every eight hours for the symbols that have any, each a recorded one drawn by itself."""
    times = pl.Series("ts", np.arange(start_ms, end_ms, _FUNDING_EVERY_MS, dtype=np.int64)).cast(TIMESTAMP)
    parts = []
    for symbol in symbols:
        rates = funding.filter(pl.col("symbol") == symbol)["funding_rate"].to_numpy()
        if rates.size:
            drawn = pl.Series("funding_rate", generator.choice(rates, len(times)))
            parts.append(pl.DataFrame([times, drawn]).select("ts", pl.lit(symbol).alias("symbol"), "funding_rate"))
    return pl.concat(parts) if parts else funding.clear()


def _index(recorded: pl.DataFrame, start_ms: int, days: int, generator: np.random.Generator) -> pl.DataFrame:
    """A value a day, each a recorded one drawn by itself; empty where none was recorded."""
    if recorded.is_empty():
        return recorded
    dates = start_ms + MILLISECONDS_PER_DAY * np.arange(days, dtype=np.int64)
    drawn = recorded[generator.integers(recorded.height, size=days)]
    return drawn.with_columns(date=pl.Series(dates).cast(TIMESTAMP).dt.date())
