import logging
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from levibot_core.errors import LakeCorruptionError
from levibot_core.models.bundle import ModelBundle
from levibot_core.stores.online import FeatureVector

pytestmark = pytest.mark.anyio

Api = Callable[..., httpx.AsyncClient]
ErrorOf = Callable[[httpx.Response], dict[str, Any]]


class BrokenStore:
    """An online store that fails in a given way."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def get_many(self, _symbols: object) -> dict[str, FeatureVector]:
        raise self._error


async def test_a_path_that_does_not_exist(api: Api, error_of: ErrorOf) -> None:
    async with api() as client:
        response = await client.get("/nowhere")
    assert response.status_code == 404
    assert error_of(response)["code"] == "not_found"


async def test_a_method_that_is_not_allowed(api: Api, error_of: ErrorOf) -> None:
    async with api() as client:
        response = await client.put("/ai/predict")
    assert response.status_code == 405
    assert response.headers["allow"] == "GET, POST"
    assert error_of(response)["code"] == "method_not_allowed"


async def test_a_request_that_does_not_fit_names_the_fields(
    api: Api, error_of: ErrorOf, stub_registry: Any, base_rate: ModelBundle
) -> None:
    stub_registry.hold(base_rate)
    async with api() as client:
        response = await client.get("/ai/predict", params={"symbol": "BTCUSDT", "horizon": "soon", "timeframe": "7q"})
    assert response.status_code == 422
    error = error_of(response)
    assert error["code"] == "invalid_request"
    assert [problem["field"] for problem in error["details"]] == ["timeframe", "horizon"]


async def test_an_error_a_person_can_act_on_keeps_its_message(
    api: Api, error_of: ErrorOf, stub_registry: Any, base_rate: ModelBundle
) -> None:
    stub_registry.hold(base_rate)
    async with api(features=BrokenStore(LakeCorruptionError("the store is torn; delete it"))) as client:
        response = await client.get("/ai/predict", params={"symbol": "BTCUSDT"})
    assert response.status_code == 503
    error = error_of(response)
    assert (error["code"], error["message"]) == ("unavailable", "the store is torn; delete it")


async def test_a_defect_is_logged_with_its_traceback_and_never_sent(
    api: Api, error_of: ErrorOf, stub_registry: Any, base_rate: ModelBundle, caplog: pytest.LogCaptureFixture
) -> None:
    stub_registry.hold(base_rate)
    async with api(features=BrokenStore(ZeroDivisionError("secret detail"))) as client:
        with caplog.at_level(logging.ERROR):
            response = await client.get("/ai/predict", params={"symbol": "BTCUSDT"})
    assert response.status_code == 500
    error = error_of(response)
    assert error["code"] == "internal_error"
    assert "secret detail" not in response.text
    assert "Traceback" not in response.text
    logged = [record for record in caplog.records if record.exc_info and record.exc_info[0] is ZeroDivisionError]
    assert any(error["request_id"] in record.getMessage() for record in logged)
