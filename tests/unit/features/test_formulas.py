"""Every feature of v1 against its formula, written out in plain Python for one bar."""

import math
import statistics
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_series_equal

from levibot_core.features.compute import compute_features
from levibot_core.features.registry import load_registry
from levibot_core.market.timeframe import Timeframe

TIMEFRAME = Timeframe.parse("5m")
ROW = 350


def exponential_mean(values: list[float], span: int, length: int, end: int) -> float:
    weights = [(1 - 2 / (span + 1)) ** lag for lag in range(length)]
    return sum(weight * values[end - lag] for lag, weight in enumerate(weights)) / sum(weights)


def expected_values(bars: pl.DataFrame, leader: pl.DataFrame, funding: pl.DataFrame) -> dict[str, float]:
    opened, high, low, close, volume = (list[float](bars[name]) for name in ("open", "high", "low", "close", "volume"))
    leading = list[float](leader["close"])
    t = ROW
    returns = [math.nan, *(math.log(later / before) for before, later in pairwise(close))]

    def last(values: list[float], window: int) -> list[float]:
        return values[t - window + 1 : t + 1]

    def gap(window: int) -> float:
        return close[t] / statistics.fmean(last(close, window)) - 1

    def volatility(window: int) -> float:
        return math.sqrt(statistics.fmean(r * r for r in last(returns, window)))

    def volume_zscore(window: int) -> float:
        return (volume[t] - statistics.fmean(last(volume, window))) / statistics.pstdev(last(volume, window))

    def macd(end: int) -> float:
        return exponential_mean(close, 12, 130, end) - exponential_mean(close, 26, 130, end)

    moves = [close[i] - close[i - 1] for i in range(t - 13, t + 1)]
    rises, falls = sum(m for m in moves if m > 0), -sum(m for m in moves if m < 0)
    ranges = [
        max(high[i] - low[i], abs(high[i] - close[i - 1]), abs(low[i] - close[i - 1])) for i in range(t - 13, t + 1)
    ]
    middle, spread = statistics.fmean(last(close, 20)), statistics.pstdev(last(close, 20))
    signal = exponential_mean([macd(i) for i in range(t - 44, t + 1)], 9, 45, 44)
    day_low, day_high = min(last(low, 288)), max(last(high, 288))
    at = bars["ts"][t]
    day = (at.hour + at.minute / 60) / 24
    week = (at.weekday() + day) / 7
    known = bars["known_at"][t]
    rates = funding.filter(pl.col("known_at") <= known).sort("ts", descending=True)
    return {
        **{f"log_return_{n}": math.log(close[t] / close[t - n]) for n in (1, 3, 6, 12, 24, 48, 288)},
        **{f"sma_gap_{n}": gap(n) for n in (20, 50, 200)},
        "ema_gap_12": close[t] / exponential_mean(close, 12, 60, t) - 1,
        "ema_gap_26": close[t] / exponential_mean(close, 26, 130, t) - 1,
        **{f"realized_volatility_{n}": volatility(n) for n in (12, 48, 288)},
        "rsi_14": 100 * rises / (rises + falls),
        "atr_14": statistics.fmean(ranges) / close[t],
        "bollinger_position_20": (close[t] - (middle - 2 * spread)) / (4 * spread),
        **{f"volume_zscore_{n}": volume_zscore(n) for n in (20, 50)},
        "volume_ratio_20": volume[t] / statistics.fmean(last(volume, 20)),
        "macd_12_26": macd(t) / close[t],
        "macd_signal_12_26_9": signal / close[t],
        "macd_histogram_12_26_9": (macd(t) - signal) / close[t],
        "bar_range": (high[t] - low[t]) / close[t],
        "parkinson_volatility_20": math.sqrt(
            statistics.fmean(math.log(h / x) ** 2 for h, x in zip(last(high, 20), last(low, 20), strict=True))
            / (4 * math.log(2))
        ),
        "close_location": (close[t] - low[t]) / (high[t] - low[t]),
        "upper_shadow": (high[t] - max(opened[t], close[t])) / close[t],
        "lower_shadow": (min(opened[t], close[t]) - low[t]) / close[t],
        "range_position_288": (close[t] - day_low) / (day_high - day_low),
        "time_of_day_sin": math.sin(2 * math.pi * day),
        "time_of_day_cos": math.cos(2 * math.pi * day),
        "day_of_week_sin": math.sin(2 * math.pi * week),
        "day_of_week_cos": math.cos(2 * math.pi * week),
        **{f"leader_return_{n}": math.log(leading[t] / leading[t - n]) for n in (1, 3, 12)},
        "funding_rate_last": rates["rate"][0],
        "funding_rate_sum_3": sum(rates["rate"][:3]),
        "funding_hours_since": (known - rates["ts"][0]).total_seconds() / 3600,
    }


@pytest.mark.parametrize("symbol", ["BTC/USDT", "ETH/USDT"])
def test_every_feature_is_what_its_formula_says(make_market: Callable[..., Any], symbol: str) -> None:
    market = make_market(bars=ROW + 40)
    feature_set = load_registry("v1")
    computed = compute_features(market.candles, market.funding, feature_set, TIMEFRAME)
    bars, leader, funding = (
        frame.filter(pl.col("symbol") == name)
        for frame, name in ((market.candles, symbol), (market.candles, "BTC/USDT"), (market.funding, symbol))
    )
    row = computed.filter(pl.col("symbol") == symbol).row(ROW, named=True)
    expected = expected_values(bars, leader, funding)
    assert set(expected) == set(feature_set.names)
    for name, value in expected.items():
        assert row[name] == pytest.approx(value, rel=1e-9, abs=1e-12), name
    assert row["ts"] == bars["ts"][ROW]
    assert row["known_at"] == bars["known_at"][ROW]


def test_features_are_free_of_the_price_and_volume_scale(make_market: Callable[..., Any]) -> None:
    market = make_market(bars=ROW)
    scaled = market.candles.with_columns(
        *(pl.col(name) * 1024.0 for name in ("open", "high", "low", "close")), volume=pl.col("volume") * 4096.0
    )
    feature_set = load_registry("v1")
    one, other = (
        compute_features(candles, market.funding, feature_set, TIMEFRAME) for candles in (market.candles, scaled)
    )
    for name in feature_set.names:
        assert_series_equal(one[name], other[name], rel_tol=1e-9, abs_tol=1e-11)
