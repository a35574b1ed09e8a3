"""What an answer says when its features are missing, expired or out of reach, with the store on a Redis server."""

import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest

from levibot_core.errors import ConfigurationError, MissingFeatureError, UnknownSymbolError
from levibot_core.models.bundle import ModelBundle
from levibot_core.stores.online import FeatureVector, SqliteOnlineStore
from levibot_core.stores.paths import Home
from levibot_serving.config import ServingSettings, load_serving_settings
from levibot_serving.features import NewestFeatures, newest_features, open_features
from levibot_serving.main import create_app

Bundles = Callable[..., ModelBundle]
ErrorOf = Callable[[httpx.Response], dict[str, Any]]
Serve = Callable[[ServingSettings], AbstractContextManager[httpx.Client]]
Vector = Callable[..., FeatureVector]

# MLflow 3.17 maps its tables with what SQLAlchemy 2.1 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")


def test_every_feature_a_model_needs_is_asked_for_and_the_symbol_first(
    features: SqliteOnlineStore, base_rate: ModelBundle, vector: Vector
) -> None:
    manifest = base_rate.manifest
    with pytest.raises(UnknownSymbolError, match=r"was DOGE/USDT"):
        newest_features(features, manifest, "DOGE/USDT", 0)
    with pytest.raises(MissingFeatureError, match="ETH/USDT has none"):
        newest_features(features, manifest, "ETH/USDT", 0)
    whole = vector()
    features.put([whole, vector(symbol="ETH/USDT", feature_set="v2")])
    assert newest_features(features, manifest, "BTC/USDT", 0) == NewestFeatures(whole)
    with pytest.raises(MissingFeatureError, match="ETH/USDT follows the set 'v2', not 'v1'"):
        newest_features(features, manifest, "ETH/USDT", 0)


def test_an_address_of_redis_that_cannot_be_used_stops_the_start(home: Home) -> None:
    settings = load_serving_settings(home=home.root, redis_url="http://:s3cret@host")
    with pytest.raises(ConfigurationError, match="Expected REDIS_URL"):
        open_features(settings)
    assert "s3cret" not in repr(settings) + str(create_app(settings).openapi())


def test_an_api_on_redis_answers_names_what_is_missing_and_outlives_a_server_that_hangs_or_is_gone(
    registry: Any,
    home: Home,
    lightgbm_bundle: Bundles,
    vector: Vector,
    serve: Serve,
    eventually: Callable[..., None],
    error_of: ErrorOf,
    start_redis: Callable[..., Any],
) -> None:
    registry.register(lightgbm_bundle())
    server = start_redis()
    settings = load_serving_settings(home=home.root, redis_url=server.url, online_ttl_seconds=0.2)
    store = open_features(settings)

    def asked() -> httpx.Response:
        return client.get("/ai/predict", params={"symbol": "BTCUSDT"})

    with serve(settings) as client:
        eventually(lambda: client.get("/readyz").status_code == 200)
        assert error_of(asked())["code"] == "features_unavailable"
        store.put([vector()])
        assert asked().json()["source"] == "recorded"

        store.put([vector(source_kind="exchange")])
        eventually(lambda: asked().status_code == 503)
        error = error_of(asked())
        assert error["code"] == "features_unavailable"
        assert "BTC/USDT had some that were known" in error["message"]
        detail = client.get("/healthz").json()["components"]["features"]["detail"]
        assert "BTC/USDT: features have expired; ETH/USDT: no features" in detail
        assert 'levibot_feature_age_seconds{symbol="BTC/USDT"}' in client.get("/metrics").text

        os.kill(server.pid, signal.SIGSTOP)
        try:
            assert error_of(asked())["code"] == "features_unavailable"
            assert client.get("/livez").status_code == 200
        finally:
            os.kill(server.pid, signal.SIGCONT)
        server.stop()
        error = error_of(asked())
        assert (error["code"], "does not answer" in error["message"]) == ("features_unavailable", True)
        assert client.get("/healthz").status_code == 503

        server.start()
        # The circuit is open for a while.
        eventually(lambda: "BTC/USDT has none" in error_of(asked())["message"])
        store.put([vector()])
        assert asked().status_code == 200
    server.stop()
