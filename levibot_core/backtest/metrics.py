"""What a backtest is worth, in figures; and what they say against trading.

A figure that is undefined (no trade, no variation) is None, never infinite. Annual figures take 365 days a year.
"""

import math
from typing import Final

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from levibot_core.backtest.engine import Account, BacktestResult
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY, Timeframe

_FEWEST_DAYS: Final = 20


class AccountMetrics(BaseModel):
    """Figures of one account, after all costs. Shares are fractions of equity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    total_return: float
    annualised_return: float | None = Field(description="(1 + total)^(1 / years) - 1; None after a total loss")
    volatility: float = Field(description="Standard deviation of bar returns times sqrt(bars per year)")
    sharpe: float | None = Field(description="Mean over standard deviation of bar returns, annualised; W. Sharpe 1994")
    sortino: float | None = Field(description="Mean over downside deviation from 0, annualised; F. Sortino 1994")
    max_drawdown: float = Field(description="Deepest fall below the highest equity so far, 0 or negative")
    max_drawdown_days: float = Field(description="Longest time below the highest equity so far")
    calmar: float | None = Field(description="Annualised return over the depth of the maximum drawdown")
    turnover: float | None = Field(description="Notional of all fills over mean equity; None if not positive")
    hit_rate: float | None = Field(description="Share of trades with a gain")
    profit_factor: float | None = Field(description="Sum of gains over sum of losses")
    var_95_bar: float = Field(description="Loss that 95 % of bars stay below, historical; positive is a loss")
    var_95_day: float | None = Field(description="The same of UTC days")
    expected_shortfall_95_bar: float = Field(
        description="Mean loss of the worst 5 % of bars; Rockafellar, Uryasev 2000"
    )
    expected_shortfall_95_day: float | None = Field(description="The same of UTC days")
    trades: int
    average_trade_return: float | None = Field(description="Mean of net gain over notional")
    exposure: float = Field(description="Mean gross position over equity")
    gross_pnl: float = Field(description="At the bars' own prices, quote currency")
    slippage_paid: float = Field(description="Quote currency")
    fees_paid: float = Field(description="Quote currency")
    funding_paid: float = Field(description="Quote currency; negative was received")
    net_pnl: float = Field(description="Quote currency")
    break_even_cost_bps: float | None = Field(description="Cost per fill at which the gain would be 0, basis points")


class BacktestSummary(BaseModel):
    """The strategy beside buying and holding."""

    model_config = ConfigDict(frozen=True)

    strategy: AccountMetrics
    buy_and_hold: AccountMetrics


def backtest_metrics(result: BacktestResult) -> BacktestSummary:
    """The figures of both accounts of a backtest."""
    start = result.parameters.initial_equity
    return BacktestSummary(
        strategy=account_metrics(result.strategy, result.timeframe, start),
        buy_and_hold=account_metrics(result.buy_and_hold, result.timeframe, start),
    )


def account_metrics(account: Account, timeframe: Timeframe, initial_equity: float) -> AccountMetrics:
    """The figures of one account that began with `initial_equity` (quote currency)."""
    equity = account.equity["equity"].to_numpy()
    returns = bar_returns(equity, initial_equity)
    per_year = timeframe.bars_per_year
    total = float(equity[-1] / initial_equity - 1.0)
    annualised = _annualised(total, per_year / returns.size)
    deviation = float(returns.std(ddof=1)) if returns.size > 1 else 0.0
    downside = float(np.sqrt(np.mean(np.minimum(returns, 0.0) ** 2)))
    drawdown = float(account.equity["drawdown"].min())  # type: ignore[arg-type]
    trades = account.trades
    net = trades["net_pnl"].to_numpy()
    gains, losses = float(net[net > 0].sum()), float(-net[net < 0].sum())
    traded = float((trades["quantity"] * (trades["entry_price"] + trades["exit_price"])).sum())
    gross = float(trades["gross_pnl"].sum())
    days = daily_returns(account, initial_equity)["return"].to_numpy()
    # With fewer than 20 days, a 5 % quantile means nothing.
    whole = days.size >= _FEWEST_DAYS
    return AccountMetrics(
        total_return=total,
        annualised_return=annualised,
        volatility=deviation * math.sqrt(per_year),
        sharpe=_ratio(float(returns.mean()), deviation, math.sqrt(per_year)),
        sortino=_ratio(float(returns.mean()), downside, math.sqrt(per_year)),
        max_drawdown=drawdown,
        max_drawdown_days=_longest_below(account.equity, timeframe),
        calmar=_ratio(annualised, -drawdown) if annualised is not None else None,
        turnover=_ratio(traded, float(equity.mean())),
        hit_rate=float((net > 0).mean()) if net.size else None,
        profit_factor=_ratio(gains, losses),
        var_95_bar=_value_at_risk(returns),
        var_95_day=_value_at_risk(days) if whole else None,
        expected_shortfall_95_bar=_expected_shortfall(returns),
        expected_shortfall_95_day=_expected_shortfall(days) if whole else None,
        trades=trades.height,
        average_trade_return=float(trades["return"].mean()) if net.size else None,  # type: ignore[arg-type]
        exposure=float(account.equity["exposure"].mean()),  # type: ignore[arg-type]
        gross_pnl=gross,
        slippage_paid=float(trades["slippage_cost"].sum()),
        fees_paid=float(trades["fees"].sum()),
        funding_paid=float(trades["funding"].sum()),
        net_pnl=float(net.sum()),
        break_even_cost_bps=_ratio(gross, traded, 1e4),
    )


def reasons_against_trading(summary: BacktestSummary) -> tuple[str, ...]:
    """Why a model should forecast only; empty when its backtest earned money and beat buying and holding."""
    strategy, holding = summary.strategy, summary.buy_and_hold
    if strategy.trades == 0:
        return (
            "the backtest made no trade: no forecast that takes a side was expected to pay its costs, or none could "
            "be filled",
        )
    reasons = []
    if strategy.total_return <= 0:
        reasons.append(f"the backtest lost {in_percent(-strategy.total_return)} after costs")
    if strategy.total_return <= holding.total_return:
        reasons.append(
            f"the backtest returned {in_percent(strategy.total_return, '+')} after costs, buying and holding "
            f"{in_percent(holding.total_return, '+')}"
        )
    if holding.sharpe is not None and (strategy.sharpe is None or strategy.sharpe <= holding.sharpe):
        shown = "none" if strategy.sharpe is None else f"{strategy.sharpe:.2f}"
        reasons.append(f"the backtest's Sharpe ratio is {shown}, that of buying and holding {holding.sharpe:.2f}")
    return tuple(reasons)


def in_percent(share: float, sign: str = "", digits: int = 2) -> str:
    """A share for people; one that would be shown as 0 and is not gets two significant digits."""
    if 1e-9 < abs(share) < 0.5 * 10.0 ** -(digits + 2):
        return f"{float(f'{share * 100:.1e}'):{sign}.{1 - math.floor(math.log10(abs(share) * 100))}f}%"
    return f"{share:{sign}z.{digits}%}"


def _annualised(total: float, windows_per_year: float) -> float | None:
    """None after a total loss, and where a short window's gain is beyond any number when compounded for a year."""
    if total <= -1.0:
        return None
    growth = math.log1p(total) * windows_per_year
    return math.expm1(growth) if growth < 700.0 else None


