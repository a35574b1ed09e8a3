"""The backtest of a model on rows that nothing was fitted on. The rules of trading are in `.engine`."""

import polars as pl

from levibot_core.backtest.engine import BacktestParameters, BacktestResult, run_backtest
from levibot_core.market.timeframe import Timeframe
from levibot_core.models.bundle import ModelBundle
from levibot_core.stores.snapshots import Snapshot
from levibot_core.validation.comparison import predict_rows


def backtest_model(bundle: ModelBundle, snapshot: Snapshot, rows: pl.DataFrame) -> BacktestResult:
    """Trade a model's forecasts of some rows of a snapshot, from their first bar on.

    Args:
        bundle: The model.
        snapshot: Where the rows come from, with the candles to fill orders at.
        rows: Untouched rows: features of the model, `symbol`, `ts`.
    """
    predictions = rows.select("symbol", "ts", pl.Series("prob_up", predict_rows(bundle, rows)))
    candles = snapshot.candles.filter(pl.col("ts") >= rows["ts"].min())
    return run_backtest(candles, predictions, Timeframe.parse(snapshot.manifest.timeframe), BacktestParameters())
