"""Compile the platform's own kernels once, by using each on a small simulated market; set-up runs this.

Numba keeps what it compiled beside the sources, so no later process has to. Nothing is checked here: what a kernel
computes is the tests' business.
"""

import polars as pl

from levibot_core.backtest.engine import run_backtest
from levibot_core.backtest.simulation_market import Market
from levibot_core.backtest.simulation_parameters import BacktestParameters
from levibot_core.backtest.sweep import sweep
from levibot_core.features.compute import compute_features
from levibot_core.features.registry import load_registry, newest_version
from levibot_core.labels.triple_barrier import triple_barrier_labels
from levibot_core.market.timeframe import Timeframe
from levibot_core.stores.training_rows import newest_revisions
from levibot_core.validation.attack.market import small_market


def main() -> None:
    """Features of every family, barrier labels, one backtest and a sweep."""
    timeframe, features = Timeframe.parse("5m"), load_registry(newest_version())
    market = small_market(7, 0.0, ("BTC/USDT", "ETH/USDT"), timeframe, bars=400)
    compute_features(market.candles, market.funding, features, timeframe, fear_greed=market.fear_greed)
    candles = newest_revisions(market.candles)
    triple_barrier_labels(candles, timeframe)
    forecasts = candles.select(
        "symbol", "ts", prob_up=pl.col("close").pct_change().fill_null(0.0).clip(-0.4, 0.4) + 0.5
    )
    run_backtest(candles, forecasts, timeframe, BacktestParameters())
    sweep(Market.of(candles, forecasts, timeframe), [BacktestParameters()])


if __name__ == "__main__":
    main()
