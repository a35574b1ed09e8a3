"""Every feature of v2 against its formula, written out in plain Python for single bars of an invented market."""

import math
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_series_equal

from levibot_core.features.compute import compute_features
from levibot_core.features.registry import load_registry
from levibot_core.market.timeframe import Timeframe

V2 = load_registry("v2")
TIMEFRAME = Timeframe.parse("5m")
LEADER = "BTC/USDT"
BARS = 1_540
HIGHER = {"15m": 3, "1h": 12, "4h": 48}
# Saturday 19:55, whose close is that of a bar of 15m, 1h and 4h too; Sunday 00:45 and Monday 07:35, inside such bars.
ROWS = (1_103, 1_161, 1_531)
SHORT = (5, 10, 20, 30, 60)


class Series:
    """Prices and volumes up to one bar, oldest first, as plain lists."""

    def __init__(self, prices: Mapping[str, Sequence[float]]) -> None:
        self.open, self.high, self.low, self.close, self.volume = (
            list(prices[name]) for name in ("open", "high", "low", "close", "volume")
        )
        bars = list(zip(self.high, self.low, self.close, strict=True))
        self.changes = [after - before for before, after in pairwise(self.close)]
        self.returns = [math.log(after / before) for before, after in pairwise(self.close)]
        self.typical = [(high + low + close) / 3 for high, low, close in bars]
        self.true_ranges = [
            max(high - low, abs(high - before), abs(low - before)) for (_, _, before), (high, low, _) in pairwise(bars)
        ]

    def longer(self, bars: int) -> "Series":
        """Bars of that many of these, those that have closed; the first begins with the first of these."""
        begins = range(0, len(self.close) - bars + 1, bars)
        return Series(
            {
                "open": [self.open[begin] for begin in begins],
                "high": [max(self.high[begin : begin + bars]) for begin in begins],
                "low": [min(self.low[begin : begin + bars]) for begin in begins],
                "close": [self.close[begin + bars - 1] for begin in begins],
                "volume": [sum(self.volume[begin : begin + bars]) for begin in begins],
            }
        )


def log_return(own: Series, window: int) -> float:
    return math.log(own.close[-1] / own.close[-1 - window])


def gap_to_mean(own: Series, window: int) -> float:
    return own.close[-1] / statistics.fmean(own.close[-window:]) - 1


def exponential_mean(values: Sequence[float], span: int, length: int) -> float:
    weights = [(1 - 2 / (span + 1)) ** lag for lag in range(length)]
    return sum(weight * values[-1 - lag] for lag, weight in enumerate(weights)) / sum(weights)


def line(values: Sequence[float]) -> tuple[float, float]:
    """Slope of the least-squares line and its value at the last of them."""
    slope, intercept = statistics.linear_regression(range(len(values)), values)
    return slope, intercept + slope * (len(values) - 1)


def slope(own: Series, window: int) -> float:
    return line(own.close[-window:])[0] / own.close[-1]


def root_mean_square(values: Sequence[float]) -> float:
    return math.sqrt(statistics.fmean(value * value for value in values))


def zscore(values: Sequence[float]) -> float:
    return (values[-1] - statistics.fmean(values)) / statistics.pstdev(values)


def gain_share(changes: Sequence[float]) -> float:
    rises = sum(change for change in changes if change > 0)
    falls = -sum(change for change in changes if change < 0)
    return rises / (rises + falls)


def mean_true_range(own: Series, window: int) -> float:
    return statistics.fmean(own.true_ranges[-window:]) / own.close[-1]


def range_position(own: Series, window: int) -> float:
    lowest, highest = min(own.low[-window:]), max(own.high[-window:])
    return (own.close[-1] - lowest) / (highest - lowest)


def bar_range(own: Series) -> float:
    return (own.high[-1] - own.low[-1]) / own.close[-1]


def bars_since(values: Sequence[float], extreme: float) -> int:
    return list(reversed(values)).index(extreme)


def quantile(values: Sequence[float], share: float) -> float:
    """Interpolated linearly between the two nearest of the ordered values."""
    ordered = sorted(values)
    below, between = divmod(share * (len(ordered) - 1), 1)
    above = min(int(below) + 1, len(ordered) - 1)
    return ordered[int(below)] * (1 - between) + ordered[above] * between


