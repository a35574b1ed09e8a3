"""The client against a real server: every endpoint, logins that expire, refusals, limits, and servers that are away."""

import asyncio
import json
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from levibot_core.models.bundle import ModelBundle
from levibot_core.stores.online import FeatureVector, SqliteOnlineStore
from levibot_core.stores.paths import Home
from levibot_serving.client import (
    AsyncLevibotClient,
    AuthenticationError,
    ConflictError,
    ConnectionFailedError,
    InvalidRequestError,
    LevibotClient,
    NotFoundError,
    RateLimitedError,
    RetryPolicy,
    UnavailableError,
)
from levibot_serving.config import load_serving_settings
from levibot_serving.errors import error_response
from levibot_serving.main import create_app

Bundles = Callable[..., ModelBundle]
Vector = Callable[..., FeatureVector]

# MLflow 3.17 maps its tables with what SQLAlchemy 2.1 deprecates.
pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")]

PASSED = json.dumps([{"gate": "latency", "passed": True, "found": "p95 0.2 ms", "required": "at most 80 ms"}])
TAGS = {"tradable": "true", "reasons": "[]", "gates": PASSED}
PASSWORD = secrets.token_urlsafe()
QUICK = RetryPolicy(attempts=3, first_wait_s=0.01, longest_wait_s=1.0)


@dataclass
class Door:
    """What a server in front of the API does: issues tokens, refuses others, and limits."""

    valid: set[str] = field(default_factory=set)
    refresh: set[str] = field(default_factory=set)
    refreshed: int = 0
    limited: int = 0
    retry_after: str = "0"

    def tokens(self) -> dict[str, object]:
        access, again = secrets.token_hex(8), secrets.token_hex(8)
        self.valid.add(access)
        self.refresh.add(again)
        return {"access_token": access, "refresh_token": again, "token_type": "bearer", "expires_in": 900}


def guard(app: FastAPI, door: Door) -> None:
    """Ask for a token on `/live` and `/stream`, and limit `/features` while the door says so."""

    @app.post("/auth/login")
    async def login(body: dict[str, str]) -> JSONResponse:
        if body != {"username": "ada", "password": PASSWORD}:
            return error_response("1", 401, "wrong_credentials", "Expected another password.")
        return JSONResponse(door.tokens())

    @app.post("/auth/refresh")
    async def refresh(body: dict[str, str]) -> JSONResponse:
        if body["refresh_token"] not in door.refresh:
            return error_response("1", 401, "unknown_token", "Log in again.")
        door.refresh.discard(body["refresh_token"])
        door.refreshed += 1
        return JSONResponse(door.tokens())

    @app.middleware("http")
    async def check(request: Request, call_next: Callable[[Request], Any]) -> Any:
        path, carried = request.url.path, request.headers.get("authorization", "").removeprefix("Bearer ")
        if path.startswith(("/live/", "/stream")) and carried not in door.valid:
            return error_response("1", 401, "not_logged_in", "Expected a token.")
        if path.startswith("/features") and door.limited > 0:
            door.limited -= 1
            return error_response("1", 429, "rate_limited", "Slow down.", headers={"Retry-After": door.retry_after})
        return await call_next(request)


@contextmanager
def running(app: FastAPI) -> Iterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture
def door() -> Door:
    return Door()


@pytest.fixture
def address(
    registry: Any,
    home: Home,
    lightgbm_bundle: Bundles,
    features: SqliteOnlineStore,
    vector: Vector,
    door: Door,
    eventually: Callable[..., None],
) -> Iterator[str]:
    """A server with two versions, of which the first is champion, and features of two symbols."""
    features.put([vector(), vector(symbol="ETH/USDT")])
    registry.register(lightgbm_bundle(), TAGS)
    registry.register(lightgbm_bundle(seed=8), TAGS, promote=False)
    app = create_app(load_serving_settings(home=home.root, registry_poll_seconds=0.1))
    guard(app, door)
    with running(app) as url:
        eventually(lambda: httpx.get(f"{url}/readyz").status_code == 200)
        yield url


