"""Released versions of the feature set are frozen: neither a definition nor a bit of a value may change.

A failure here means that snapshots and models of that version could no longer be rebuilt. Give what you want to change
a new name and a new version instead.
"""

import hashlib
import math

import numpy as np
import polars as pl
import pytest

from levibot_core.features.compute import compute_features
from levibot_core.features.registry import load_registry
from levibot_core.market.timeframe import Timeframe
from levibot_core.schemas import TIMESTAMP

START_MS = 1_735_689_600_000
BAR_MS = 300_000
BARS = 1_400
DEFINITIONS = {
    "v1": "8d725816420ee824cceb2bdb6021dfa40bb2b9b7d7f70a254fa1bdd338c4b8c1",
    "v2": "cad5867c92e4327aa399d0e81184d6cca44ff0dd98018bec90b7307401d2bd24",
}
VALUES = {
    "v1": "eba4144ef418cd79aa92d8560be9a789e35813d7abd50b9e66619ec104e40e60",
    "v2": "8c8cca92e9aeaf068e95e3d4245e6bc0fbeadb9e91e6d4de6d28c84522bc2128",
}


@pytest.fixture(scope="module")
def candles() -> pl.DataFrame:
    """Two markets made of whole numbers and square roots, which are the same on every machine."""
    return pl.concat([_market("BTC/USDT", 7), _market("ETH/USDT", 11)])


def _market(symbol: str, step: int) -> pl.DataFrame:
    bars = range(BARS)
    close = [1_000.0 + math.sqrt((step * bar * bar) % 9_973) for bar in bars]
    opened = [close[max(bar - 1, 0)] for bar in bars]
    wicks = [((bar * 31 * step) % 17 + 1) / 8 for bar in bars]
    opens = pl.Series([START_MS + bar * BAR_MS for bar in bars])
    return pl.DataFrame(
        {
            "symbol": [symbol] * BARS,
            "ts": opens.cast(TIMESTAMP),
            "open": opened,
            "high": [max(pair) + wick for pair, wick in zip(zip(opened, close, strict=True), wicks, strict=True)],
            "low": [min(pair) - wick for pair, wick in zip(zip(opened, close, strict=True), wicks, strict=True)],
            "close": close,
            "volume": [float((bar * bar * step) % 1_009 + 1) for bar in bars],
            "known_at": (opens + BAR_MS).cast(TIMESTAMP),
        }
    )


@pytest.fixture(scope="module")
def funding() -> pl.DataFrame:
    """Three settlements a day from four days before the first bar."""
    times = pl.Series([START_MS + (number - 12) * 28_800_000 for number in range(27)]).cast(TIMESTAMP)
    rates = [((number * 37) % 101 - 40) / 1e6 for number in range(27)]
    return pl.concat(
        pl.DataFrame({"symbol": [symbol] * 27, "ts": times, "rate": rates, "known_at": times})
        for symbol in ("BTC/USDT", "ETH/USDT")
    )


@pytest.mark.parametrize("version", DEFINITIONS)
def test_the_definitions_of_a_released_version_do_not_change(version: str) -> None:
    assert load_registry(version).sha256 == DEFINITIONS[version]


@pytest.mark.parametrize("version", VALUES)
def test_the_values_of_a_released_version_do_not_change(
    version: str, candles: pl.DataFrame, funding: pl.DataFrame, fear_greed: pl.DataFrame
) -> None:
    feature_set = load_registry(version)
    computed = compute_features(candles, funding, feature_set, Timeframe.parse("5m"), fear_greed=fear_greed)
    values = computed.select(feature_set.names).to_numpy()
    assert not np.isnan(values[BARS - 1]).any()
    assert hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest() == VALUES[version]
