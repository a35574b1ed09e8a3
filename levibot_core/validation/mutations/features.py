"""Mistakes in features: bars, values and statistics of the future. Each adds one column, or changes what is read."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import polars as pl

from levibot_core.labels.direction import direction_labels
from levibot_core.schemas import FEATURES
from levibot_core.stores.training_rows import newest_revisions
from levibot_core.validation.attack.features import NAME as CAUGHT_BY
from levibot_core.validation.attack.pipeline import Pipeline, PipelineSettings
from levibot_core.validation.mutations.mutation import Mutation
from levibot_core.validation.perturbation import MarketTables

_BarFeature = Callable[[PipelineSettings, MarketTables, pl.DataFrame, bool], pl.DataFrame]
"""From the market and its bars (by symbol and ts, as they closed) to those bars with a column `value`."""
_Reading = Callable[[PipelineSettings, MarketTables, bool], MarketTables]

_RETURN = pl.col("close") / pl.col("close").shift(1).over("symbol") - 1.0


def _as_closed(candles: pl.DataFrame) -> pl.DataFrame:
    """Every bar as it was when it closed, by symbol and ts."""
    return candles.sort("symbol", "ts", "revision").unique(["symbol", "ts"], keep="first", maintain_order=True)


def _next_return(_: PipelineSettings, __: MarketTables, bars: pl.DataFrame, wrong: bool) -> pl.DataFrame:
    following = pl.col("close").shift(-1).over("symbol") / pl.col("close") - 1.0
    return bars.with_columns(value=following if wrong else _RETURN)


def _centred_mean(_: PipelineSettings, __: MarketTables, bars: pl.DataFrame, wrong: bool) -> pl.DataFrame:
    mean = pl.col("close").rolling_mean(11, center=wrong).over("symbol")
    return bars.with_columns(value=pl.col("close") / mean - 1.0)


def _score(_: PipelineSettings, __: MarketTables, bars: pl.DataFrame, wrong: bool) -> pl.DataFrame:
    returns = bars.with_columns(returned=_RETURN)
    column = pl.col("returned")
    mean, deviation = (column.mean(), column.std()) if wrong else (column.rolling_mean(100), column.rolling_std(100))
    return returns.with_columns(value=(column - mean.over("symbol")) / deviation.over("symbol"))


def _hourly_return(settings: PipelineSettings, _: MarketTables, bars: pl.DataFrame, wrong: bool) -> pl.DataFrame:
    hours = bars.group_by("symbol", hour=pl.col("ts").dt.truncate("1h")).agg(pl.col("close").last())
    hours = hours.sort("symbol", "hour").select("symbol", "hour", value=_RETURN)
    decided = pl.col("ts") + pl.duration(milliseconds=settings.timeframe.milliseconds)
    closed = (decided.dt.truncate("1h") - pl.duration(hours=1)).cast(bars.schema["ts"])
    joined = bars.with_columns(hour=pl.col("ts").dt.truncate("1h") if wrong else closed)
    return joined.join(hours, on=["symbol", "hour"], how="left", maintain_order="left")


def _target_scaled(settings: PipelineSettings, _: MarketTables, bars: pl.DataFrame, wrong: bool) -> pl.DataFrame:
    horizon = settings.horizon_bars
    labels = direction_labels(bars, settings.timeframe, horizon).select("symbol", "ts", "forward_return")
    known = pl.col("forward_return") if wrong else pl.col("forward_return").shift(horizon)
    scaled = _RETURN / known.rolling_std(50).over("symbol")
    return bars.join(labels, on=["symbol", "ts"], how="left", maintain_order="left").with_columns(value=scaled)


def _day_high(_: PipelineSettings, __: MarketTables, bars: pl.DataFrame, wrong: bool) -> pl.DataFrame:
    highest = pl.col("high").max() if wrong else pl.col("high").cum_max()
    return bars.with_columns(value=pl.col("close") / highest.over("symbol", pl.col("ts").dt.date()))


def _leader_return(settings: PipelineSettings, _: MarketTables, bars: pl.DataFrame, wrong: bool) -> pl.DataFrame:
    ahead = pl.duration(milliseconds=settings.timeframe.milliseconds if wrong else 0)
    leader = bars.filter(pl.col("symbol") == settings.symbols[0])
    returns = leader.select((pl.col("ts") - ahead).cast(bars.schema["ts"]), value=_RETURN)
    return bars.join(returns, on="ts", how="left", maintain_order="left")


def _index_value(settings: PipelineSettings, market: MarketTables, bars: pl.DataFrame, wrong: bool) -> pl.DataFrame:
    if market.fear_greed is None:
        raise ValueError("Expected a market with a fear and greed index, was without. Use one that has it.")
    usable_from = "ts" if wrong else "known_at"
    index = market.fear_greed.select(pl.col(usable_from).alias("decided"), pl.col("value").cast(pl.Float64)).sort(
        "decided"
    )
    decided = (pl.col("ts") + pl.duration(milliseconds=settings.timeframe.milliseconds)).cast(bars.schema["ts"])
    by_time = bars.with_columns(decided=decided).sort("decided")
    return by_time.join_asof(index, on="decided").sort("symbol", "ts")


def _rough_regime(_: PipelineSettings, __: MarketTables, bars: pl.DataFrame, wrong: bool) -> pl.DataFrame:
    roughness = bars.with_columns(roughness=_RETURN.rolling_std(12).over("symbol"))
    column = pl.col("roughness")
    limit = column.quantile(0.66) if wrong else column.rolling_quantile(0.66, window_size=150)
    return roughness.with_columns(value=(column > limit.over("symbol")).cast(pl.Float64))


def _added(name: str, feature: _BarFeature) -> Callable[[Pipeline, bool], Pipeline]:
    """Plant a further column of that name."""

    def plant(pipeline: Pipeline, wrong: bool) -> Pipeline:
        def features(settings: PipelineSettings, market: MarketTables) -> pl.DataFrame:
            bars = _as_closed(market.candles)
            values = feature(settings, market, bars, wrong).select("symbol", "ts", pl.col("value").alias(name))
            computed = pipeline.features(settings, market)
            joined = computed.join(values, on=FEATURES.key, how="left", maintain_order="left")
            return joined.with_columns(pl.col(name).fill_null(float("nan")))

        return replace(pipeline, features=features)

    return plant


def _funding_intervals(_: PipelineSettings, market: MarketTables, wrong: bool) -> MarketTables:
    early = pl.duration(hours=8 if wrong else 0)
    known_at = (pl.col("known_at") - early).cast(market.funding.schema["known_at"])
    return replace(market, funding=market.funding.with_columns(known_at))


def _one_revision(settings: PipelineSettings, market: MarketTables, wrong: bool) -> MarketTables:
    if not wrong:
        return replace(market, candles=_as_closed(market.candles))
    closed = (pl.col("ts") + pl.duration(milliseconds=settings.timeframe.milliseconds)).cast(
        market.candles.schema["ts"]
    )
    return replace(market, candles=newest_revisions(market.candles).with_columns(known_at=closed))


def _without_gaps(settings: PipelineSettings, market: MarketTables, wrong: bool) -> MarketTables:
    """A bar for every symbol and open time there is: flat at the price before it, or else after it."""
    bars = _as_closed(market.candles)
    grid = bars.select("symbol").unique().join(bars.select("ts").unique(), how="cross")
    whole = grid.join(bars, on=["symbol", "ts"], how="left").sort("symbol", "ts")
    price = pl.col("open").backward_fill() if wrong else pl.col("close").forward_fill()
    closed = (pl.col("ts") + pl.duration(milliseconds=settings.timeframe.milliseconds)).cast(bars.schema["ts"])
    filled = whole.with_columns(
        *(pl.coalesce(name, price.over("symbol")).alias(name) for name in ("open", "high", "low", "close")),
        pl.col("volume").fill_null(0.0),
        pl.col("revision").fill_null(0),
        known_at=closed,
    )
    return replace(market, candles=filled.drop_nulls("close"))


def _read(reading: _Reading) -> Callable[[Pipeline, bool], Pipeline]:
    """Plant another reading of the market before features are computed."""

    def plant(pipeline: Pipeline, wrong: bool) -> Pipeline:
        return replace(
            pipeline, features=lambda settings, market: pipeline.features(settings, reading(settings, market, wrong))
        )

    return plant


def _filled_values(pipeline: Pipeline, wrong: bool) -> Pipeline:
    def features(settings: PipelineSettings, market: MarketTables) -> pl.DataFrame:
        computed = pipeline.features(settings, market)
        known = pl.col("sma_gap_20").fill_nan(None)
        filled = known.backward_fill() if wrong else known.forward_fill()
        return computed.with_columns(filled.over("symbol").fill_null(float("nan")))

    return replace(pipeline, features=features)


def _mutation(name: str, mistake: str, plant: Callable[[Pipeline, bool], Pipeline]) -> Mutation:
    return Mutation(name, "features", mistake, (CAUGHT_BY,), plant)


MUTATIONS: Sequence[Mutation] = (
    _mutation("negative_shift", "the return of the bar that follows", _added("next_return", _next_return)),
    _mutation("centred_window", "a mean over bars on both sides", _added("centred_mean", _centred_mean)),
    _mutation("whole_sample_score", "a z-score by mean and deviation of the whole sample", _added("score", _score)),
    _mutation(
        "open_stamp_join",
        "an hourly bar joined by its open time, before it has closed",
        _added("hourly_return", _hourly_return),
    ),
    _mutation(
        "target_fitted_normaliser",
        "a return divided by the deviation of labels that have not ended",
        _added("target_scaled", _target_scaled),
    ),
    _mutation("whole_day_extreme", "the highest price of a day that has not ended", _added("day_high", _day_high)),
    _mutation("leader_of_the_next_bar", "the leading market one bar ahead", _added("leader", _leader_return)),
    _mutation("index_on_its_own_day", "a daily index used on the day it describes", _added("index", _index_value)),
    _mutation(
        "whole_sample_regime", "a volatility regime by quantiles of the whole sample", _added("rough", _rough_regime)
    ),
    _mutation("funding_known_early", "a settlement used from the begin of its interval", _read(_funding_intervals)),
    _mutation("revision_known_early", "a correction used before it was published", _read(_one_revision)),
    _mutation("gap_filled_from_behind", "a missing bar filled with the price after it", _read(_without_gaps)),
    _mutation("backfilled_value", "a missing value filled with the next one there is", _filled_values),
)
