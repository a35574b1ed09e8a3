from collections.abc import Callable
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from levibot_core.errors import LakeCorruptionError
from levibot_core.models.bundle import ModelBundle
from levibot_core.stores.online import FeatureVector, SqliteOnlineStore

pytestmark = pytest.mark.anyio

Api = Callable[..., httpx.AsyncClient]
ErrorOf = Callable[[httpx.Response], dict[str, Any]]
Vector = Callable[..., FeatureVector]


class BrokenStore:
    """An online store that cannot be read."""

    def get_many(self, _symbols: object) -> dict[str, FeatureVector]:
        raise LakeCorruptionError("the store is torn; delete it")

    def last_known_at_ms(self, _symbols: object) -> dict[str, int]:
        raise LakeCorruptionError("the store is torn; delete it")


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_the_process_is_alive_before_it_is_ready(api: Api, stub_registry: Any, error_of: ErrorOf) -> None:
    stub_registry.failure = "the registry is away"
    async with api() as client:
        alive, ready = await client.get("/livez"), await client.get("/readyz")
    assert (alive.status_code, alive.json()) == (200, {"status": "alive"})
    assert ready.status_code == 503
    assert error_of(ready)["code"] == "model_not_loaded"


async def test_it_is_ready_with_a_model(api: Api, stub_registry: Any, base_rate: ModelBundle) -> None:
    stub_registry.hold(base_rate, 1)
    async with api() as client:
        response = await client.get("/readyz")
    assert (response.status_code, response.json()["version"]) == (200, 1)


async def test_health_is_ok_when_every_part_is(
    api: Api, stub_registry: Any, base_rate: ModelBundle, features: SqliteOnlineStore, vector: Vector
) -> None:
    stub_registry.hold(base_rate)
    features.put([vector(), vector(symbol="ETH/USDT")])
    async with api() as client:
        response = await client.get("/healthz")
    body = response.json()
    assert (response.status_code, body["status"]) == (200, "ok")
    assert {name: part["critical"] for name, part in body["components"].items()} == {
        "model": True,
        "features": True,
        "registry": False,
        "cache": False,
    }


async def test_old_or_absent_features_and_a_silent_registry_are_degraded_not_failing(
    api: Api,
    model_store: Callable[[], Any],
    stub_registry: Any,
    base_rate: ModelBundle,
    features: SqliteOnlineStore,
    vector: Vector,
) -> None:
    stub_registry.hold(base_rate)
    model_store().refresh()
    stub_registry.failure = "away"
    features.put([vector(known_at_ms=0)])
    async with api() as client:
        response = await client.get("/healthz")
    body = response.json()
    assert (response.status_code, body["status"]) == (200, "degraded")
    statuses = {name: part["status"] for name, part in body["components"].items()}
    assert statuses == {"model": "degraded", "features": "degraded", "registry": "degraded", "cache": "ok"}
    assert "ETH/USDT: no features" in body["components"]["features"]["detail"]
    assert "s old" in body["components"]["features"]["detail"]


async def test_health_fails_with_a_critical_part(api: Api, stub_registry: Any, base_rate: ModelBundle) -> None:
    async with api() as client:
        without_model = await client.get("/healthz")
    stub_registry.hold(base_rate)
    async with api(features=BrokenStore()) as client:
        without_store = await client.get("/healthz")
    for response, part in ((without_model, "model"), (without_store, "features")):
        assert (response.status_code, response.json()["status"]) == (503, "failing")
        assert response.json()["components"][part]["status"] == "failing"


async def test_metrics_count_requests_by_route_and_predictions_by_side(
    api: Api,
    stub_registry: Any,
    lightgbm_bundle: Callable[..., ModelBundle],
    features: SqliteOnlineStore,
    vector: Vector,
) -> None:
    stub_registry.hold(lightgbm_bundle(), 3)
    features.put([vector(), vector(symbol="ETH/USDT", known_at_ms=0)])
    async with api() as client:
        for symbol in ("BTCUSDT", "BTCUSDT", "ETHUSDT", "?"):
            await client.get("/ai/predict", params={"symbol": symbol})
        await client.get("/no/such/path/1")
        await client.get("/no/such/path/2")
        response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    found = samples(response.text)

    def requests(endpoint: str, status: str) -> float:
        return found["levibot_request_duration_seconds_count", (("endpoint", endpoint), ("status", status))]

    assert requests("/ai/predict", "200") == 3
    assert requests("/ai/predict", "422") == 1
    assert requests("unmatched", "404") == 2

    def predictions(side: str, abstain: str) -> float:
        labels = {"model": "levibot-5m-h12", "version": "3", "side": side, "abstain": abstain, "fallback": abstain}
        return found["levibot_predictions_total", tuple(sorted(labels.items()))]

    assert predictions("long", "false") == 2
    assert predictions("flat", "true") == 1
    assert found["levibot_registry_reachable", ()] == 1
    assert found["levibot_champion_served", ()] == 1
    assert found["levibot_model_swaps_total", ()] == 1
    assert 0 < found["levibot_feature_age_seconds", (("symbol", "BTC/USDT"),)] < 60
    model = next(dict(labels) for name, labels in found if name == "levibot_model_info")
    assert (model["name"], model["version"], model["tradable"]) == ("levibot-5m-h12", "3", "true")


async def test_metrics_are_there_before_a_model_and_with_a_broken_store(
    api: Api, stub_registry: Any, base_rate: ModelBundle
) -> None:
    stub_registry.failure = "away"
    async with api() as client:
        found = samples((await client.get("/metrics")).text)
    assert found["levibot_registry_reachable", ()] == 0
    stub_registry.failure = None
    stub_registry.hold(base_rate)
    async with api(features=BrokenStore()) as client:
        found = samples((await client.get("/metrics")).text)
    assert found["levibot_registry_reachable", ()] == 1
    assert not any(name == "levibot_feature_age_seconds" for name, _ in found)
