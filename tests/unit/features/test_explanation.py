"""The explanation of one value: where it looks, what it sees, and how unusual it is."""

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from levibot_core.features.compute import compute_features
from levibot_core.features.explanation import Explanation, explain
from levibot_core.features.registry import FeatureSpec, load_registry
from levibot_core.market.timeframe import Timeframe

V2 = load_registry("v2")
SPECS = {spec.name: spec for spec in V2.features}
FIVE_MINUTES = Timeframe.parse("5m")
ETH = pl.col("symbol") == "ETH/USDT"
BARS = 1_100
# 2025-01-04 19:35 UTC: 20 minutes before a 4h bar closes.
LAST_OPEN = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(minutes=5 * (BARS - 1))


@pytest.fixture(scope="module")
def market(make_market: Callable[..., Any]) -> Any:
    return make_market(bars=BARS)


@pytest.fixture(scope="module")
def explained(market: Any, fear_greed: pl.DataFrame) -> Callable[..., Explanation]:
    def explain_last(spec: FeatureSpec, candles: pl.DataFrame = market.candles) -> Explanation:
        inputs = (candles, market.funding, fear_greed)
        if candles is not market.candles:
            history = compute_features(candles, market.funding, V2, FIVE_MINUTES, fear_greed=fear_greed)
        else:
            history = whole
        return explain(spec, history.filter(ETH).select("symbol", "ts", "known_at", spec.name), *inputs, FIVE_MINUTES)

    whole = compute_features(market.candles, market.funding, V2, FIVE_MINUTES, fear_greed=fear_greed)
    return explain_last


def milliseconds(instant: datetime) -> int:
    return int(instant.timestamp() * 1000)


def test_a_window_reaches_from_the_open_of_its_first_bar_to_the_close_of_its_last(
    market: Any, explained: Callable[..., Explanation]
) -> None:
    found = explained(SPECS["log_return_3"])
    closes = market.candles.filter(ETH)["close"]
    assert (found.symbol, found.decided_ms) == ("ETH/USDT", milliseconds(LAST_OPEN + timedelta(minutes=5)))
    assert found.window_to_ms == found.decided_ms
    assert found.window_from_ms == milliseconds(LAST_OPEN - timedelta(minutes=15))
    assert found.inputs == {"log_close": pytest.approx(math.log(closes[-1]))}
    assert found.value == pytest.approx(math.log(closes[-1] / closes[-4]))
    assert found.why_missing is None


def test_a_higher_timeframe_is_explained_by_its_newest_closed_bar(
    market: Any, explained: Callable[..., Explanation]
) -> None:
    found = explained(SPECS["atr_14_1h"])
    closed = LAST_OPEN.replace(minute=0)
    assert found.window_to_ms == milliseconds(closed)
    assert found.window_from_ms == milliseconds(closed - timedelta(hours=15))
    last_bar = market.candles.filter(ETH, pl.col("ts") < closed)
    assert found.inputs["close"] == last_bar["close"][-1]


def test_every_feature_has_its_inputs_and_looks_no_further_than_its_warm_up(
    explained: Callable[..., Explanation],
) -> None:
    for spec in V2.features:
        found = explained(spec)
        assert list(found.inputs) == list(dict.fromkeys(spec.inputs))
        assert None not in (found.value, *found.inputs.values()), spec.name
        assert found.decided_ms - found.window_from_ms <= spec.warm_up * FIVE_MINUTES.milliseconds, spec.name


def test_how_unusual_a_value_is_is_its_share_among_those_that_have_one(explained: Callable[..., Explanation]) -> None:
    spec = SPECS["weekend"]
    on_saturday = explained(spec)
    saturday_bars = BARS - 3 * 288
    assert on_saturday.value == 1.0
    assert on_saturday.share_below == pytest.approx((BARS - saturday_bars + saturday_bars / 2) / BARS)
    assert on_saturday.compared == BARS
    assert explained(SPECS["log_return_288"]).compared == BARS - 288


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("sma_gap_20", ETH & (pl.col("ts") == LAST_OPEN - timedelta(minutes=50)), "is missing"),
        ("log_return_288", pl.col("ts") < LAST_OPEN - timedelta(hours=10), "before the first bar"),
    ],
)
def test_a_value_that_is_missing_is_explained_by_why(
    market: Any, explained: Callable[..., Explanation], name: str, change: pl.Expr, words: str
) -> None:
    found = explained(SPECS[name], market.candles.filter(~change))
    assert found.value is None
    assert found.share_below is None
    assert words in str(found.why_missing)


def test_a_value_that_is_not_defined_says_so(market: Any, explained: Callable[..., Explanation]) -> None:
    still = market.candles.with_columns(volume=pl.lit(0.0))
    assert "has no value" in str(explained(SPECS["volume_ratio_20"], still).why_missing)
