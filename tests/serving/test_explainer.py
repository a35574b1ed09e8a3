import math
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from levibot_core.models.bundle import ModelBundle
from levibot_core.stores.online import FeatureVector, SqliteOnlineStore

pytestmark = pytest.mark.anyio

Api = Callable[..., httpx.AsyncClient]
ErrorOf = Callable[[httpx.Response], dict[str, Any]]


@pytest.fixture
def served(
    stub_registry: Any,
    lightgbm_bundle: Callable[..., ModelBundle],
    features: SqliteOnlineStore,
    vector: Callable[..., FeatureVector],
) -> None:
    stub_registry.hold(lightgbm_bundle(), 3)
    features.put([vector()])


@pytest.mark.usefixtures("served")
async def test_an_explanation_adds_up_to_the_forecast_that_is_served(api: Api) -> None:
    async with api() as client:
        response = await client.get("/ai/explain", params={"symbol": "BTCUSDT", "top": 2})
        predicted = (await client.get("/ai/predict", params={"symbol": "BTCUSDT"})).json()
    assert response.status_code == 200
    found = response.json()
    assert (found["ok"], found["model_version"], found["horizon"]) == (True, 3, 60)
    assert (found["prob_up"], found["as_of"]) == (predicted["prob_up"], predicted["as_of"])
    assert found["contributions"][0]["feature"] == "return_1"
    assert (found["contributions"][0]["value"], len(found["contributions"])) == (1.5, 2)
    total = found["base_value"] + sum(item["contribution"] for item in found["contributions"]) + found["others"]
    assert total == pytest.approx(found["log_odds"])
    assert found["log_odds"] == pytest.approx(math.log(found["prob_raw"] / (1 - found["prob_raw"])))


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        ({"symbol": "DOGEUSDT"}, 404, "unknown_symbol"),
        ({"symbol": "ETHUSDT"}, 503, "features_unavailable"),
        ({"symbol": "BTCUSDT", "horizon": 5}, 400, "not_served"),
        ({"symbol": "BTCUSDT", "top": 0}, 422, "invalid_request"),
        ({}, 422, "invalid_request"),
    ],
)
async def test_what_cannot_be_explained_is_an_error_like_any_other(
    api: Api, error_of: ErrorOf, asked: dict[str, str | int], status: int, code: str
) -> None:
    async with api() as client:
        response = await client.get("/ai/explain", params=asked)
    assert response.status_code == status
    assert error_of(response)["code"] == code


async def test_features_of_another_set_are_not_explained(
    api: Api,
    stub_registry: Any,
    lightgbm_bundle: Callable[..., ModelBundle],
    features: SqliteOnlineStore,
    vector: Callable[..., FeatureVector],
    error_of: ErrorOf,
) -> None:
    stub_registry.hold(lightgbm_bundle(feature_set="v2"))
    features.put([vector()])
    async with api() as client:
        response = await client.get("/ai/explain", params={"symbol": "BTCUSDT"})
    assert (response.status_code, error_of(response)["code"]) == (503, "features_unavailable")
