"""Inputs of the benchmarks: recorded candles in a form that every contestant can read, and made-up ones by the million.

What is computed from them is `benchmarks.ours`' and `benchmarks.peers`' business.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.harness import ROOT
from levibot_core.errors import MarketDataUnavailableError
from levibot_core.market.sources.recorded import RecordedSource
from levibot_core.market.sources.recordings import find_recordings
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY, Timeframe
from levibot_core.schemas import CANDLES, FEAR_GREED, FUNDING_RATES, TIMESTAMP

TIMEFRAME = Timeframe.parse("5m")
START_MS = 1_659_312_000_000
"""2022-08-01, UTC."""
END_MS = 1_695_772_800_000
"""2023-09-27, UTC: the recordings end with the bar before."""
QUICK_START_MS = END_MS - 20 * MILLISECONDS_PER_DAY
_BASES = ("ADA", "AVAX", "BCH", "BNB", "BTC", "DOGE", "DOT", "ETH", "LINK", "LTC", "NEAR", "SOL", "TRX", "UNI", "XRP")
SYMBOLS = tuple(f"{base}/USDT" for base in _BASES)
"""Fifteen symbols for made-up rows, sorted, with the leading market among them."""
_FUNDING_BEFORE_MS = 7 * MILLISECONDS_PER_DAY
_FEAR_GREED_BEFORE_MS = 60 * MILLISECONDS_PER_DAY


def market_data_folder() -> Path:
    """The folder of recorded candles: `LEVIBOT_MARKET_DATA`, else `shared/market_data` beside the repository."""
    return Path(os.environ.get("LEVIBOT_MARKET_DATA") or ROOT.parent / "shared" / "market_data")


@dataclass(frozen=True, slots=True)
class Market:
    """Where the inputs lie.

    Attributes:
        folder: Holds `candles.parquet` (schema `CANDLES`, sorted by symbol and ts), `funding.parquet` and
            `fear_greed.parquet`.
        symbols: Sorted, inside spelling.
        rows: Number of candles.
    """

    folder: Path
    symbols: tuple[str, ...]
    rows: int


def write_market(folder: Path, *, quick: bool) -> Market:
    """Write the candles of every symbol that was recorded at spot, 5m, over the whole window, and what goes with them.

    Args:
        folder: Existing folder to write into.
        quick: Only the last 20 days.

    Raises:
        MarketDataUnavailableError: the folder of recorded candles is not there, or holds none of them.
    """
    recorded = market_data_folder()
    source = RecordedSource(recorded)
    symbols = sorted(
        recording.symbol
        for recording in find_recordings(recorded)
        if recording.kind == "candles"
        and (recording.market, recording.timeframe_ms) == ("spot", TIMEFRAME.milliseconds)
        and (recording.first_ms, recording.last_ms) == (START_MS, END_MS - TIMEFRAME.milliseconds)
    )
    if not symbols:
        raise MarketDataUnavailableError(
            f"Expected spot {TIMEFRAME.name} candles from 2022-08-01 to 2023-09-26 below {recorded}, found none. "
            "Set LEVIBOT_MARKET_DATA to a folder that holds them."
        )
    start_ms = QUICK_START_MS if quick else START_MS
    candles = pl.concat(source.candles(symbol, "spot", TIMEFRAME, start_ms, END_MS) for symbol in symbols)
    funding = pl.concat(source.funding_rates(symbol, start_ms - _FUNDING_BEFORE_MS, END_MS + 1) for symbol in symbols)
    candles.write_parquet(folder / "candles.parquet")
    funding.write_parquet(folder / "funding.parquet")
    source.fear_greed(start_ms - _FEAR_GREED_BEFORE_MS, END_MS).write_parquet(folder / "fear_greed.parquet")
    return Market(folder, tuple(symbols), candles.height)


def random_walk(symbol: str, bars: int, seed: int) -> pl.DataFrame:
    """Candles of one symbol on a random walk, the last one closing at `END_MS`; schema `CANDLES`."""
    random = np.random.default_rng(seed)
    closes = 100.0 * np.exp(np.cumsum(random.normal(0.0, 1e-3, bars)))
    opens = np.concatenate(([100.0], closes[:-1]))
    spread = 1.0 + np.abs(random.normal(0.0, 5e-4, (2, bars)))
    open_ms = END_MS - TIMEFRAME.milliseconds * np.arange(bars, 0, -1, dtype=np.int64)
    frame = pl.DataFrame(
        {
            "ts": open_ms,
            "open": opens,
            "high": np.maximum(opens, closes) * spread[0],
            "low": np.minimum(opens, closes) / spread[1],
            "close": closes,
            "volume": random.lognormal(3.0, 1.0, bars),
        }
    )
    return CANDLES.enforce(
        frame.with_columns(
            pl.lit(symbol).alias("symbol"),
            pl.col("ts").cast(TIMESTAMP),
            (pl.col("ts") + TIMEFRAME.milliseconds).cast(TIMESTAMP).alias("known_at"),
            pl.lit(0, pl.Int32).alias("revision"),
            pl.lit("simulated").alias("venue"),
        )
    )


def random_funding(symbol: str, seed: int) -> pl.DataFrame:
    """Settlements of one symbol every 8 hours, over the days that the newest bars look back on; `FUNDING_RATES`."""
    settled_ms = np.arange(END_MS - _FUNDING_BEFORE_MS, END_MS + 1, 8 * 3_600_000, dtype=np.int64)
    rates = np.random.default_rng(seed).normal(1e-4, 1e-4, settled_ms.size)
    settled = pl.Series(settled_ms).cast(TIMESTAMP)
    frame = pl.DataFrame({"ts": settled, "rate": rates, "known_at": settled})
    constants = {"symbol": pl.lit(symbol), "revision": pl.lit(0, pl.Int32), "venue": pl.lit("simulated")}
    return FUNDING_RATES.enforce(frame.with_columns(**constants))


def random_fear_greed() -> pl.DataFrame:
    """The index of the days that the newest bars look back on; schema `FEAR_GREED`."""
    days_ms = np.arange(END_MS - _FEAR_GREED_BEFORE_MS, END_MS, MILLISECONDS_PER_DAY, dtype=np.int64)
    values = np.random.default_rng(0).integers(10, 90, days_ms.size)
    frame = pl.DataFrame(
        {
            "ts": pl.Series(days_ms).cast(TIMESTAMP),
            "value": pl.Series(values, dtype=pl.Int32),
            "known_at": pl.Series(days_ms + MILLISECONDS_PER_DAY).cast(TIMESTAMP),
        }
    )
    constants = {"classification": pl.lit("made up"), "revision": pl.lit(0, pl.Int32), "venue": pl.lit("simulated")}
    return FEAR_GREED.enforce(frame.with_columns(**constants))
