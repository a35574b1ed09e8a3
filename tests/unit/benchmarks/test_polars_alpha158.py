"""The Polars peer computes what Alpha158 says: a comparison with something else would be worth nothing."""

import numpy as np
import polars as pl
import pytest

from benchmarks.market import random_walk
from benchmarks.peers.polars_alpha158 import WINDOWS, alpha158


@pytest.fixture(scope="module")
def candles() -> pl.DataFrame:
    return pl.concat([random_walk(symbol, 90, seed) for seed, symbol in enumerate(("BTC/USDT", "ETH/USDT"))])


@pytest.fixture(scope="module")
def computed(candles: pl.DataFrame) -> pl.DataFrame:
    return alpha158(candles)


def test_there_are_158_features_per_row_and_full_windows_give_values(
    candles: pl.DataFrame, computed: pl.DataFrame
) -> None:
    assert computed.shape == (candles.height, 2 + 158)
    full = computed.filter(pl.int_range(pl.len()).over("symbol") >= max(WINDOWS))
    assert full.drop("symbol", "ts").null_count().sum_horizontal().item() == 0


@pytest.mark.parametrize("window", WINDOWS)
def test_regression_positions_and_quantiles_follow_their_definitions(
    candles: pl.DataFrame, computed: pl.DataFrame, window: int
) -> None:
    rows, row = candles.tail(window), computed.tail(1).row(0, named=True)
    closes, highs, lows = (rows[name].to_numpy() for name in ("close", "high", "low"))
    steps = np.arange(window)
    slope, intercept = np.polyfit(steps, closes, 1)
    expected = {
        "BETA": slope / closes[-1],
        "RESI": (closes[-1] - intercept - slope * steps[-1]) / closes[-1],
        "RSQR": np.corrcoef(steps, closes)[0, 1] ** 2,
        "IMAX": (np.argmax(highs) + 1) / window,
        "IMIN": (np.argmin(lows) + 1) / window,
        "QTLU": np.quantile(closes, 0.8) / closes[-1],
        "RANK": (closes <= closes[-1]).mean(),
    }
    found = {name: row[f"{name}{window}"] for name in expected}
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-12)
