"""The client against a real server: every endpoint, logins that expire, refusals, limits, and servers that are away."""

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from levibot_core.models.bundle import ModelBundle
from levibot_core.security.sessions import Sessions
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
QUICK = RetryPolicy(attempts=3, first_wait_s=0.01, longest_wait_s=1.0)


class Door:
    """What may happen on the way to a server: tokens that have expired, and a limit for `/features`."""

    def __init__(self) -> None:
        self.refreshed = 0
        self.limited = 0
        self.retry_after = "0"
        self._seen: set[str] = set()
        self._expired: set[str] = set()

    def expire(self) -> None:
        """Every token that was sent is refused from now on."""
        self._expired |= self._seen

    def before(self, app: ASGIApp) -> ASGIApp:
        """The application behind it."""

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            path, headers = scope.get("path", ""), dict(scope.get("headers", ()))
            token = headers.get(b"authorization", b"").decode()
            if path == "/auth/refresh":
                self.refreshed += 1
                self._expired.clear()  # A token of the same second is the same token.
            if token and token in self._expired:
                await error_response("1", 401, "unauthorized", "It expired.")(scope, receive, send)
            elif path.startswith("/features") and self.limited > 0:
                self.limited -= 1
                refusal = error_response("1", 429, "rate_limited", "Slow.", headers={"Retry-After": self.retry_after})
                await refusal(scope, receive, send)
            else:
                self._seen.add(token)
                await app(scope, receive, send)

        return answer


@contextmanager
def running(app: ASGIApp) -> Iterator[str]:
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
    visitors: Any,
    eventually: Callable[..., None],
) -> Iterator[str]:
    """A server with two versions, of which the first is champion, features of two symbols, and users."""
    visitors.move_in(home)
    features.put([vector(), vector(symbol="ETH/USDT")])
    registry.register(lightgbm_bundle(), TAGS)
    registry.register(lightgbm_bundle(seed=8), TAGS, promote=False)
    app = create_app(load_serving_settings(home=home.root, registry_poll_seconds=0.1))
    with running(door.before(app)) as url:
        eventually(lambda: httpx.get(f"{url}/readyz").status_code == 200)
        yield url


def test_every_endpoint_is_asked_and_answers_in_its_type(
    address: str, visitors: Any, eventually: Callable[..., None]
) -> None:
    with LevibotClient(address, retry=QUICK) as client:
        client.login("admin", visitors.password)
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


def test_a_login_is_refused_kept_refreshed_and_forgotten(address: str, home: Home, visitors: Any, door: Door) -> None:
    sessions = Sessions(home.sessions)
    before = sessions.live()
    with LevibotClient(address, retry=QUICK) as client:
        with pytest.raises(AuthenticationError, match="401 unauthorized"):
            client.live_status()
        with pytest.raises(AuthenticationError, match="sign_in_refused"):
            client.login("admin", "a guess")
        client.login("admin", visitors.password)
        assert client.live_status().active
        door.expire()
        threads = [threading.Thread(target=client.live_status) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert door.refreshed == 1  # a refresh token works once, so one thread used it for all
        for session in sessions.live() - before:
            sessions.end(session)
        door.expire()
        with pytest.raises(AuthenticationError, match="refresh_refused"):
            client.live_status()
        with pytest.raises(AuthenticationError, match="unauthorized"):
            client.live_status()


def test_a_limit_is_waited_for_as_long_as_is_asked_and_not_for_ever(address: str, visitors: Any, door: Door) -> None:
    with LevibotClient(address, retry=QUICK) as client:
        client.login("admin", visitors.password)
        door.limited = 2
        assert client.features("BTCUSDT").symbol == "BTC/USDT"
        door.limited = 3
        with pytest.raises(RateLimitedError):
            client.features("BTCUSDT")
        door.limited, door.retry_after = 1, "60"
        with pytest.raises(RateLimitedError) as refused:
            client.features("BTCUSDT")
        assert (refused.value.retry_after_s, refused.value.code) == (60.0, "rate_limited")


async def test_the_asynchronous_client_does_the_same(address: str, visitors: Any, door: Door) -> None:
    async with AsyncLevibotClient(address, retry=QUICK) as client:
        await client.login("admin", visitors.password)
        predictions = await asyncio.gather(*(client.predict(symbol) for symbol in ("BTCUSDT", "ETHUSDT")))
        assert [prediction.symbol for prediction in predictions] == ["BTC/USDT", "ETH/USDT"]
        door.expire()
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


def test_a_stream_gives_forecasts_as_they_are_made(address: str, visitors: Any) -> None:
    with LevibotClient(address, retry=QUICK) as client:
        client.login("admin", visitors.password)
        with client.stream_predictions() as forecasts:
            client.predict("BTCUSDT")
            assert next(forecasts).symbol == "BTC/USDT"


async def test_a_server_that_is_away_is_asked_again_and_then_told_of(visitors: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with (
        LevibotClient(f"http://127.0.0.1:{port}", retry=QUICK) as client,
        pytest.raises(ConnectionFailedError, match="ConnectError"),
    ):
        client.predict("BTCUSDT")
    async with AsyncLevibotClient(f"http://127.0.0.1:{port}", retry=QUICK) as other:
        with pytest.raises(ConnectionFailedError):
            await other.login("admin", visitors.password)


def test_an_abstention_is_an_answer_and_a_date_is_waited_for() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        details = {"abstain": True, "side": "flat", "reasons": ["no features"]}
        error = {"code": "features_unavailable", "message": "none", "request_id": "1", "details": details}
        if request.url.path == "/ai/predict":
            return httpx.Response(503, json={"error": error})
        past = "Fri, 02 Jan 2026 03:05:00 -0000"
        return httpx.Response(429, json={"error": {**error, "details": None}}, headers={"Retry-After": past})

    with LevibotClient("http://levibot", retry=QUICK, transport=httpx.MockTransport(answer)) as client:
        with pytest.raises(UnavailableError) as refused:
            client.predict("BTCUSDT")
        assert (refused.value.abstains, len(asked)) == (True, 1)
        with pytest.raises(RateLimitedError) as limited:
            client.models()
        assert (limited.value.retry_after_s, len(asked)) == (0.0, 4)


def test_an_answer_of_something_else_is_told_as_it_is() -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(502, text="<html>bad gateway</html>"))
    with (
        LevibotClient("http://levibot", transport=transport) as client,
        pytest.raises(Exception, match="502 unknown: <html>"),
    ):
        client.models()