def bar_shape(own: Series) -> dict[str, float]:
    opened, high, low, close = own.open[-1], own.high[-1], own.low[-1], own.close[-1]
    return {
        "bar_range": bar_range(own),
        "close_location": (close - low) / (high - low),
        "upper_shadow": (high - max(opened, close)) / close,
        "lower_shadow": (min(opened, close) - low) / close,
        "body": close / opened - 1,
        "body_share": (close - opened) / (high - low),
        "upper_shadow_share": (high - max(opened, close)) / (high - low),
        "lower_shadow_share": (min(opened, close) - low) / (high - low),
        "centre_gap": (2 * close - high - low) / opened,
        "open_gap": opened / close - 1,
        "high_gap": high / close - 1,
        "low_gap": low / close - 1,
        "typical_price_gap": (high + low + close) / 3 / close - 1,
    }


def trend(own: Series) -> dict[str, float]:
    close, now = own.close, own.close[-1]
    macd_lines = [
        exponential_mean(close[: len(close) - lag], 12, 130) - exponential_mean(close[: len(close) - lag], 26, 130)
        for lag in reversed(range(45))
    ]
    signal = exponential_mean(macd_lines, 9, 45)
    ema_lengths = {9: 45, 12: 60, 20: 100, 21: 105, 26: 130, 50: 250, 55: 275, 200: 1000}
    return {
        **{f"log_return_{n}": log_return(own, n) for n in (1, 3, 5, 6, 10, 12, 20, 24, 30, 48, 60, 288)},
        **{f"sma_gap_{n}": gap_to_mean(own, n) for n in (*SHORT, 50, 200)},
        **{f"ema_gap_{n}": now / exponential_mean(close, n, length) - 1 for n, length in ema_lengths.items()},
        "macd_12_26": macd_lines[-1] / now,
        "macd_signal_12_26_9": signal / now,
        "macd_histogram_12_26_9": (macd_lines[-1] - signal) / now,
        **{f"slope_{n}": slope(own, n) for n in SHORT},
        **{f"r_squared_{n}": statistics.correlation(range(n), close[-n:]) ** 2 for n in SHORT},
        **{f"residual_{n}": (now - line(close[-n:])[1]) / now for n in SHORT},
        **{f"efficiency_{n}": (now - close[-1 - n]) / sum(map(abs, own.changes[-n:])) for n in (20, 60)},
    }


def dispersion(own: Series) -> dict[str, float]:
    close, now = own.close, own.close[-1]
    middle, deviation = statistics.fmean(close[-20:]), statistics.pstdev(close[-20:])
    log_ranges = [math.log(high / low) for high, low in zip(own.high, own.low, strict=True)]
    newest = len(own.returns)
    recent = [root_mean_square(own.returns[end - 12 : end]) for end in range(newest - 287, newest + 1)]
    below, equal = sum(value < recent[-1] for value in recent), sum(value == recent[-1] for value in recent)
    return {
        **{f"realized_volatility_{n}": root_mean_square(own.returns[-n:]) for n in (12, 20, 48, 288)},
        "volatility_rank_288": (below + equal / 2) / 288,
        "parkinson_volatility_20": root_mean_square(log_ranges[-20:]) / math.sqrt(4 * math.log(2)),
        "atr_14": mean_true_range(own, 14),
        "bollinger_position_20": (now - (middle - 2 * deviation)) / (4 * deviation),
        **{f"price_deviation_{n}": statistics.pstdev(close[-n:]) / now for n in (*SHORT, 21)},
        **{f"price_zscore_{n}": zscore(close[-n:]) for n in (20, 60)},
        **{f"return_zscore_{n}": zscore(own.returns[-n:]) for n in (5, 20)},
    }


def extremes(own: Series) -> dict[str, float]:
    now = own.close[-1]
    values = {f"range_position_{n}": range_position(own, n) for n in (*SHORT, 288)}
    for n in SHORT:
        high, low, close = own.high[-n:], own.low[-n:], own.close[-n:]
        since_highest, since_lowest = bars_since(high, max(high)), bars_since(low, min(low))
        below, equal = sum(value < now for value in close), sum(value == now for value in close)
        values |= {
            f"highest_gap_{n}": max(high) / now - 1,
            f"lowest_gap_{n}": min(low) / now - 1,
            f"since_highest_{n}": since_highest / n,
            f"since_lowest_{n}": since_lowest / n,
            f"order_of_extremes_{n}": (since_lowest - since_highest) / n,
            f"rank_{n}": (below + equal / 2) / n,
            f"upper_quantile_gap_{n}": quantile(close, 0.8) / now - 1,
            f"lower_quantile_gap_{n}": quantile(close, 0.2) / now - 1,
        }
    return values


def rises_and_falls(own: Series) -> dict[str, float]:
    values = {f"rsi_{n}": 100 * gain_share(own.changes[-n:]) for n in (7, 14)}
    for n in SHORT:
        rises, falls = sum(change > 0 for change in own.changes[-n:]), sum(change < 0 for change in own.changes[-n:])
        values |= {
            f"rise_share_{n}": rises / n,
            f"rise_balance_{n}": (rises - falls) / n,
            f"gain_share_{n}": gain_share(own.changes[-n:]),
        }
    return values