def test_every_endpoint_is_asked_and_answers_in_its_type(address: str, eventually: Callable[..., None]) -> None:
    with LevibotClient(address, retry=QUICK) as client:
        client.login("ada", PASSWORD)
        prediction = client.predict("BTCUSDT", explain=True)
        assert (prediction.symbol, prediction.model_version) == ("BTC/USDT", 1)
        assert prediction.explanation is not None
        assert client.explain("BTC/USDT", top=1).contributions[0].feature == "return_1"
        batch = client.predict_batch(["BTC-USDT", "DOGEUSDT"])
        assert [item.error is None for item in batch.items] == [True, False]
        assert client.models().version == 1
        assert client.select("lightgbm").ok
        assert client.features("BTC/USDT", ["rsi_14"]).values == {"rsi_14": 0.3}
        assert [item.symbol for item in client.features_of_many(["ETHUSDT", "BTCUSDT"]).items] == [
            "ETH/USDT",
            "BTC/USDT",
        ]
        assert client.liveness().status == "alive"
        assert client.readiness().version == 1
        assert client.health().status in ("ok", "degraded")
        assert "levibot_predictions_total" in client.metrics()
        assert client.kill(True, "misquotes").kill_switch
        assert client.predict("BTCUSDT").abstain
        assert client.live_status().kill_switch_active
        client.kill(False, "quotes are back")
        assert client.recent_predictions(limit=5).items[0].symbol == "BTC/USDT"
        assert client.signal_log().items
        assert client.deciles("7d").forecasts == 1
        assert client.backtest_reports() == []
        assert [version.version for version in client.model_list().versions] == [2, 1]
        assert client.activate(2, "better").replaced == 1
        eventually(lambda: client.predict("BTCUSDT").model_version == 2, seconds=5.0)
        assert client.rollback("worse").champion == 1
        eventually(lambda: client.predict("BTCUSDT").model_version == 1, seconds=5.0)

        with pytest.raises(UnavailableError, match="LEVIBOT_DAGSTER_URL"):
            client.run_backtest("BTCUSDT", days=1)
        refusals: list[tuple[type[Exception], Callable[[], object]]] = [
            (NotFoundError, lambda: client.predict("DOGEUSDT")),
            (NotFoundError, lambda: client.backtest_report("v9")),
            (NotFoundError, lambda: client.activate(9, "better")),
            (InvalidRequestError, lambda: client.predict("BTCUSDT", horizon=5)),
            (InvalidRequestError, lambda: client.select("tft")),
            (ConflictError, lambda: client.rollback("no further back")),
        ]
        for kind, refused in refusals:
            with pytest.raises(kind) as error:
                refused()
            assert error.value.request_id  # type: ignore[attr-defined]


def test_a_login_is_refused_kept_refreshed_and_forgotten(address: str, door: Door) -> None:
    with LevibotClient(address, retry=QUICK) as client:
        with pytest.raises(AuthenticationError, match="401 not_logged_in"):
            client.live_status()
        with pytest.raises(AuthenticationError, match="wrong_credentials"):
            client.login("ada", "a guess")
        client.login("ada", PASSWORD)
        door.valid.clear()  # it expired
        threads = [threading.Thread(target=client.live_status) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert door.refreshed == 1  # a refresh token works once, so one thread used it for all
        door.valid.clear()
        door.refresh.clear()
        with pytest.raises(AuthenticationError, match="unknown_token"):
            client.live_status()
        with pytest.raises(AuthenticationError, match="not_logged_in"):
            client.live_status()


def test_a_limit_is_waited_for_as_long_as_is_asked_and_not_for_ever(address: str, door: Door) -> None:
    with LevibotClient(address, retry=QUICK) as client:
        door.limited = 2
        assert client.features("BTCUSDT").symbol == "BTC/USDT"
        door.limited = 3
        with pytest.raises(RateLimitedError):
            client.features("BTCUSDT")
        door.limited, door.retry_after = 1, "60"
        with pytest.raises(RateLimitedError) as refused:
            client.features("BTCUSDT")
        assert (refused.value.retry_after_s, refused.value.code) == (60.0, "rate_limited")


async def test_the_asynchronous_client_does_the_same(address: str, door: Door) -> None:
    async with AsyncLevibotClient(address, retry=QUICK) as client:
        await client.login("ada", PASSWORD)
        predictions = await asyncio.gather(*(client.predict(symbol) for symbol in ("BTCUSDT", "ETHUSDT")))
        assert [prediction.symbol for prediction in predictions] == ["BTC/USDT", "ETH/USDT"]
        door.valid.clear()
        states = await asyncio.gather(*(client.live_status() for _ in range(5)))
        assert (door.refreshed, {state.mode for state in states}) == (1, {"live"})
        assert len((await client.predict_batch(["BTCUSDT", "ETHUSDT"])).items) == 2
        assert (await client.model_list()).champion == 1
        with pytest.raises(NotFoundError, match="unknown_symbol"):
            await client.features("DOGEUSDT")
        async with client.stream_predictions() as forecasts:
            await client.kill(True, "misquotes")
            await client.predict("ETHUSDT")
            async for forecast in forecasts:
                if forecast.abstain:
                    assert (forecast.symbol, forecast.side) == ("ETH/USDT", "flat")
                    break
        assert (await client.health()).components["model"].status == "ok"


def test_a_stream_gives_forecasts_as_they_are_made(address: str) -> None:
    with LevibotClient(address, retry=QUICK) as client:
        client.login("ada", PASSWORD)
        with client.stream_predictions() as forecasts:
            client.predict("BTCUSDT")
            assert next(forecasts).symbol == "BTC/USDT"


async def test_a_server_that_is_away_is_asked_again_and_then_told_of() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with (
        LevibotClient(f"http://127.0.0.1:{port}", retry=QUICK) as client,
        pytest.raises(ConnectionFailedError, match="ConnectError"),
    ):
        client.predict("BTCUSDT")
    async with AsyncLevibotClient(f"http://127.0.0.1:{port}", retry=QUICK) as other:
        with pytest.raises(ConnectionFailedError):
            await other.login("ada", PASSWORD)


def test_an_answer_of_something_else_is_told_as_it_is() -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(502, text="<html>bad gateway</html>"))
    with (
        LevibotClient("http://levibot", transport=transport) as client,
        pytest.raises(Exception, match="502 unknown: <html>"),
    ):
        client.models()
