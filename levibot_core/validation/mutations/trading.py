"""Mistakes between a forecast and its trade: whose forecast it is, and when and where it is filled."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from levibot_core.backtest.engine import BacktestResult
from levibot_core.models.calibration import Calibrator, logit, sigmoid
from levibot_core.validation.attack.pipeline import (
    FittedModel,
    Pipeline,
    PipelineSettings,
    backtest_stage,
    forecast_stage,
)
from levibot_core.validation.mutations.mutation import Mutation

_FORECASTS, _POSITIONS, _FILLS = (
    "forecasts_ignore_the_future",
    "positions_ignore_the_future",
    "fills_follow_their_forecasts",
)


def _of_the_next_candle(
    settings: PipelineSettings, rows: pl.DataFrame, model: FittedModel, calibrator: Calibrator
) -> pl.DataFrame:
    forecasts = forecast_stage(settings, rows, model, calibrator).sort("symbol", "ts")
    following = pl.col("prob_up").shift(-1).over("symbol")
    return forecasts.with_columns(prob_up=pl.coalesce(following, "prob_up"))


def _centred_on_the_part(
    settings: PipelineSettings, rows: pl.DataFrame, model: FittedModel, calibrator: Calibrator
) -> pl.DataFrame:
    forecasts = forecast_stage(settings, rows, model, calibrator)
    logits = logit(forecasts["prob_up"].to_numpy())
    return forecasts.with_columns(prob_up=pl.Series(sigmoid(logits - logits.mean())))


def _same_bar(settings: PipelineSettings, candles: pl.DataFrame, forecasts: pl.DataFrame) -> BacktestResult:
    bar = pl.duration(milliseconds=settings.timeframe.milliseconds)
    early = forecasts.with_columns((pl.col("ts") - bar).cast(forecasts.schema["ts"]))
    return backtest_stage(settings, candles, early)


def _mid_price(settings: PipelineSettings, candles: pl.DataFrame, forecasts: pl.DataFrame) -> BacktestResult:
    middle = (pl.col("open") + pl.col("close")) / 2.0
    return backtest_stage(settings, candles.with_columns(open=middle), forecasts)


def _thresholds_in_hindsight(
    settings: PipelineSettings, candles: pl.DataFrame, forecasts: pl.DataFrame
) -> BacktestResult:
    """Thresholds at quantiles of all forecasts of the part, the coming ones included."""
    short, long = np.quantile(forecasts["prob_up"].to_numpy(), (0.3, 0.7))
    limits = settings.backtest.model_copy(
        update={"short_threshold": max(float(short), 1e-6), "long_threshold": min(float(long) + 1e-9, 1.0 - 1e-6)}
    )
    return backtest_stage(replace(settings, backtest=limits), candles, forecasts)


def _forecast(
    wrong_forecast: Callable[[PipelineSettings, pl.DataFrame, FittedModel, Calibrator], pl.DataFrame],
) -> Callable[[Pipeline, bool], Pipeline]:
    return lambda pipeline, wrong: replace(pipeline, forecast=wrong_forecast if wrong else forecast_stage)


def _traded(
    wrong_backtest: Callable[[PipelineSettings, pl.DataFrame, pl.DataFrame], BacktestResult],
) -> Callable[[Pipeline, bool], Pipeline]:
    return lambda pipeline, wrong: replace(pipeline, backtest=wrong_backtest if wrong else backtest_stage)


MUTATIONS: Sequence[Mutation] = (
    Mutation(
        "forecast_of_the_next_candle",
        "forecasts",
        "each candle given the forecast of the next",
        (_FORECASTS,),
        _forecast(_of_the_next_candle),
    ),
    Mutation(
        "forecasts_centred_on_their_part",
        "forecasts",
        "forecasts centred on the mean of the whole part",
        (_FORECASTS,),
        _forecast(_centred_on_the_part),
    ),
    Mutation(
        "same_bar_fill",
        "backtest",
        "a trade at the open of the bar whose close asked for it",
        (_POSITIONS, _FILLS),
        _traded(_same_bar),
    ),
    Mutation("mid_price_fill", "backtest", "a trade at the middle of open and close", (_FILLS,), _traded(_mid_price)),
    Mutation(
        "thresholds_in_hindsight",
        "backtest",
        "thresholds at quantiles of all forecasts, the coming ones included",
        (_POSITIONS,),
        _traded(_thresholds_in_hindsight),
    ),
)
