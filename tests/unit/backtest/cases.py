"""Random markets, forecasts and rules, for two engines to be held against each other, and the comparison itself."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from hypothesis import strategies as st

from levibot_core.backtest.engine import BacktestParameters
from levibot_core.backtest.simulation import Simulation, simulate
from levibot_core.backtest.simulation_market import Market
from levibot_core.market.timeframe import Timeframe
from levibot_core.risk.sizing import SizingRule
from levibot_core.schemas import TIMESTAMP
from tests.unit.backtest.oracle import Books, Oracle

CENT = 0.005
"""Two amounts agree to the cent if they differ by less than half of one."""
HOUR_MS = 3_600_000
MIDNIGHT_MS = 1_735_689_600_000
SYMBOLS = ("ADA/USDT", "BTC/USDT", "ETH/USDT")


@dataclass(frozen=True)
class Case:
    candles: pl.DataFrame
    predictions: pl.DataFrame
    timeframe: Timeframe
    parameters: BacktestParameters
    funding: pl.DataFrame | None

    def simulated(self) -> Simulation:
        return simulate(Market.of(self.candles, self.predictions, self.timeframe, self.funding), self.parameters)

    def by_oracle(self) -> Books:
        return Oracle(self.candles, self.predictions, self.timeframe, self.parameters, self.funding).run()


def _maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


@st.composite
def rules(draw: st.DrawFn) -> BacktestParameters:
    """Every cost and limit, on or off; positions up to several times the equity, so that some are liquidated."""
    kelly = st.builds(SizingRule, kelly_fraction=st.sampled_from((0.25, 1.0)), symbol_cap=st.sampled_from((0.2, 1.0)))
    return BacktestParameters(
        long_threshold=draw(st.sampled_from((0.51, 0.55, 0.6))),
        short_threshold=draw(st.sampled_from((0.4, 0.45, 0.49))),
        order_kind=draw(st.sampled_from(("taker", "maker"))),
        taker_fee=draw(st.sampled_from((0.0, 0.0015, 0.02))),
        maker_fee=draw(st.sampled_from((0.0, 0.001))),
        maker_offset=draw(st.sampled_from((0.0, 0.001))),
        slippage=draw(st.sampled_from((0.0, 0.0005, 0.01))),
        impact=draw(st.sampled_from((0.0, 0.5, 5.0))),
        participation_cap=draw(_maybe(st.sampled_from((0.01, 0.1, 0.5)))),
        latency_bars=draw(st.integers(1, 4)),
        equity_fraction=draw(st.sampled_from((1.0, 0.5, 0.1))),
        sizing=draw(_maybe(kelly)),
        symbol_cap=draw(st.sampled_from((None, None, 0.2, 0.8))),
        max_positions=draw(_maybe(st.integers(1, 3))),
        max_leverage=draw(st.sampled_from((None, None, 0.5, 1.0, 2.0))),
        daily_loss_limit=draw(_maybe(st.sampled_from((0.003, 0.03)))),
        maintenance_margin=draw(_maybe(st.sampled_from((0.0, 0.005, 0.3)))),
        compounding=draw(st.booleans()),
    )


@st.composite
def cases(draw: st.DrawFn, most_bars: int = 60) -> Case:
    """A market of one to three symbols with gaps, bars without volume, and funding at, between and off the opens."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    timeframe = Timeframe.parse(draw(st.sampled_from(("5m", "1h", "4h", "1d"))))
    bars = draw(st.sampled_from((most_bars, most_bars // 2, 7, 1)))
    symbols = SYMBOLS[: draw(st.integers(1, 3))]
    start = MIDNIGHT_MS - draw(st.integers(0, 30)) * timeframe.milliseconds
    spread = draw(st.sampled_from((0.0, 0.002, 0.03, 0.2)))
    missing = draw(st.sampled_from((0.0, 0.1, 0.5)))
    idle = draw(st.sampled_from((0.0, 0.2)))
    candles = pl.concat([_candles(random, symbol, start, bars, timeframe, spread, missing, idle) for symbol in symbols])
    return Case(
        candles=candles.select(pl.nth(random.permutation(candles.width).tolist())).sample(
            fraction=1.0, seed=1, shuffle=True
        ),
        predictions=_predictions(random, candles, given=draw(st.booleans())),
        timeframe=timeframe,
        parameters=draw(rules()),
        funding=_funding(random, symbols, start, bars, timeframe) if draw(st.booleans()) else None,
    )


def _candles(
    random: np.random.Generator,
    symbol: str,
    start: int,
    bars: int,
    timeframe: Timeframe,
    spread: float,
    missing: float,
    idle: float,
) -> pl.DataFrame:
    # Prices on a coarse grid, so that lows touch limits; opens that jump from the close before.
    close = np.maximum(np.round(100.0 * np.exp(np.cumsum(random.normal(0.0, spread, bars))), 1), 0.5)
    opened = np.maximum(
        np.round(np.concatenate([[100.0], close[:-1]]) * random.choice([1.0, 1.0, 0.99, 1.02], bars), 1), 0.5
    )
    wicks = random.choice([0.0, 0.0, 0.1, 2.0], (2, bars)) * spread
    there = random.random(bars) >= missing
    there[random.integers(bars)] = True
    volume = np.where(random.random(bars) < idle, 0.0, random.lognormal(4.0, 2.0, bars))
    return pl.DataFrame(
        {
            "symbol": [symbol] * bars,
            "ts": pl.Series(start + timeframe.milliseconds * np.arange(bars)).cast(TIMESTAMP),
            "open": opened,
            "high": np.maximum(opened, close) * (1.0 + wicks[0]),
            "low": np.minimum(opened, close) / (1.0 + wicks[1]),
            "close": close,
            "volume": volume,
        }
    ).filter(pl.Series(there))


def _predictions(random: np.random.Generator, candles: pl.DataFrame, *, given: bool) -> pl.DataFrame:
    levels = [0.05, 0.4, 0.44, 0.5, 0.52, 0.56, 0.7, 1.0, np.nan, None]
    # Beliefs that last some bars, so that orders have time to fill.
    lasting = np.repeat(random.integers(len(levels), size=candles.height), random.integers(1, 6))[: candles.height]
    beliefs = candles.select("symbol", "ts", prob_up=pl.Series([levels[place] for place in lasting], dtype=pl.Float64))
    if given:
        beliefs = beliefs.with_columns(volatility=pl.Series(random.choice([0.0, 0.001, 0.01, np.nan], candles.height)))
    return beliefs.sample(fraction=0.9, seed=2)


def _funding(
    random: np.random.Generator, symbols: tuple[str, ...], start: int, bars: int, timeframe: Timeframe
) -> pl.DataFrame:
    first = start - start % (8 * HOUR_MS) - 8 * HOUR_MS
    times = np.arange(first, start + (bars + 1) * timeframe.milliseconds + 16 * HOUR_MS, 8 * HOUR_MS)
    # Exchanges settle some milliseconds late at times.
    times = times + random.choice([0, 0, 3], times.size)
    marks = [None if random.random() < 0.5 else float(random.uniform(90, 110)) for _ in times]
    return pl.concat(
        pl.DataFrame(
            {
                "symbol": [symbol] * times.size,
                "ts": pl.Series(times).cast(TIMESTAMP),
                "rate": random.normal(0.0, 0.003, times.size),
                "mark_price": pl.Series(marks, dtype=pl.Float64),
            }
        )
        for symbol in symbols
    )


def differences(simulation: Simulation, books: Books) -> list[str]:
    """Every way in which the engines disagree by a cent or more, in words; empty when they agree."""
    found = []
    fills = simulation.fills().to_dicts()
    if len(fills) != len(books.fills):
        found.append(f"{len(fills)} fills instead of {len(books.fills)}")
    for mine, theirs in zip(fills, books.fills, strict=False):
        same = (mine["bar"], mine["symbol"], mine["reason"]) == (theirs.bar, theirs.symbol, theirs.reason)
        amounts = (
            mine["quantity"] * mine["price"] - theirs.quantity * theirs.price,
            mine["quantity"] * mine["reference_price"] - theirs.quantity * theirs.reference,
            mine["fee"] - theirs.fee,
        )
        if not same or max(map(abs, amounts)) >= CENT or abs(mine["price"] / theirs.price - 1.0) > 1e-9:
            found.append(f"the fill {mine} instead of {theirs}")
            break
    for name, mine_by_bar, theirs_by_bar in (
        ("equity", simulation.equity, books.equity),
        ("cash", simulation.cash, books.cash),
        ("gross", simulation.gross, books.gross),
    ):
        apart = np.abs(mine_by_bar - np.array(theirs_by_bar))
        if not (apart < CENT).all():
            at = int(np.argmax(apart >= CENT))
            found.append(f"{name} {mine_by_bar[at]} instead of {theirs_by_bar[at]} at bar {at}")
    return found
