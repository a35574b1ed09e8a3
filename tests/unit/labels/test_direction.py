"""Labels: the direction of the close at the horizon, and none where there is no such close."""

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from levibot_core.labels.definition import DirectionLabel
from levibot_core.labels.direction import direction_labels
from levibot_core.market.timeframe import Timeframe
from levibot_core.schemas import TRAINING_ROWS

FIVE_MINUTES = Timeframe.parse("5m")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(horizon=st.integers(1, 45), gaps=st.sets(st.integers(0, 39)), equal=st.sets(st.integers(0, 39)))
def test_labels_are_those_of_a_loop_over_the_closes_there_are(
    make_market: Callable[..., Any], horizon: int, gaps: set[int], equal: set[int]
) -> None:
    candles = make_market(bars=40).candles
    opens = candles["ts"].unique().sort().to_list()
    candles = candles.filter(~pl.col("ts").is_in([opens[bar] for bar in gaps])).with_columns(
        close=pl.when(pl.col("ts").is_in([opens[bar] for bar in equal])).then(100.0).otherwise("close")
    )
    closes = {(symbol, opens.index(ts)): close for symbol, ts, close in candles.select("symbol", "ts", "close").rows()}
    expected = [
        (symbol, opens[bar], int(closes[symbol, bar + horizon] > close), closes[symbol, bar + horizon] / close - 1.0)
        for (symbol, bar), close in sorted(closes.items())
        if (symbol, bar + horizon) in closes
    ]
    labels = direction_labels(candles.sample(fraction=1.0, shuffle=True, seed=1), FIVE_MINUTES, horizon)
    assert labels.drop("label_end").rows() == expected
    assert (labels["label_end"] - labels["ts"]).dt.total_milliseconds().unique().to_list() == (
        [(horizon + 1) * FIVE_MINUTES.milliseconds] if expected else []
    )


def test_the_last_bars_have_no_label(make_market: Callable[..., Any]) -> None:
    candles = make_market(bars=40).candles
    labels = direction_labels(candles, FIVE_MINUTES, 12)
    assert labels.height == 2 * 28
    assert labels["label_end"].max() == candles["known_at"].max()


def test_columns_have_the_types_of_the_catalogue(make_market: Callable[..., Any]) -> None:
    labels = direction_labels(make_market(bars=5).candles, FIVE_MINUTES, 1)
    assert dict(labels.schema) == {name: TRAINING_ROWS.polars_schema[name] for name in labels.columns}


def test_a_horizon_of_no_bar_is_refused(make_market: Callable[..., Any]) -> None:
    with pytest.raises(ValidationError):
        direction_labels(make_market(bars=5).candles, FIVE_MINUTES, 0)
    assert DirectionLabel(horizon_bars=12).model_dump() == {"kind": "direction", "horizon_bars": 12}
