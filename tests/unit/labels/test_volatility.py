import math
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levibot_core.errors import ConfigurationError
from levibot_core.labels.direction import direction_labels
from levibot_core.labels.volatility import realized_volatility
from levibot_core.market.timeframe import Timeframe
from levibot_core.schemas import TIMESTAMP

FIVE_MINUTES = Timeframe.parse("5m")
START_MS = 1_735_689_600_000


def candles(closes: dict[str, dict[int, float]]) -> pl.DataFrame:
    """Closes by symbol and bar."""
    rows = [(symbol, START_MS + bar * 300_000, close) for symbol, bars in closes.items() for bar, close in bars.items()]
    return pl.DataFrame(rows, schema=["symbol", "ts", "close"], orient="row").with_columns(pl.col("ts").cast(TIMESTAMP))


@settings(max_examples=40, deadline=None)
@given(present=st.sets(st.integers(0, 25), min_size=1, max_size=26), horizon=st.integers(1, 6), seed=st.integers(0, 99))
def test_a_label_is_the_root_of_the_squares_of_its_own_bars_and_needs_each_of_them(
    present: set[int], horizon: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    closes = {bar: float(100.0 * math.exp(generator.normal())) for bar in sorted(present)}
    found = realized_volatility(candles({"BTC/USDT": closes}), FIVE_MINUTES, horizon)
    expected = {}
    for bar in closes:
        window = range(bar, bar + horizon + 1)
        if all(each in closes for each in window):
            returns = [math.log(closes[each + 1] / closes[each]) for each in window[:-1]]
            expected[bar] = math.sqrt(sum(each**2 for each in returns))
    bars = ((found["ts"].dt.epoch("ms") - START_MS) // 300_000).to_list()
    assert bars == sorted(expected)
    assert found["realized_volatility"].to_numpy() == pytest.approx(np.array(list(expected.values())))
    assert (found["label_end"] - found["ts"] == timedelta(minutes=5 * (horizon + 1))).all()


def test_it_ends_with_the_label_of_the_direction_and_symbols_stay_apart() -> None:
    closes = {symbol: {bar: 100.0 + bar * step for bar in range(20)} for symbol, step in (("A/B", 1), ("C/D", 2))}
    market = candles(closes).sample(fraction=1.0, shuffle=True, seed=1)
    found, directions = (label(market, FIVE_MINUTES, 5) for label in (realized_volatility, direction_labels))
    assert found.select("symbol", "ts", "label_end").equals(directions.select("symbol", "ts", "label_end"))
    alone = realized_volatility(candles({"C/D": closes["C/D"]}), FIVE_MINUTES, 5)
    assert found.filter(pl.col("symbol") == "C/D").equals(alone)


def test_a_market_that_stands_still_has_no_volatility_and_an_empty_one_no_rows() -> None:
    still = realized_volatility(candles({"A/B": dict.fromkeys(range(4), 7.0)}), FIVE_MINUTES, 2)
    assert still["realized_volatility"].to_list() == [0.0, 0.0]
    empty = realized_volatility(still.select("symbol", "ts", close=pl.lit(1.0)).clear(), FIVE_MINUTES, 2)
    assert empty.schema == still.schema
    with pytest.raises(ConfigurationError, match="at least 1 bar"):
        realized_volatility(empty.rename({"realized_volatility": "close"}), FIVE_MINUTES, 0)
