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
from levibot_core.market.timeframe import Timeframe
from levibot_core.schemas import CANDLES

TIMEFRAME = Timeframe.parse("5m")
START_MS = 1_659_312_000_000
"""2022-08-01, UTC."""
END_MS = 1_695_772_800_000
"""2023-09-27, UTC: the recordings end with the bar before."""
QUICK_START_MS = END_MS - 20 * 86_400_000
_BASES = ("ADA", "AVAX", "BCH", "BNB", "BTC", "DOGE", "DOT", "ETH", "LINK", "LTC", "NEAR", "SOL", "TRX", "UNI", "XRP")
SYMBOLS = tuple(f"{base}/USDT" for base in _BASES)
"""Fifteen symbols for made-up rows, sorted, with the leading market among them."""
_FUNDING_BEFORE_MS = 7 * 86_400_000
_FEAR_GREED_BEFORE_MS = 60 * 86_400_000


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
            pl.col("ts").cast(CANDLES.polars_schema["ts"]),
            (pl.col("ts") + TIMEFRAME.milliseconds).cast(CANDLES.polars_schema["known_at"]).alias("known_at"),
            pl.lit(0, pl.Int32).alias("revision"),
            pl.lit("simulated").alias("venue"),
        )
    )
