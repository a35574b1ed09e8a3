"""The backtest of forecasts: the strategy's account, and beside it that of buying and holding, as tables.

How an account is run is specified in docs/backtest.md and compiled in `.simulation_kernel`. What the result is worth is
computed in `.metrics`, drawn in `.report`.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from levibot_core.backtest.simulation import Simulation, simulate
from levibot_core.backtest.simulation_market import Market
from levibot_core.backtest.simulation_parameters import LIVE_ACCOUNT, LIVE_POLICY, BacktestParameters
from levibot_core.backtest.simulation_trades import round_trips
from levibot_core.market.timeframe import Timeframe
from levibot_core.schemas import TIMESTAMP

__all__ = ["LIVE_ACCOUNT", "LIVE_POLICY", "Account", "BacktestParameters", "BacktestResult", "run_backtest", "run_on"]


@dataclass(frozen=True, slots=True)
class Account:
    """One simulated account.

    Attributes:
        equity: One row per bar: `ts` (its close, UTC), `equity`, `cash` (quote currency), `exposure` (gross position
            over equity, null where that is not positive and something is held) and `drawdown` (below the highest
            equity so far, 0 or negative, fraction).
        trades: One row per round trip from flat to flat, by exit: `symbol`, `side` (long or short), `entry_ts`,
            `entry_price`, `exit_ts`, `exit_price` (first and last fill, UTC; mean prices in quote currency, after
            slippage), `quantity` (base currency), `notional`, `gross_pnl` (at the reference prices), `fees`,
            `slippage_cost`, `funding`, `net_pnl` (quote currency), `return` (net over notional), `bars_held`, `fills`
            and `exit_reason` (signal, stop, liquidation or end).
    """

    equity: pl.DataFrame
    trades: pl.DataFrame


@dataclass(frozen=True, slots=True)
class BacktestResult:
    """The strategy's account, and that of buying the coins at the first fill and holding them to the end.

    Both pay the same costs; funding is paid by the strategy alone, which trades perpetuals.
    """

    strategy: Account
    buy_and_hold: Account
    parameters: BacktestParameters
    timeframe: Timeframe
    symbols: tuple[str, ...]


def run_backtest(
    candles: pl.DataFrame,
    predictions: pl.DataFrame,
    timeframe: Timeframe,
    parameters: BacktestParameters,
    funding: pl.DataFrame | None = None,
) -> BacktestResult:
    """Trade the forecasts.

    Args:
        candles: `symbol`, `ts` (open time), `open`, `close`; one row per symbol and bar of the window to trade. With
            `high` and `low`, maker orders can be had, and a liquidation sees the worst price; with `volume` (base
            currency), bars in which nothing was traded fill nothing, and fills can be limited by it.
        predictions: `symbol`, `ts` (open time of the bar at whose close it is known), `prob_up`; null or NaN is no
            forecast, and rows outside the window are ignored. Perhaps `volatility` (of one bar's return, fraction).
        timeframe: Length of a bar.
        parameters: Thresholds, costs, sizes and limits.
        funding: `symbol`, `ts` (settlement), `rate` and perhaps `mark_price`; None is no funding.

    Raises:
        DataQualityError: there are no candles, a price is not a positive number, a symbol and time is there twice, a
            settlement is missing, or the parameters need columns that are not there.
    """
    return run_on(Market.of(candles, predictions, timeframe, funding), parameters)


def run_on(market: Market, parameters: BacktestParameters) -> BacktestResult:
    """Trade the forecasts of a market that was made before.

    Raises:
        DataQualityError: the parameters need what the market does not have.
    """
    strategy = simulate(market, parameters)
    # Who holds buys the coin itself, and pays no funding.
    held = market.believing(1.0).without_funding()
    return BacktestResult(
        strategy=account_of(strategy),
        buy_and_hold=account_of(simulate(held, holding_parameters(parameters, len(market.symbols)))),
        parameters=parameters,
        timeframe=market.timeframe,
        symbols=market.symbols,
    )


def holding_parameters(parameters: BacktestParameters, symbols: int) -> BacktestParameters:
    """Buying and holding at the same costs: an equal share of the first money, also for a symbol that comes later."""
    # The fee included.
    share = 1.0 / symbols / (1.0 + parameters.taker_fee)
    return BacktestParameters(
        taker_fee=parameters.taker_fee,
        slippage=parameters.slippage,
        impact=parameters.impact,
        participation_cap=parameters.participation_cap,
        latency_bars=parameters.latency_bars,
        equity_fraction=share,
        maintenance_margin=None,
        compounding=False,
        initial_equity=parameters.initial_equity,
    )


def account_of(simulation: Simulation) -> Account:
    """Curves and fills of a run as tables."""
    step = simulation.market.timeframe.milliseconds
    exposure = np.where(simulation.gross == 0.0, 0.0, np.nan)
    np.divide(simulation.gross, simulation.equity, out=exposure, where=simulation.equity > 0.0)
    highest = np.maximum(np.maximum.accumulate(simulation.equity), simulation.parameters.initial_equity)
    equity = pl.DataFrame(
        {
            "ts": pl.Series(simulation.market.times_ms + step).cast(TIMESTAMP),
            "equity": simulation.equity,
            "cash": simulation.cash,
            "exposure": pl.Series(exposure).fill_nan(None),
            "drawdown": simulation.equity / highest - 1.0,
        }
    )
    return Account(equity, round_trips(simulation))
