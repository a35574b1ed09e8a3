from collections.abc import Callable
from datetime import datetime
from typing import Any

import httpx
import pytest

from levibot_core.models.bundle import ModelBundle
from levibot_core.stores.online import FeatureVector, SqliteOnlineStore

pytestmark = pytest.mark.anyio

Api = Callable[..., httpx.AsyncClient]
Bundles = Callable[..., ModelBundle]
ErrorOf = Callable[[httpx.Response], dict[str, Any]]
Vector = Callable[..., FeatureVector]

FIELDS_ENGINES_KNOW = {
    *("symbol", "timeframe", "horizon", "timestamp", "_current_price", "prob_up", "side", "confidence"),
    *("price_target", "_prob_lgbm", "_prob_tft", "_prob_sent"),
    *("ok", "model", "note", "staleness_s", "fallback", "fallback_reason"),
}
OUR_FIELDS = {
    *("model_version", "snapshot_id", "as_of", "feature_age_s", "tradable", "abstain", "reasons", "source", "family"),
    *("volatility", "interval_level", "return_lower", "return_upper", "price_lower", "price_upper"),
    *("prob_lower", "prob_upper", "components", "novelty", "explanation"),
}


@pytest.mark.parametrize("symbol", ["BTC/USDT", "BTCUSDT", "btc-usdt"])
async def test_a_prediction_has_every_field_of_the_contract(
    api: Api,
    stub_registry: Any,
    lightgbm_bundle: Bundles,
    features: SqliteOnlineStore,
    vector: Vector,
    symbol: str,
) -> None:
    stub_registry.hold(lightgbm_bundle(), 3)
    features.put([vector()])
    async with api() as client:
        response = await client.get("/ai/predict", params={"symbol": symbol})
    assert response.status_code == 200
    body = response.json()
    assert set(body) == FIELDS_ENGINES_KNOW | OUR_FIELDS
    assert (body["ok"], body["symbol"], body["side"], body["tradable"]) == (True, "BTC/USDT", "long", True)
    assert (body["model"], body["model_version"], body["_current_price"]) == ("levibot-5m-h12", 3, 100.0)
    assert body["_prob_lgbm"] == body["prob_up"]
    assert (body["note"], body["reasons"], body["abstain"]) == (None, [], False)
    assert datetime.fromisoformat(body["as_of"]) < datetime.fromisoformat(body["timestamp"])


async def test_a_repeated_question_is_answered_with_the_newest_features(
    api: Api, stub_registry: Any, lightgbm_bundle: Bundles, features: SqliteOnlineStore, vector: Vector
) -> None:
    stub_registry.hold(lightgbm_bundle(), 3)
    prices = []
    async with api() as client:
        for close in (100.0, 100.0, 101.0, 102.0):
            features.put([vector(close=close)])
            prices.append((await client.get("/ai/predict?symbol=BTCUSDT")).json()["_current_price"])
    assert prices == [100.0, 100.0, 101.0, 102.0]


