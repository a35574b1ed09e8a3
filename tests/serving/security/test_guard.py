import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request

from levibot_core.errors import ConfigurationError, CredentialError
from levibot_serving.config import ServingSettings, load_serving_settings
from levibot_serving.errors import add_error_handlers
from levibot_serving.main import create_app
from levibot_serving.metrics import Metrics
from levibot_serving.middleware import RequestContextMiddleware
from levibot_serving.security import security as security_module
from levibot_serving.security.addresses import household
from levibot_serving.security.dependencies import ClientAddressDep, PrincipalDep, charge_further_forecasts
from levibot_serving.security.permissions import ADMINS, EVERYBODY, PUBLIC, Permission
from levibot_serving.security.security import Security, secure

pytestmark = pytest.mark.anyio

ErrorOf = Callable[[httpx.Response], dict[str, Any]]
RANDOM = "Zx8uFf3mQ0w1Yk5Lr7Tb2Nc9Vd4Hs6Jp-aBcD"


@pytest.fixture
def small(
    settings: ServingSettings, visitors: Any, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., httpx.AsyncClient]:
    """A client of an application with four routes of its own behind the door; keyword arguments are settings."""
    lines = (
        Permission("POST", "/echo", EVERYBODY),
        Permission("GET", "/slow", PUBLIC),
        Permission("GET", "/stream", PUBLIC, streams=True),
        Permission("POST", "/change", ADMINS),
    )
    monkeypatch.setattr(security_module, "PERMISSIONS", lines)
    visitors.move_in(settings.folders)

    def make(role: str | None = "viewer", peer: str = "127.0.0.1", **changes: Any) -> httpx.AsyncClient:
        chosen = load_serving_settings(home=settings.home, **changes)
        app, metrics = FastAPI(openapi_url=None), Metrics()

        @app.post("/echo")
        async def echo(request: Request, principal: PrincipalDep, address: ClientAddressDep) -> dict[str, Any]:
            return {"bytes": len(await request.body()), "name": principal.name, "address": address}

        @app.get("/slow")
        async def slow() -> None:
            await asyncio.sleep(10)

        @app.get("/stream")
        async def stream() -> str:
            await asyncio.sleep(0.1)
            return "late"

        @app.post("/change")
        async def change() -> str:
            return "changed"

        add_error_handlers(app)
        secure(app, chosen, Security(chosen, metrics))
        app.add_middleware(RequestContextMiddleware, metrics=metrics)
        transport = httpx.ASGITransport(app=app, client=(peer, 1))
        return httpx.AsyncClient(transport=transport, base_url="http://levibot", headers=visitors.headers(role))

    return make


