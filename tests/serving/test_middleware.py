from collections.abc import Callable
from typing import Any

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from levibot_serving.metrics import Metrics
from levibot_serving.middleware import RequestContextMiddleware

pytestmark = pytest.mark.anyio

Api = Callable[..., httpx.AsyncClient]


async def test_a_request_id_is_repeated(api: Api) -> None:
    async with api() as client:
        response = await client.get("/livez", headers={"X-Request-ID": "engine-1.42_a"})
    assert response.headers["x-request-id"] == "engine-1.42_a"


@pytest.mark.parametrize("given", [None, "", "a b", 'x"y', "x" * 129, "é"])
async def test_a_request_without_a_usable_id_gets_one(api: Api, given: str | None) -> None:
    headers = [] if given is None else [(b"X-Request-ID", given.encode())]
    async with api() as client:
        first, second = [await client.get("/livez", headers=headers) for _ in range(2)]
    assert len(first.headers["x-request-id"]) == 32
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


@pytest.mark.parametrize("path", ["/livez", "/nowhere", "/ai/predict"])
async def test_every_response_carries_the_security_headers(api: Api, path: str) -> None:
    async with api() as client:
        response = await client.get(path)
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["x-frame-options"] == "DENY"
    assert response.headers["cache-control"] == "no-store"


async def test_other_origins_are_not_let_in(api: Api) -> None:
    async with api() as client:
        simple = await client.get("/livez", headers={"Origin": "https://elsewhere.example"})
        asked = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "GET"}
        preflight = await client.options("/ai/predict", headers=asked)
    assert "access-control-allow-origin" not in simple.headers
    assert preflight.status_code == 405


async def test_a_failure_after_the_response_began_cuts_the_connection() -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ZeroDivisionError

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    scope: dict[str, Any] = {"type": "http", "path": "/", "headers": []}
    with pytest.raises(ZeroDivisionError):
        await RequestContextMiddleware(app, Metrics())(scope, receive, send)
    assert [message["type"] for message in sent] == ["http.response.start"]