def _ratio(value: float, by: float, times: float = 1.0) -> float | None:
    # Rounding leaves a deviation of 1e-19 where nothing varied.
    return value / by * times if by > 1e-15 else None


def bar_returns(equity: np.ndarray, initial_equity: float) -> np.ndarray:
    """Return of each step of an account, fraction, float64 (n,); 0 where nothing was left to earn on.

    Args:
        equity: At the end of each step, quote currency, (n,).
        initial_equity: Before the first.
    """
    before = np.concatenate([[initial_equity], equity[:-1]])
    returns = np.zeros_like(before)
    np.divide(equity - before, before, out=returns, where=before > 0)
    return returns


def _value_at_risk(returns: np.ndarray) -> float:
    return float(-np.quantile(returns, 0.05)) + 0.0  # no minus before a zero


def _expected_shortfall(returns: np.ndarray) -> float:
    """Of the returns at or below the quantile: at least one."""
    return float(-returns[returns <= np.quantile(returns, 0.05)].mean()) + 0.0


def daily_returns(account: Account, initial_equity: float) -> pl.DataFrame:
    """`day` (UTC) and `return` (fraction) of an account; whole and part days, in order."""
    # A bar that closes at midnight belongs to the day that ends there.
    day = pl.col("ts").dt.offset_by("-1ms").dt.date().alias("day")
    closes = account.equity.group_by(day, maintain_order=True).agg(pl.col("equity").last())
    return closes.select("day", pl.Series("return", bar_returns(closes["equity"].to_numpy(), initial_equity)))


def _longest_below(equity: pl.DataFrame, timeframe: Timeframe) -> float:
    below = (equity["drawdown"] < 0).to_numpy()
    ends = np.flatnonzero(~below)
    longest = int(np.diff(np.concatenate([[-1], ends, [below.size]])).max()) - 1
    return longest * timeframe.milliseconds / MILLISECONDS_PER_DAY
