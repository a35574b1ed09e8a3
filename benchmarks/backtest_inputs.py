"""What the contestants of `benchmarks.backtest_speed` trade on: half a year of three made-up markets, with forecasts.

Speed does not depend on where prices come from, so they are random walks. A forecast lasts some bars, so that about one
bar in ten has an order.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.market import END_MS, TIMEFRAME, random_walk
from levibot_core.backtest.simulation_market import Market
from levibot_core.backtest.simulation_parameters import BacktestParameters
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY
from levibot_core.risk.sizing import SizingRule
from levibot_core.schemas import TIMESTAMP

SYMBOLS = ("BTC/USDT", "ETH/USDT", "SOL/USDT")
DAYS = 168
CONFIGURATIONS = 1000
FUNDING_MS = 8 * 3_600_000
_MEMORY = 0.93
"""Correlation of a forecast's logit with that of the bar before."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When each configuration takes a side, (n,)."""

    long: np.ndarray
    short: np.ndarray


def thresholds(configurations: int) -> Thresholds:
    """The first configuration has the usual ones; the others lie around them."""
    width = 0.05 + np.linspace(0.0, 0.02, configurations)
    return Thresholds(0.5 + width, 0.5 - width)


def write_inputs(folder: Path, days: int) -> Path:
    """Write the arrays `times` (bars,), `open`, `high`, `low`, `close`, `volume`, `prob_up` (bars, symbols)."""
    bars = days * MILLISECONDS_PER_DAY // TIMEFRAME.milliseconds
    candles = [random_walk(symbol, bars, seed) for seed, symbol in enumerate(SYMBOLS)]
    random = np.random.default_rng(0)
    noise = random.normal(0.0, np.sqrt(1.0 - _MEMORY**2), (bars, len(SYMBOLS)))
    logits = np.empty_like(noise)
    logits[0] = noise[0]
    for bar in range(1, bars):
        logits[bar] = _MEMORY * logits[bar - 1] + noise[bar]
    path = folder / "market.npz"
    columns = {
        name: np.column_stack([frame[name] for frame in candles]) for name in ("open", "high", "low", "close", "volume")
    }
    # Three markets of a million a bar, about.
    columns["volume"] = columns["volume"] * 500.0
    np.savez(path, times=candles[0]["ts"].dt.epoch("ms"), prob_up=1.0 / (1.0 + np.exp(-0.3 * logits)), **columns)
    return path


def read_market(path: Path) -> Market:
    """The inputs with funding, as the platform's engine reads them."""
    with np.load(path) as arrays:
        series = {name: arrays[name] for name in arrays.files}
    times = series.pop("times")
    settled = pl.Series(np.arange(times[0] - times[0] % FUNDING_MS, END_MS + 1, FUNDING_MS)).cast(TIMESTAMP)
    rates = np.random.default_rng(1).normal(1e-4, 1e-4, settled.len())
    funding = pl.concat(
        pl.DataFrame({"symbol": [symbol] * settled.len(), "ts": settled, "rate": rates}) for symbol in SYMBOLS
    )
    return Market.of_arrays(SYMBOLS, TIMEFRAME, times, **series, funding=funding)


def configurations(count: int) -> list[BacktestParameters]:
    """Everything the engine can do but maker orders, at as many thresholds; every other one sized by Kelly's rule."""
    limits = thresholds(count)
    return [
        BacktestParameters(
            long_threshold=long,
            short_threshold=short,
            impact=0.5,
            participation_cap=0.001,
            sizing=SizingRule() if number % 2 else None,
            symbol_cap=0.2,
            max_positions=5,
            max_leverage=1.0,
            daily_loss_limit=0.03,
        )
        for number, (long, short) in enumerate(zip(limits.long.tolist(), limits.short.tolist(), strict=True))
    ]