def volume(own: Series) -> dict[str, float]:
    amounts, now = own.volume, own.volume[-1]
    changes = [after - before for before, after in pairwise(amounts)]
    logarithms = [math.log(1 + amount) for amount in amounts]
    log_changes = [after - before for before, after in pairwise(logarithms)]
    moves = [abs(size) * amount for size, amount in zip(own.returns, amounts[1:], strict=True)]
    values = {f"volume_zscore_{n}": zscore(amounts[-n:]) for n in (20, 50)}
    for n in SHORT:
        values |= {
            f"volume_ratio_{n}": now / statistics.fmean(amounts[-n:]),
            f"volume_variation_{n}": statistics.pstdev(amounts[-n:]) / statistics.fmean(amounts[-n:]),
            f"volume_gain_share_{n}": gain_share(changes[-n:]),
            f"move_volume_variation_{n}": statistics.pstdev(moves[-n:]) / statistics.fmean(moves[-n:]),
            f"close_volume_correlation_{n}": statistics.correlation(own.close[-n:], logarithms[-n:]),
            f"return_volume_correlation_{n}": statistics.correlation(own.returns[-n:], log_changes[-n:]),
        }
    for n in (20, 60):
        traded = sum(price * amount for price, amount in zip(own.typical[-n:], amounts[-n:], strict=True))
        by_change = list(zip(own.changes[-n:], amounts[-n:], strict=True))
        rising = sum(amount for change, amount in by_change if change > 0)
        falling = sum(amount for change, amount in by_change if change < 0)
        values |= {
            f"vwap_gap_{n}": own.close[-1] / (traded / sum(amounts[-n:])) - 1,
            f"signed_volume_share_{n}": (rising - falling) / sum(amounts[-n:]),
        }
    return values


def leading_market(own: Series, leader: Series) -> dict[str, float]:
    ratios = [math.log(price / leading) for price, leading in zip(own.close, leader.close, strict=True)]
    values = {
        **{f"leader_return_{n}": log_return(leader, n) for n in (1, 3, 6, 12, 24, 48, 288)},
        **{f"leader_return_lag_{n}": leader.returns[-1 - n] for n in (1, 2, 3)},
        "leader_realized_volatility_48": root_mean_square(leader.returns[-48:]),
        **{f"relative_return_{n}": log_return(own, n) - log_return(leader, n) for n in (3, 12, 48, 288)},
        **{f"leader_ratio_gap_{n}": ratios[-1] - statistics.fmean(ratios[-n:]) for n in (20, 60, 288)},
    }
    for n in (60, 288):
        returns, leading = own.returns[-n:], leader.returns[-n:]
        values[f"leader_correlation_{n}"] = statistics.correlation(returns, leading)
        values[f"leader_beta_{n}"] = statistics.linear_regression(leading, returns).slope
    return values


def published(decided: datetime, funding: pl.DataFrame, fear_greed: pl.DataFrame) -> dict[str, float]:
    """Funding and the fear and greed index, from what was known at the decision time."""
    settled = sorted((row["ts"], row["rate"]) for row in funding.to_dicts() if row["known_at"] <= decided)
    index = {row["ts"]: row["value"] / 100 for row in fear_greed.to_dicts() if row["known_at"] <= decided}
    newest = max(index)
    days = [index[newest - timedelta(days=before)] for before in range(8)]
    return {
        "funding_rate_last": settled[-1][1],
        "funding_rate_sum_3": sum(rate for _, rate in settled[-3:]),
        "funding_hours_since": (decided - settled[-1][0]).total_seconds() / 3600,
        "funding_rate_change": settled[-1][1] - settled[-2][1],
        "fear_greed": days[0],
        "fear_greed_mean_7": statistics.fmean(days[:7]),
        "fear_greed_change_1": days[0] - days[1],
        "fear_greed_change_7": days[0] - days[7],
    }


def calendar(opened: datetime) -> dict[str, float]:
    day = (opened.hour + opened.minute / 60) / 24
    week = (opened.weekday() + day) / 7
    return {
        "time_of_day_sin": math.sin(2 * math.pi * day),
        "time_of_day_cos": math.cos(2 * math.pi * day),
        "day_of_week_sin": math.sin(2 * math.pi * week),
        "day_of_week_cos": math.cos(2 * math.pi * week),
        "session_asia": float(0 <= opened.hour < 8),
        "session_europe": float(7 <= opened.hour < 16),
        "session_america": float(13 <= opened.hour < 22),
        "weekend": float(opened.strftime("%A") in ("Saturday", "Sunday")),
    }


