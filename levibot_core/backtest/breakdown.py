"""Where a backtest's result came from: by symbol, and by what kind of market it was.

What a regime is, and that it looks at nothing later, is said in `.regimes`.
"""

import math

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from levibot_core.backtest.engine import BacktestResult
from levibot_core.backtest.metrics import bar_returns
from levibot_core.backtest.regimes import ROUGHNESSES, TRENDS, market_regimes
from levibot_core.backtest.simulation_layout import LAST, OPEN
from levibot_core.backtest.simulation_market import Market
from levibot_core.schemas import TIMESTAMP


class SymbolFigures(BaseModel):
    """What one symbol's trades came to. Amounts in quote currency."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    symbol: str
    trades: int
    hit_rate: float | None = Field(description="Share of trades with a gain")
    gross_pnl: float = Field(description="At the reference prices")
    fees: float
    slippage: float
    funding: float = Field(description="Negative was received")
    net_pnl: float
    price_change: float | None = Field(description="Of the symbol over the window, fraction; None without a bar")


class RegimeFigures(BaseModel):
    """What happened in the bars of one regime. Shares are fractions."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: str = Field(description="trend or roughness")
    regime: str
    share_of_bars: float
    strategy_return: float = Field(description="Over those bars alone, one after the other")
    holding_return: float = Field(description="The same of buying and holding")
    strategy_sharpe: float | None = Field(description="Of those bars, annualised")
    trades: int = Field(description="Entered in those bars")
    hit_rate: float | None
    net_pnl: float = Field(description="Of those trades, quote currency")


def by_symbol(result: BacktestResult, market: Market) -> tuple[SymbolFigures, ...]:
    """One entry per symbol of the market, also where it was never traded."""
    return tuple(_of_symbol(result.strategy.trades, market, name) for name in market.symbols)


def by_regime(result: BacktestResult, candles: pl.DataFrame) -> tuple[RegimeFigures, ...]:
    """One entry per trend and per roughness; those of which there was no bar are left out.

    Args:
        result: The backtest.
        candles: `symbol`, `ts`, `close` of the window and of a week or more before it.
    """
    step = pl.duration(milliseconds=result.timeframe.milliseconds)
    bars = result.strategy.equity.select(opened=(pl.col("ts") - step).cast(TIMESTAMP))
    told = market_regimes(candles, result.timeframe)
    regimes = bars.join(told, left_on="opened", right_on="ts", how="left", maintain_order="left", validate="1:1")
    trades = result.strategy.trades.join(
        told, left_on="entry_ts", right_on="ts", how="left", maintain_order="left", validate="m:1"
    )
    start, per_year = result.parameters.initial_equity, result.timeframe.bars_per_year
    returns = pl.DataFrame(
        {
            "strategy": bar_returns(result.strategy.equity["equity"].to_numpy(), start),
            "holding": bar_returns(result.buy_and_hold.equity["equity"].to_numpy(), start),
        }
    )
    found = []
    for kind, names in (("trend", TRENDS), ("roughness", ROUGHNESSES)):
        for name in names:
            inside = (regimes[kind] == name).fill_null(value=False)
            if inside.any():
                own = trades.filter(pl.col(kind) == name)
                found.append(_of_regime(kind, name, returns.filter(inside), own, bars.height, per_year))
    return tuple(found)


def _of_symbol(trades: pl.DataFrame, market: Market, symbol: str) -> SymbolFigures:
    own = trades.filter(pl.col("symbol") == symbol)
    column = market.symbols.index(symbol)
    opens = market.arrays.planes[OPEN, :, column]
    opens = opens[~np.isnan(opens)]
    change = float(market.arrays.planes[LAST, -1, column] / opens[0] - 1.0) if opens.size else None
    return SymbolFigures(
        symbol=symbol,
        trades=own.height,
        hit_rate=_hit_rate(own),
        gross_pnl=_sum(own["gross_pnl"]),
        fees=_sum(own["fees"]),
        slippage=_sum(own["slippage_cost"]),
        funding=_sum(own["funding"]),
        net_pnl=_sum(own["net_pnl"]),
        price_change=change,
    )


def _of_regime(
    kind: str, name: str, returns: pl.DataFrame, trades: pl.DataFrame, bars: int, per_year: float
) -> RegimeFigures:
    strategy, holding = (returns[column].to_numpy() for column in ("strategy", "holding"))
    deviation = float(strategy.std(ddof=1)) if strategy.size > 1 else 0.0
    return RegimeFigures(
        kind=kind,
        regime=name,
        share_of_bars=strategy.size / bars,
        strategy_return=_compounded(strategy),
        holding_return=_compounded(holding),
        strategy_sharpe=float(strategy.mean()) / deviation * math.sqrt(per_year) if deviation > 1e-15 else None,
        trades=trades.height,
        hit_rate=_hit_rate(trades),
        net_pnl=_sum(trades["net_pnl"]),
    )


def _hit_rate(trades: pl.DataFrame) -> float | None:
    return float((trades["net_pnl"] > 0.0).mean()) if trades.height else None  # type: ignore[arg-type]


def _sum(amounts: pl.Series) -> float:
    return float(amounts.sum())


def _compounded(returns: np.ndarray) -> float:
    return float(np.prod(1.0 + returns) - 1.0)