async def _pieces(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * 512


async def test_a_body_that_is_too_large_is_refused_announced_or_not(
    small: Callable[..., httpx.AsyncClient], error_of: ErrorOf
) -> None:
    async with small(max_body_bytes=2048) as client:
        for content, size in ((b"x" * 2048, 2048), (_pieces(4), 2048), (b"", 0)):
            response = await client.post("/echo", content=content)
            assert (response.status_code, response.json()["bytes"]) == (200, size)
        for content in (b"x" * 2049, _pieces(5)):
            response = await client.post("/echo", content=content)
            assert response.status_code == 413
            assert error_of(response)["code"] == "body_too_large"
        lied = await client.post("/echo", content=b"x", headers={"Content-Length": "-1"})
        assert lied.status_code == 413


async def test_an_answer_that_takes_too_long_is_given_up_and_a_stream_is_not(
    small: Callable[..., httpx.AsyncClient], error_of: ErrorOf
) -> None:
    async with small(role=None, request_seconds=0.05) as client:
        slow, stream = await client.get("/slow"), await client.get("/stream")
    assert slow.status_code == 504
    assert error_of(slow)["code"] == "timeout"
    assert stream.json() == "late"


async def test_admin_endpoints_are_for_listed_addresses(
    small: Callable[..., httpx.AsyncClient], error_of: ErrorOf
) -> None:
    for peer, networks, status in (
        ("127.0.0.1", None, 200),
        ("::1", None, 200),
        ("::ffff:127.0.0.1", None, 200),
        ("192.168.1.5", None, 403),
        ("192.168.1.5", "10.0.0.0/8,192.168.1.0/24", 200),
        ("127.0.0.1", "10.0.0.0/8", 403),
        ("not an address", None, 403),
    ):
        async with small(role="admin", peer=peer, admin_addresses=networks) as client:
            response = await client.post("/change")
        assert response.status_code == status, (peer, networks)
    assert error_of(response)["code"] == "address_not_allowed"


@pytest.mark.parametrize(
    ("proxies", "peer", "forwarded", "address"),
    [
        (None, "10.0.0.1", "203.0.113.9", "10.0.0.1"),
        ("10.0.0.0/8", "10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.0/8", "10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.0/8", "10.0.0.1", "127.0.0.1, 203.0.113.9", "203.0.113.9"),
        ("10.0.0.0/8", "10.0.0.1", "203.0.113.9, 10.0.0.7", "203.0.113.9"),
        ("10.0.0.0/8", "10.0.0.1", "10.0.0.9, 10.0.0.7", "10.0.0.9"),
        ("10.0.0.0/8", "10.0.0.1", "203.0.113.9:4711", "203.0.113.9"),
        ("10.0.0.0/8", "10.0.0.1", "[2001:db8::1]:4711", "2001:db8::1"),
        ("10.0.0.0/8", "10.0.0.1", "203.0.113.9, nonsense", "10.0.0.1"),
        ("10.0.0.0/8", "10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.0/8", "192.0.2.1", "127.0.0.1", "192.0.2.1"),
    ],
)
async def test_only_a_trusted_proxy_says_where_a_request_is_from(
    small: Callable[..., httpx.AsyncClient], proxies: str | None, peer: str, forwarded: str | None, address: str
) -> None:
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    async with small(peer=peer, trusted_proxies=proxies) as client:
        assert (await client.post("/echo", headers=headers)).json()["address"] == address


async def test_origins_are_let_in_by_name(small: Callable[..., httpx.AsyncClient]) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    for origins, origin, allowed in (
        (None, "https://desk.example", False),
        ("https://desk.example", "https://desk.example", True),
        ("https://desk.example", "https://desk.example.evil", False),
    ):
        async with small(cors_origins=origins) as client:
            preflight = await client.options("/echo", headers={"Origin": origin, **asked})
            called = await client.post("/echo", headers={"Origin": origin, "Sec-Fetch-Site": "cross-site"})
            refused = await client.post("/echo", headers={"Origin": origin, "Authorization": "Bearer x"})
        for response in (preflight, called, refused):
            assert (response.headers.get("access-control-allow-origin") == origin) is allowed
            assert "access-control-allow-credentials" not in response.headers
        assert called.status_code == 200  # The token says who it is; the browser keeps the answer from the page.


@pytest.mark.parametrize(
    "changes",
    [
        {"signing_key": "changeme"},
        {"signing_key": "secret" * 10},
        {"signing_key": RANDOM, "previous_signing_key": "short"},
        {"metrics_token": "prometheus"},
    ],
)
def test_a_secret_that_can_be_guessed_keeps_it_from_starting_outside_development(
    settings: ServingSettings, changes: dict[str, str]
) -> None:
    with pytest.raises(CredentialError, match="can be guessed"):
        create_app(load_serving_settings(home=settings.home, **changes))
    create_app(load_serving_settings(home=settings.home, environment="development", **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"cors_origins": "*"},
        {"admin_addresses": "everywhere"},
        {"trusted_proxies": "10.0.0.0/99"},
        {"environment": "test"},
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused(settings: ServingSettings, changes: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(changes))):
        load_serving_settings(home=settings.home, **changes)


async def test_the_metrics_token_opens_the_metrics_and_nothing_else(settings: ServingSettings, visitors: Any) -> None:
    visitors.move_in(settings.folders)
    app = create_app(load_serving_settings(home=settings.home, metrics_token=RANDOM))
    app.state.services = None
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    headers = {"Authorization": f"Bearer {RANDOM}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://levibot") as client:
        # It reaches the endpoint, which fails for want of services.
        assert (await client.get("/metrics", headers=headers)).status_code == 500
        assert (await client.get("/metrics")).status_code == 401
        assert (await client.get("/metrics", headers={"Authorization": f"Bearer {RANDOM}x"})).status_code == 401
        assert (await client.get("/ai/models", headers=headers)).status_code == 401


async def test_keys_of_the_environment_sign_and_are_rotated_there(settings: ServingSettings, visitors: Any) -> None:
    visitors.move_in(settings.folders)
    given = {"username": "viewer", "password": visitors.password}
    before = load_serving_settings(home=settings.home, signing_key=RANDOM)
    after = load_serving_settings(home=settings.home, signing_key=RANDOM[::-1], previous_signing_key=RANDOM)
    other = load_serving_settings(home=settings.home, signing_key=RANDOM[::-1])
    token = ""
    for chosen, status in ((before, 200), (after, 200), (other, 401)):
        transport = httpx.ASGITransport(app=create_app(chosen))
        async with httpx.AsyncClient(transport=transport, base_url="http://levibot") as client:
            token = token or (await client.post("/auth/login", json=given)).json()["access_token"]
            response = await client.get("/auth/me", headers={"Authorization": f"Bearer {token}"})
        assert response.status_code == status


async def test_no_websocket_is_let_in(settings: ServingSettings) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    await create_app(settings)({"type": "websocket", "path": "/ai/predict", "headers": []}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008, "reason": ""}]


