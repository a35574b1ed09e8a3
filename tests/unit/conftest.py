"""A small market for unit tests: random candles and funding of any symbols, on a regular grid."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest

from levibot_core.schemas import CANDLES, FEAR_GREED, FUNDING_RATES, TIMESTAMP

BAR_MS = 300_000
START_MS = 1_735_689_600_000  # 2025-01-01T00:00Z, on the grid of every timeframe
FUNDING_MS = 8 * 3_600_000
DAY_MS = 24 * 3_600_000


class Market(NamedTuple):
    """Candles (5m) and funding, in catalogue schema."""

    candles: pl.DataFrame
    funding: pl.DataFrame


MakeMarket = Callable[..., Market]


@pytest.fixture(scope="session")
def make_market() -> MakeMarket:
    """A function that invents a market: symbols, number of bars and a seed."""

    def make(symbols: Sequence[str] = ("BTC/USDT", "ETH/USDT"), bars: int = 400, seed: int = 0) -> Market:
        candles = [
            _candles(symbol, bars, np.random.default_rng([seed, number])) for number, symbol in enumerate(symbols)
        ]
        funding = [
            _funding(symbol, bars, np.random.default_rng([seed, number, 1])) for number, symbol in enumerate(symbols)
        ]
        return Market(CANDLES.enforce(pl.concat(candles)), FUNDING_RATES.enforce(pl.concat(funding)))

    return make


@pytest.fixture(scope="session")
def fear_greed() -> pl.DataFrame:
    """The index from twenty days before the first bar of `make_market` on, in catalogue schema."""
    days = pl.Series([START_MS + day * DAY_MS for day in range(-20, 20)]).cast(TIMESTAMP)
    values = [30 + 7 * day % 41 for day in range(40)]
    frame = pl.DataFrame({"ts": days, "value": values, "known_at": days.dt.offset_by("1d")})
    return FEAR_GREED.enforce(
        frame.with_columns(
            value=pl.col("value").cast(pl.Int32),
            classification=pl.lit("Greed"),
            revision=pl.lit(0, pl.Int32),
            venue=pl.lit("test"),
        )
    )


def _candles(symbol: str, bars: int, random: np.random.Generator) -> pl.DataFrame:
    close = 100.0 * np.exp(np.cumsum(random.normal(0.0, 0.002, bars)))
    opened = np.concatenate([[100.0], close[:-1]])
    wicks = random.exponential(0.05, (2, bars))
    opens = pl.Series(START_MS + BAR_MS * np.arange(bars))
    return pl.DataFrame(
        {
            "symbol": [symbol] * bars,
            "ts": opens.cast(TIMESTAMP),
            "open": opened,
            "high": np.maximum(opened, close) + wicks[0],
            "low": np.minimum(opened, close) - wicks[1],
            "close": close,
            "volume": random.lognormal(3.0, 0.7, bars),
            "known_at": (opens + BAR_MS).cast(TIMESTAMP),
            "revision": pl.Series([0] * bars, dtype=pl.Int32),
            "venue": ["test"] * bars,
        }
    )


def _funding(symbol: str, bars: int, random: np.random.Generator) -> pl.DataFrame:
    """Settlements from four days before the first bar to the end of the last."""
    settled = pl.Series(np.arange(START_MS - 12 * FUNDING_MS, START_MS + bars * BAR_MS + 1, FUNDING_MS)).cast(TIMESTAMP)
    return pl.DataFrame(
        {
            "symbol": [symbol] * settled.len(),
            "ts": settled,
            "rate": random.normal(1e-4, 5e-5, settled.len()),
            "known_at": settled,
            "revision": pl.Series([0] * settled.len(), dtype=pl.Int32),
            "venue": ["test"] * settled.len(),
        }
    )