async def test_a_defect_met_by_a_repeated_question_is_an_internal_error(
    api: Api,
    stub_registry: Any,
    lightgbm_bundle: Bundles,
    features: SqliteOnlineStore,
    vector: Vector,
    error_of: ErrorOf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    stub_registry.hold(lightgbm_bundle())
    features.put([vector()])
    async with api() as client:
        assert (await client.get("/ai/predict?symbol=BTCUSDT")).status_code == 200
        monkeypatch.setattr("levibot_serving.routes.ai.forecast", broken)
        response = await client.get("/ai/predict?symbol=BTCUSDT")
    assert (response.status_code, error_of(response)["code"]) == (500, "internal_error")


async def test_timeframe_and_horizon_may_be_given_when_they_are_what_is_served(
    api: Api, stub_registry: Any, lightgbm_bundle: Bundles, features: SqliteOnlineStore, vector: Vector
) -> None:
    stub_registry.hold(lightgbm_bundle())
    features.put([vector()])
    async with api() as client:
        response = await client.get("/ai/predict", params={"symbol": "BTCUSDT", "timeframe": "5m", "horizon": 60})
    assert response.status_code == 200


@pytest.mark.parametrize("asked", [{"timeframe": "1m"}, {"horizon": 5}, {"timeframe": "1m", "horizon": 5}])
async def test_another_timeframe_or_horizon_is_refused_with_what_is_served(
    api: Api, stub_registry: Any, lightgbm_bundle: Bundles, error_of: ErrorOf, asked: dict[str, str | int]
) -> None:
    stub_registry.hold(lightgbm_bundle())
    async with api() as client:
        response = await client.get("/ai/predict", params={"symbol": "BTCUSDT", **asked})
    assert response.status_code == 400
    error = error_of(response)
    assert error["code"] == "not_served"
    assert error["details"]["served"] == {"timeframe": "5m", "horizon": 60}


async def test_a_symbol_the_model_does_not_know_is_not_found(
    api: Api, stub_registry: Any, lightgbm_bundle: Bundles, error_of: ErrorOf
) -> None:
    stub_registry.hold(lightgbm_bundle())
    async with api() as client:
        response = await client.get("/ai/predict", params={"symbol": "DOGEUSDT"})
    assert response.status_code == 404
    assert error_of(response)["code"] == "unknown_symbol"


@pytest.mark.parametrize("symbol", [None, "", "BT", "???", "BTC/USDT/ETH", "x" * 31, "' OR 1=1 --"])
async def test_a_symbol_that_is_none_is_invalid(
    api: Api, stub_registry: Any, lightgbm_bundle: Bundles, error_of: ErrorOf, symbol: str | None
) -> None:
    stub_registry.hold(lightgbm_bundle())
    async with api() as client:
        response = await client.get("/ai/predict", params={} if symbol is None else {"symbol": symbol})
    assert response.status_code == 422
    error = error_of(response)
    assert (error["code"], error["details"][0]["field"]) == ("invalid_request", "symbol")


async def test_without_features_there_is_no_number(
    api: Api, stub_registry: Any, lightgbm_bundle: Bundles, error_of: ErrorOf
) -> None:
    stub_registry.hold(lightgbm_bundle())
    async with api() as client:
        response = await client.get("/ai/predict", params={"symbol": "BTCUSDT"})
    assert response.status_code == 503
    assert error_of(response)["code"] == "features_unavailable"
    assert "prob_up" not in response.text


async def test_a_missing_feature_is_named(
    api: Api,
    stub_registry: Any,
    lightgbm_bundle: Bundles,
    features: SqliteOnlineStore,
    vector: Vector,
    error_of: ErrorOf,
) -> None:
    stub_registry.hold(lightgbm_bundle())
    features.put([vector(values={"return_1": 1.0})])
    async with api() as client:
        response = await client.get("/ai/predict", params={"symbol": "BTCUSDT"})
    assert response.status_code == 503
    assert "realized_volatility_48, rsi_14" in error_of(response)["message"]


async def test_without_a_model_the_answer_says_why(api: Api, stub_registry: Any, error_of: ErrorOf) -> None:
    stub_registry.failure = "the registry is away"
    async with api() as client:
        responses = [await client.get("/ai/predict", params={"symbol": "BTCUSDT"}), await client.get("/ai/models")]
    for response in responses:
        assert response.status_code == 503
        assert error_of(response)["code"] == "model_not_loaded"
        assert "the registry is away" in error_of(response)["message"]


async def test_an_answer_of_the_last_good_model_says_so(
    api: Api,
    model_store: Callable[[], Any],
    stub_registry: Any,
    lightgbm_bundle: Bundles,
    features: SqliteOnlineStore,
    vector: Vector,
) -> None:
    stub_registry.hold(lightgbm_bundle())
    model_store().refresh()
    stub_registry.failure = "the registry is away"
    features.put([vector()])
    async with api() as client:
        prediction = (await client.get("/ai/predict", params={"symbol": "BTCUSDT"})).json()
        models = (await client.get("/ai/models")).json()
    assert prediction["note"] == (
        "The last good model answers: the model registry has not answered since this process started."
    )
    assert (models["registry"]["reachable"], models["registry"]["problem"]) == (False, "the registry is away")
    assert models["meta"]["levibot-5m-h12"]["from_cache"] is True


async def test_an_answer_beside_a_champion_that_cannot_be_served_says_so(
    api: Api,
    model_store: Callable[[], Any],
    stub_registry: Any,
    lightgbm_bundle: Bundles,
    features: SqliteOnlineStore,
    vector: Vector,
) -> None:
    stub_registry.hold(lightgbm_bundle(), 1)
    model_store().refresh()
    stub_registry.hold(lightgbm_bundle(model_name="another"), 2)
    features.put([vector()])
    async with api() as client:
        prediction = (await client.get("/ai/predict", params={"symbol": "BTCUSDT"})).json()
    assert prediction["model_version"] == 1
    assert prediction["note"] == "The last good model answers: the champion of the registry cannot be served."


async def test_the_served_model_is_described(api: Api, stub_registry: Any, lightgbm_bundle: Bundles) -> None:
    tags = {"tradable": "false", "reasons": '["lost to buy-and-hold"]', "family": "lightgbm"}
    stub_registry.hold(lightgbm_bundle(), 5, tags)
    async with api() as client:
        body = (await client.get("/ai/models")).json()
    assert (body["ok"], body["models"], body["current"]) == (True, ["levibot-5m-h12"], "levibot-5m-h12")
    assert (body["version"], body["aliases"], body["tags"]) == (5, ["champion"], tags)
    assert (body["tradable"], body["reasons"]) == (False, ["lost to buy-and-hold"])
    assert body["registry"]["reachable"] is True
    meta = body["meta"]["levibot-5m-h12"]
    assert (meta["found"], meta["path"]) == (True, "models:/levibot-5m-h12/5")
    assert (meta["family"], meta["horizon"], meta["symbols"]) == ("lightgbm", 60, ["BTC/USDT", "ETH/USDT"])
