"""What the API answers on the hot path: the bytes of the contract, the numbers of the pure predictor."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from levibot_core.models.bundle import ModelBundle
from levibot_core.stores.online import FeatureVector, SqliteOnlineStore
from levibot_core.stores.paths import Home
from levibot_serving.config import ServingSettings, load_serving_settings
from levibot_serving.contract import Prediction
from levibot_serving.main import create_app
from levibot_serving.predictor import answer, forecast, predict

pytestmark = pytest.mark.anyio

Api = Callable[..., httpx.AsyncClient]
Bundles = Callable[..., ModelBundle]
Vector = Callable[..., FeatureVector]
BTC = "BTC/USDT"
GRACE_S = 60.0


async def ask(client: httpx.AsyncClient) -> httpx.Response:
    return await client.get("/ai/predict", params={"symbol": "BTCUSDT"})


@given(last_return=st.floats(-3, 3), age_s=st.integers(-100, 2000), close=st.floats(1e-6, 1e9))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_the_bytes_are_the_contract_and_say_what_the_pure_predictor_says_cached_or_not(
    api: Api,
    stub_registry: Any,
    lightgbm_bundle: Bundles,
    features: SqliteOnlineStore,
    vector: Vector,
    last_return: float,
    age_s: int,
    close: float,
) -> None:
    stub_registry.hold(lightgbm_bundle(), 3)
    fresh = vector(close=close)
    now_ms = fresh.known_at_ms + age_s * 1000
    values = {**fresh.values, "return_1": last_return}
    features.put([vector(close=close, known_at_ms=fresh.known_at_ms, ts_ms=fresh.known_at_ms, values=values)])
    async with api(now_ms=lambda: now_ms) as client:
        app: Any = client._transport
        served = app.app.state.services.models.served
        stored = features.get(BTC)
        assert stored is not None
        expected = predict(served, BTC, stored, now_ms, GRACE_S)
        for _ in range(2):
            response = await ask(client)
            assert response.headers["content-type"] == "application/json"
            assert response.content == expected.model_dump_json(by_alias=True).encode()
            assert Prediction.model_validate_json(response.content) == expected


async def test_a_promotion_answers_with_the_new_model_at_once(
    api: Api, stub_registry: Any, lightgbm_bundle: Bundles, features: SqliteOnlineStore, vector: Vector
) -> None:
    stub_registry.hold(lightgbm_bundle(), 1)
    features.put([vector()])
    async with api() as client:
        store: Any = client._transport.app.state.services.models  # type: ignore[attr-defined]
        assert [(await ask(client)).json()["model_version"] for _ in range(2)] == [1, 1]
        stub_registry.hold(lightgbm_bundle(seed=8), 2, {"tradable": "false", "reasons": '["on trial"]'})
        store.refresh()
        body = (await ask(client)).json()
    assert (body["model_version"], body["tradable"], body["reasons"]) == (2, False, ["on trial"])


def test_a_degraded_answer_has_the_same_number_and_says_so(
    lightgbm_bundle: Bundles, vector: Vector, served_as: Callable[[ModelBundle], Any]
) -> None:
    served, fresh = served_as(lightgbm_bundle()), vector()
    now_ms = fresh.known_at_ms + 1000
    said = forecast(served, BTC, fresh)
    healthy = answer(served, BTC, fresh, said, now_ms, GRACE_S)
    kept = answer(served, BTC, fresh, said, now_ms, GRACE_S, instead="the store is away")
    stale = answer(served, BTC, fresh, said, now_ms + 10**6, GRACE_S, instead="the store is away")
    assert (healthy.fallback, kept.fallback, kept.fallback_reason) == (False, True, "the store is away")
    assert (kept.prob_up, kept.side, kept.abstain) == (healthy.prob_up, healthy.side, False)
    assert "the store is away" in kept.reasons
    assert (stale.abstain, stale.tradable, stale.side) == (True, False, "flat")
    assert stale.fallback_reason == "the store is away; features are 1001 s old, and stale after 360 s"


async def test_without_a_cache_the_model_is_asked_every_time(
    api: Api,
    stub_registry: Any,
    lightgbm_bundle: Bundles,
    features: SqliteOnlineStore,
    vector: Vector,
    home: Home,
    settings: ServingSettings,
) -> None:
    stub_registry.hold(lightgbm_bundle(), 1)
    features.put([vector()])
    async with api(settings=load_serving_settings(home=home.root, forecast_cache_items=0)) as client:
        for _ in range(3):
            assert (await ask(client)).status_code == 200
        text = (await client.get("/metrics")).text
    assert 'levibot_cache_misses_total{cache="forecast"} 3.0' in text
    assert 'levibot_cache_hits_total{cache="features"} 2.0' in text
    assert settings.forecast_cache_items == 100


async def test_replicas_on_redis_share_what_was_computed(
    api: Api,
    stub_registry: Any,
    lightgbm_bundle: Bundles,
    vector: Vector,
    home: Home,
    start_redis: Callable[..., Any],
) -> None:
    from levibot_serving.features import open_features

    settings = load_serving_settings(home=home.root, redis_url=start_redis().url)
    store = open_features(settings)
    store.put([vector()])
    stub_registry.hold(lightgbm_bundle(), 1)
    texts, bodies = [], []
    for _ in range(2):
        async with api(settings=settings, features=store) as client:
            bodies.append((await ask(client)).json())
            texts.append((await client.get("/metrics")).text)
            client._transport.app.state.services.close()  # type: ignore[attr-defined]
    assert bodies[0]["prob_up"] == bodies[1]["prob_up"]
    assert 'levibot_cache_misses_total{cache="shared_forecast"} 1.0' in texts[0]
    assert 'levibot_cache_hits_total{cache="shared_forecast"} 1.0' in texts[1]
    store.close()


def test_what_the_hot_path_sends_is_what_the_contract_documents(settings: ServingSettings) -> None:
    operation = create_app(settings).openapi()["paths"]["/ai/predict"]["get"]
    content = operation["responses"]["200"]["content"]
    assert content == {"application/json": {"schema": {"$ref": "#/components/schemas/Prediction"}}}
    assert [parameter["name"] for parameter in operation["parameters"]] == ["symbol", "timeframe", "horizon", "explain"]
