"""The client for asyncio. What it asks is in `.calls`, how it talks in `.conversation`."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Literal, TypeVar

import httpx

from levibot_core.config import SourceKind
from levibot_serving.client import calls
from levibot_serving.client.calls import Call, CandleRows, Role
from levibot_serving.client.conversation import Answer, Ask, Refresh, RetryPolicy, Session, conversation
from levibot_serving.client.errors import ConnectionFailedError, LevibotClientError, error_of
from levibot_serving.client.event_stream import STREAM_PATH, STREAM_TIMEOUT, predictions_as_they_come
from levibot_serving.contract import Alive, Health, Models, Prediction, Ready
from levibot_serving.contract_analytics import Deciles, RecentPrediction, RecentPredictions, SignalLog
from levibot_serving.contract_backtests import BacktestEntry, BacktestQueued, BacktestReport
from levibot_serving.contract_control import ChampionChange, KillAnswer, LiveStatus, ModelList, Selected
from levibot_serving.contract_explanation import Explanation
from levibot_serving.contract_features import Features, FeaturesBatch
from levibot_serving.contract_forecasts import BatchAnswer

_Result = TypeVar("_Result")
_LOGIN, _REFRESH = "/auth/login", "/auth/refresh"


class AsyncLevibotClient:
    """A client of one API, for one event loop. Arguments and errors are those of `LevibotClient`."""

    def __init__(
        self,
        address: str,
        *,
        timeout_s: float = 10.0,
        retry: RetryPolicy | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._http = httpx.AsyncClient(base_url=address, timeout=timeout_s, transport=transport)
        self._retry = retry or RetryPolicy()
        self._session = Session()
        self._refreshing = asyncio.Lock()

    async def __aenter__(self) -> "AsyncLevibotClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections and forget who is logged in."""
        self._session.tokens = None
        await self._http.aclose()

    async def login(self, username: str, password: str) -> None:
        """Log in; the tokens are kept in memory, refreshed when they expire, and the password is not kept."""
        self._session.adopt(await self._post(_LOGIN, {"username": username, "password": password}))

    async def predict(
        self,
        symbol: str,
        *,
        timeframe: str | None = None,
        horizon: int | None = None,
        candles: CandleRows | None = None,
        leader_candles: CandleRows | None = None,
        candles_source: SourceKind | None = None,
        funding: Sequence[tuple[int, float]] | None = None,
        fear_greed: Sequence[tuple[int, int]] | None = None,
        explain: bool = False,
    ) -> Prediction:
        """The forecast of one symbol, from the newest features, or from closed candles as ccxt gives them."""
        return await self._ask(
            calls.predict(
                symbol,
                timeframe,
                horizon,
                candles,
                leader_candles,
                candles_source,
                funding,
                fear_greed,
                explain,
            )
        )

    async def predict_batch(
        self,
        symbols: Sequence[str],
        *,
        timeframe: str | None = None,
        horizon: int | None = None,
        candles: Mapping[str, CandleRows] | None = None,
        candles_source: SourceKind | None = None,
    ) -> BatchAnswer:
        """Forecasts of many symbols in one call; an error of one is in its item."""
        return await self._ask(calls.predict_batch(symbols, timeframe, horizon, candles, candles_source))

    async def explain(self, symbol: str, top: int | None = None) -> Explanation:
        """Why the forecast is what it is."""
        return await self._ask(calls.explain(symbol, top))

    async def models(self) -> Models:
        """The served model."""
        return await self._ask(calls.models())

    async def model_list(self) -> ModelList:
        """Every registered version."""
        return await self._ask(calls.model_list())

    async def activate(self, version: int, reason: str, *, force: bool = False) -> ChampionChange:
        """Make a version champion; `force` also one that did not pass its gates."""
        return await self._ask(calls.activate(version, reason, force))

    async def rollback(self, reason: str) -> ChampionChange:
        """Make the champion before the present one champion again."""
        return await self._ask(calls.rollback(reason))

    async def select(self, name: str) -> Selected:
        """Whether a model or family answers; an InvalidRequestError where it does not."""
        return await self._ask(calls.select(name))

    async def features(self, symbol: str, names: Sequence[str] | None = None) -> Features:
        """The newest features of one symbol."""
        return await self._ask(calls.features(symbol, names))

    async def features_of_many(self, symbols: Sequence[str], names: Sequence[str] | None = None) -> FeaturesBatch:
        """The newest features of many symbols."""
        return await self._ask(calls.features_of_many(symbols, names))

    async def recent_predictions(self, limit: int = 100, role: Role = "champion") -> RecentPredictions:
        """The newest forecasts, newest first."""
        return await self._ask(calls.recent_predictions(limit, role))

    async def deciles(self, window: Literal["24h", "7d"] = "24h", role: Role = "champion") -> Deciles:
        """How often forecasts came true, by tenths of their confidence."""
        return await self._ask(calls.deciles(window, role))

    async def signal_log(self, limit: int = 100) -> SignalLog:
        """The newest forecasts that took a side."""
        return await self._ask(calls.signal_log(limit))

    async def run_backtest(
        self,
        symbol: str,
        *,
        days: int = 30,
        fee_bps: float = 5.0,
        slippage_bps: float = 5.0,
        max_pos: float = 1.0,
        idempotency_key: str | None = None,
    ) -> BacktestQueued:
        """Queue a backtest; the same key again gives the same one."""
        return await self._ask(
            calls.run_backtest(symbol, days, fee_bps, slippage_bps, max_pos, idempotency_key or uuid.uuid4().hex)
        )

    async def backtest_reports(self) -> list[BacktestEntry]:
        """Every backtest, newest first."""
        return await self._ask(calls.backtest_reports())

    async def backtest_report(self, report_id: str) -> BacktestReport:
        """One backtest with every trade."""
        return await self._ask(calls.backtest_report(report_id))

    async def kill(self, on: bool, reason: str) -> KillAnswer:
        """Throw the kill switch."""
        return await self._ask(calls.kill(on, reason))

    async def live_status(self) -> LiveStatus:
        """How the kill switch stands."""
        return await self._ask(calls.live_status())

    async def liveness(self) -> Alive:
        """Whether the process answers."""
        return await self._ask(calls.liveness())

    async def readiness(self) -> Ready:
        """Whether a model is loaded; an UnavailableError where none is."""
        return await self._ask(calls.readiness())

    async def health(self) -> Health:
        """Every part of the API, also when one of them fails."""
        return await self._ask(calls.health())

    async def metrics(self) -> str:
        """Prometheus text."""
        return await self._ask(calls.metrics())

    @asynccontextmanager
    async def stream_predictions(self) -> AsyncIterator[AsyncIterator[RecentPrediction]]:
        """Forecasts as they are given; see `LevibotClient.stream_predictions`."""
        await self.live_status()  # Refreshes a token that has expired: a stream cannot be asked twice.
        async with self._http.stream("GET", STREAM_PATH, headers=self._headers(), timeout=STREAM_TIMEOUT) as response:
            if not response.is_success:
                await response.aread()
                raise error_of(response)
            yield predictions_as_they_come(response.aiter_lines())

    async def _ask(self, call: Call[_Result]) -> _Result:
        steps = conversation(call, self._session, self._retry)
        answer: Answer = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                result: _Result = end.value
                return result
            answer = None
            if isinstance(step, Ask):
                answer = await self._send(step)
            elif isinstance(step, Refresh):
                await self._refresh(step.refused)
            else:
                await asyncio.sleep(step.seconds)

    async def _send(self, step: Ask[Any]) -> Answer:
        call = step.call
        headers = {**(call.headers or {}), **self._headers(step.token)}
        try:
            return await self._http.request(call.method, call.path, params=call.params, json=call.json, headers=headers)
        except httpx.TransportError as error:
            return error

    async def _refresh(self, refused: str) -> None:
        async with self._refreshing:
            tokens = self._session.tokens
            if tokens is None:
                raise LevibotClientError("Expected somebody to be logged in, was nobody any more. Log in again.")
            if tokens.access_token == refused:
                self._session.adopt(await self._post(_REFRESH, {"refresh_token": tokens.refresh_token}))

    async def _post(self, path: str, body: dict[str, str]) -> httpx.Response:
        try:
            return await self._http.post(path, json=body)
        except httpx.TransportError as error:
            raise ConnectionFailedError(f"Expected an answer to POST {path}, was {error!r}.") from error

    def _headers(self, token: str | None = None) -> dict[str, str]:
        carried = token or self._session.access_token
        return {} if carried is None else {"Authorization": f"Bearer {carried}"}
