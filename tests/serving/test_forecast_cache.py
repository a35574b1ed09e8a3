from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levibot_core.models.bundle import ModelBundle
from levibot_core.models.ensemble_bundle import MemberForecast
from levibot_core.models.uncertainty import ReturnOutlook
from levibot_core.stores.online import FeatureVector
from levibot_core.stores.online_vector import encode
from levibot_serving.features import NewestFeatures
from levibot_serving.forecast_cache import ForecastCache, SharedForecasts, shared_key
from levibot_serving.metrics import Metrics
from levibot_serving.predictor import Forecast
from levibot_serving.registry import ModelRecord
from levibot_serving.served import ServedModel

BTC = "BTC/USDT"
SAID = Forecast(0.5, None, (), None, None, None, None)
Bundles = Callable[..., ModelBundle]
Vector = Callable[..., FeatureVector]

numbers = st.floats(allow_nan=False, allow_infinity=False)
forecasts = st.builds(
    Forecast,
    probability=st.floats(0, 1),
    bounds=st.none() | st.tuples(st.floats(0, 1), st.floats(0, 1)),
    members=st.lists(st.builds(MemberForecast, st.text(max_size=5), numbers, numbers), max_size=2).map(tuple),
    volatility=st.none() | numbers,
    unpaid=st.none() | st.text(max_size=9),
    outlook=st.none()
    | st.builds(ReturnOutlook, numbers, st.none() | numbers, st.none() | numbers, st.none() | numbers),
    novelty=st.none() | st.floats(0, 1),
)


def served_model(bundle: ModelBundle, version: int = 1) -> ServedModel:
    record = ModelRecord(name="m", version=version, created_ms=version, source="s", aliases=("champion",), tags={})
    return ServedModel(bundle, record, True, (), 0, False)


@pytest.fixture
def cache() -> ForecastCache:
    return ForecastCache(3, Metrics())


def packed(vector: FeatureVector) -> FeatureVector:
    """The vector as a store gives it: equal, and another object with packed values."""
    encoded = encode(vector, None)
    return replace(vector, values=encoded.names.unpack(encoded.packed, vector.symbol, "a test"))


def test_equal_features_of_the_same_model_are_found_and_nothing_else(
    cache: ForecastCache, lightgbm_bundle: Bundles, vector: Vector
) -> None:
    served, features = served_model(lightgbm_bundle()), packed(vector())
    cache.put(served, BTC, NewestFeatures(features), SAID)
    assert cache.get(served, BTC, NewestFeatures(packed(features))) is SAID
    # What the registry says about it is not what it computes.
    assert cache.get(replace(served, tradable=False, reasons=("no",)), BTC, NewestFeatures(features)) is SAID

    assert cache.get(served, "ETH/USDT", NewestFeatures(features)) is None
    changes: tuple[dict[str, Any], ...] = (
        {"close": 99.0},
        {"known_at_ms": features.known_at_ms + 1},
        {"values": {**features.values, "rsi_14": 0.30000000000000004}},
    )
    for change in changes:
        assert cache.get(served, BTC, NewestFeatures(packed(replace(features, **change)))) is None
    assert cache.get(served_model(lightgbm_bundle(), 2), BTC, NewestFeatures(features)) is None
    assert cache.get(served_model(lightgbm_bundle(seed=8), 1), BTC, NewestFeatures(features)) is None


def test_a_corrected_bar_within_the_window_is_another_question(
    cache: ForecastCache, lightgbm_bundle: Bundles, vector: Vector
) -> None:
    served, features, bars = served_model(lightgbm_bundle()), vector(), np.zeros((2, 3))
    cache.put(served, BTC, NewestFeatures(features, bars), SAID)
    assert cache.get(served, BTC, NewestFeatures(features, bars.copy())) is SAID
    corrected = bars.copy()
    corrected[0, 1] = -0.0
    assert cache.get(served, BTC, NewestFeatures(features, corrected)) is None


def test_no_more_is_kept_than_was_allowed(lightgbm_bundle: Bundles, vector: Vector) -> None:
    served, features = served_model(lightgbm_bundle()), NewestFeatures(vector())
    cache, none = ForecastCache(3, Metrics()), ForecastCache(0, Metrics())
    for number in range(10):
        cache.put(served, f"S{number}/USDT", features, SAID)
        none.put(served, f"S{number}/USDT", features, SAID)
    assert (len(cache), len(none)) == (3, 0)
    assert cache.get(served, "S9/USDT", features) is SAID


@pytest.fixture(scope="module")
def shared_url(start_redis: Callable[..., Any]) -> str:
    return str(start_redis().url)


@given(said=forecasts)
@settings(max_examples=30, deadline=None)
def test_replicas_read_the_same_bits_that_one_of_them_put(
    shared_url: str, lightgbm_bundle: Bundles, vector: Vector, said: Forecast
) -> None:
    one, other = SharedForecasts(shared_url, Metrics()), SharedForecasts(shared_url, Metrics())
    served, newest = served_model(lightgbm_bundle()), NewestFeatures(vector(ts_ms=0, known_at_ms=0))
    one.put(served, BTC, newest, said)
    assert repr(other.get(served, BTC, newest)) == repr(said)
    one.close()
    other.close()


def test_what_is_shared_is_found_under_the_models_files_and_every_bit_of_the_features(
    lightgbm_bundle: Bundles, vector: Vector
) -> None:
    served, features = served_model(lightgbm_bundle()), vector(ts_ms=0, known_at_ms=0)
    key = shared_key(served, BTC, NewestFeatures(features))
    assert key == shared_key(served, BTC, NewestFeatures(packed(features)))
    others = [
        shared_key(served_model(lightgbm_bundle(), 2), BTC, NewestFeatures(features)),
        shared_key(served, "ETH/USDT", NewestFeatures(features)),
        shared_key(served, BTC, NewestFeatures(replace(features, close=100.00000000000001))),
        shared_key(served, BTC, NewestFeatures(features, np.zeros((2, 3)))),
        shared_key(served, BTC, NewestFeatures(replace(features, values={**features.values, "rsi_14": 0.31}))),
    ]
    assert len({key, *others}) == 6


def test_a_server_that_is_gone_or_holds_something_else_is_a_miss(
    start_redis: Callable[..., Any], lightgbm_bundle: Bundles, vector: Vector
) -> None:
    import redis

    server = start_redis()
    shared = SharedForecasts(server.url, Metrics())
    served, newest = served_model(lightgbm_bundle()), NewestFeatures(vector())
    with redis.Redis.from_url(server.url) as client:
        client.set(shared_key(served, BTC, newest), b'{"probability": "high"}')
    assert shared.get(served, BTC, newest) is None
    server.stop()
    for _ in range(5):
        shared.put(served, BTC, newest, SAID)
        assert shared.get(served, BTC, newest) is None
    shared.close()
