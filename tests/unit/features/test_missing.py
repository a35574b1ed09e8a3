"""Why a row is not whole."""

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from levibot_core.features.compute import compute_features
from levibot_core.features.missing import missing_reasons
from levibot_core.features.registry import load_registry
from levibot_core.market.timeframe import Timeframe

V1 = load_registry("v1")
FIVE_MINUTES = Timeframe.parse("5m")
ETH = pl.col("symbol") == "ETH/USDT"


@pytest.fixture(scope="module")
def market(make_market: Callable[..., Any]) -> Any:
    return make_market(bars=700)


def reasons(candles: pl.DataFrame, funding: pl.DataFrame) -> pl.DataFrame:
    features = compute_features(candles, funding, V1, FIVE_MINUTES)
    found = missing_reasons(features, candles, funding, V1, FIVE_MINUTES)
    incomplete = features.filter(pl.any_horizontal(pl.col(V1.names).is_nan()))
    assert found.select("symbol", "ts").equals(incomplete.select("symbol", "ts"))
    return found


def test_the_first_bars_lack_history(market: Any) -> None:
    found = reasons(market.candles, market.funding)
    assert found["reason"].value_counts().rows() == [("warm_up: log_return", 2 * (V1.warm_up - 1))]


def test_a_gap_is_told_from_a_late_listing(market: Any) -> None:
    opens = market.candles["ts"].unique().sort()
    listed_late = market.candles.filter(~ETH | (pl.col("ts") >= opens[100]))
    holed = listed_late.filter(~ETH | (pl.col("ts") != opens[500]))
    found = reasons(holed, market.funding).filter(ETH)
    counts = dict(found["reason"].value_counts().iter_rows())
    assert counts == {"warm_up: log_return": V1.warm_up - 1, "gap: log_return": 699 - 500}
    assert found.filter(pl.col("reason") == "gap: log_return")["ts"].min() == opens[501]


def test_a_gap_of_the_leader_reaches_the_others_through_its_features_only(market: Any) -> None:
    opens = market.candles["ts"].unique().sort()
    holed = market.candles.filter(ETH | (pl.col("ts") != opens[500]))
    found = reasons(holed, market.funding).filter(ETH, pl.col("ts") >= opens[V1.warm_up])
    assert found["reason"].unique().to_list() == ["gap: log_return"]
    assert found.height == 13


def test_a_value_without_a_definition_is_neither_warm_up_nor_gap(market: Any) -> None:
    opens = market.candles["ts"].unique().sort()
    no_volume = pl.when(ETH & pl.col("ts").is_between(opens[400], opens[419])).then(0.0).otherwise("volume")
    found = reasons(market.candles.with_columns(volume=no_volume), market.funding).filter(pl.col("ts") >= opens[300])
    assert found.rows() == [("ETH/USDT", opens[419], "undefined: zscore")]
    unfunded = reasons(market.candles, market.funding.filter(~ETH)).filter(pl.col("ts") >= opens[300])
    assert unfunded["reason"].value_counts().rows() == [("undefined: fresh_sum", 400)]