async def test_the_documentation_says_who_may_call_what(settings: ServingSettings) -> None:
    schema = create_app(settings).openapi()
    assert schema["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    predict, login = schema["paths"]["/ai/predict"]["get"], schema["paths"]["/auth/login"]["post"]
    assert predict["security"] == [{"token": []}]
    assert "Roles: admin, service, trader, viewer." in predict["description"]
    assert "Retry-After" in predict["responses"]["429"]["headers"]
    assert "security" not in login
    assert {"401", "413", "422", "429", "504"} <= set(login["responses"])
    assert create_app(settings).openapi() == schema


@pytest.mark.usefixtures("clock")
async def test_a_batch_is_charged_by_its_route(
    settings: ServingSettings, visitors: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = (
        Permission("POST", "/batch", EVERYBODY, forecasts=True),
        Permission("GET", "/nobody", PUBLIC),
    )
    monkeypatch.setattr(security_module, "PERMISSIONS", lines)
    visitors.move_in(settings.folders)
    app, metrics = FastAPI(openapi_url=None), Metrics()
    security = Security(settings, metrics)

    @app.post("/batch")
    async def batch(request: Request, principal: PrincipalDep, symbols: int) -> None:
        await charge_further_forecasts(request, principal, symbols)

    @app.get("/nobody")
    async def nobody(principal: PrincipalDep) -> str:
        return principal.name

    add_error_handlers(app)
    secure(app, settings, security)
    app.add_middleware(RequestContextMiddleware, metrics=metrics)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://levibot") as client:
        headers = visitors.headers("viewer")
        answers = [await client.post("/batch", params={"symbols": many}, headers=headers) for many in (45, 15, 1, 61)]
        assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
        engine = await client.post("/batch", params={"symbols": 1201}, headers=visitors.headers("service"))
        assert (engine.status_code, engine.json()["error"]["code"]) == (400, "larger_than_budget")

        assert (await client.get("/nobody")).status_code == 401


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("unknown", "unknown"),
    ],
)
def test_an_address_is_counted_with_those_that_the_same_line_has(address: str, place: str) -> None:
    assert household(address) == place


async def test_over_tls_browsers_are_told_to_stay_there(settings: ServingSettings) -> None:
    chosen = load_serving_settings(home=settings.home, trusted_proxies="127.0.0.1/32")
    transport = httpx.ASGITransport(app=create_app(chosen))
    async with httpx.AsyncClient(transport=transport, base_url="http://levibot") as client:
        plain = await client.get("/livez")
        tls = await client.get("/livez", headers={"X-Forwarded-Proto": "https"})
    assert "strict-transport-security" not in plain.headers
    assert tls.headers["strict-transport-security"] == "max-age=31536000"