def higher_timeframe(own: Series, name: str) -> dict[str, float]:
    values = {
        "log_return_1": log_return(own, 1),
        "log_return_6": log_return(own, 6),
        "sma_gap_20": gap_to_mean(own, 20),
        "slope_20": slope(own, 20),
        "rsi_14": 100 * gain_share(own.changes[-14:]),
        "atr_14": mean_true_range(own, 14),
        "realized_volatility_20": root_mean_square(own.returns[-20:]),
        "range_position_20": range_position(own, 20),
        "volume_zscore_20": zscore(own.volume[-20:]),
        "bar_range": bar_range(own),
    }
    return {f"{key}_{name}": value for key, value in values.items()}


@pytest.fixture(scope="module")
def market(make_market: Callable[..., Any]) -> Any:
    return make_market(bars=BARS)


@pytest.fixture(scope="module")
def computed(market: Any, fear_greed: pl.DataFrame) -> pl.DataFrame:
    return compute_features(market.candles, market.funding, V2, TIMEFRAME, fear_greed=fear_greed)


@pytest.mark.parametrize("symbol", [LEADER, "ETH/USDT"])
@pytest.mark.parametrize("number", ROWS)
def test_every_feature_is_what_its_formula_says(
    market: Any, computed: pl.DataFrame, fear_greed: pl.DataFrame, symbol: str, number: int
) -> None:
    bars, leading = (market.candles.filter(symbol=name).head(number + 1) for name in (symbol, LEADER))
    own, leader = (Series(frame.to_dict(as_series=False)) for frame in (bars, leading))
    opened = bars["ts"][-1]
    decided = opened + timedelta(minutes=5)
    expected = {
        **bar_shape(own),
        **trend(own),
        **dispersion(own),
        **extremes(own),
        **rises_and_falls(own),
        **volume(own),
        **leading_market(own, leader),
        **published(decided, market.funding.filter(symbol=symbol), fear_greed),
        **calendar(opened),
    }
    assert (bars["ts"][0].hour, bars["ts"][0].minute) == (0, 0), "longer bars begin with the first bar"
    for name, bars_in_one in HIGHER.items():
        expected |= higher_timeframe(own.longer(bars_in_one), name)
    row = computed.filter(symbol=symbol).row(number, named=True)

    assert set(expected) == set(V2.names)
    assert {
        name: (row[name], value)
        for name, value in expected.items()
        if row[name] != pytest.approx(value, rel=1e-9, abs=1e-12)
    } == {}
    assert (row["ts"], row["known_at"]) == (opened, decided)


def called_undefined(condition: str) -> set[str]:
    return {spec.name for spec in V2.features if re.search(f"undefined ({condition})", spec.formula)}


def nan_names(features: pl.DataFrame) -> set[str]:
    return {name for name, value in features.row(-1, named=True).items() if name in V2.names and math.isnan(value)}


def test_a_feature_has_no_value_where_nothing_moves_exactly_if_its_formula_says_so(
    market: Any, fear_greed: pl.DataFrame
) -> None:
    still = market.candles.with_columns(
        *(pl.lit(100.0).alias(name) for name in ("open", "high", "low", "close")), volume=pl.lit(0.0)
    )
    features = compute_features(still, market.funding, V2, TIMEFRAME, fear_greed=fear_greed)
    assert nan_names(features) == called_undefined("where")


def test_a_feature_has_no_value_where_nothing_is_published_exactly_if_its_formula_says_so(market: Any) -> None:
    features = compute_features(market.candles, market.funding.clear(), V2, TIMEFRAME)
    assert nan_names(features) == called_undefined("when|beyond")


def test_features_are_free_of_the_scale_of_prices_and_nearly_all_of_that_of_volumes(
    market: Any, computed: pl.DataFrame, fear_greed: pl.DataFrame
) -> None:
    prices = [pl.col(name) * 1024.0 for name in ("open", "high", "low", "close")]
    for scaled, exempt in (
        (market.candles.with_columns(prices), set[str]()),
        # ln(1 + volume) is free of the scale only as far as volumes are large beside 1.
        (market.candles.with_columns(pl.col("volume") * 4096.0), {"log_volume", "log_volume_change"}),
    ):
        other = compute_features(scaled, market.funding, V2, TIMEFRAME, fear_greed=fear_greed)
        for spec in V2.features:
            if exempt.isdisjoint(spec.inputs):
                assert_series_equal(computed[spec.name], other[spec.name], rel_tol=1e-9, abs_tol=1e-11)
