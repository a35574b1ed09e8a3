"""The stream of forecasts: of all workers, with heartbeats, and without those who do not keep up."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from levibot_core.stores.paths import Home
from levibot_core.stores.prediction_log import PredictionLog
from levibot_serving.contract import PREDICTION_EXAMPLE, Prediction
from levibot_serving.contract_analytics import RecentPrediction
from levibot_serving.errors import ApiError
from levibot_serving.prediction_journal import logged_forecast
from levibot_serving.prediction_stream import MOST_LISTENERS, QUEUE_LIMIT, EventStream, PredictionStream

pytestmark = pytest.mark.anyio

FORECAST = logged_forecast(Prediction.model_validate(PREDICTION_EXAMPLE), "champion", "exchange")
NOW_MS = FORECAST.served_at_ms


class Client:
    """One connection, as a server would hand it to the application."""

    def __init__(self, *, reads: bool = True) -> None:
        self.bodies: list[bytes] = []
        self.gone = asyncio.Event()
        self._reads = reads

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.body":
            self.bodies.append(message["body"])
            if not self._reads:
                await asyncio.Event().wait()

    @property
    def forecasts(self) -> list[RecentPrediction]:
        lines = b"".join(self.bodies).decode().splitlines()
        return [RecentPrediction.model_validate(json.loads(line[6:])) for line in lines if line.startswith("data: ")]


@pytest.fixture
def log(home: Home) -> PredictionLog:
    return PredictionLog(home.predictions)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def open_stream(stream: PredictionStream, client: Client, **options: float) -> "asyncio.Task[None]":
    response = EventStream(stream, NOW_MS, **options)
    return asyncio.ensure_future(response({"type": "http"}, client.receive, client.send))


async def test_forecasts_of_every_worker_arrive_as_they_are_written(log: PredictionLog) -> None:
    log.append([FORECAST])  # from before, not streamed
    stream, client = PredictionStream(log), Client()
    task = open_stream(stream, client)
    await until(lambda: len(client.bodies) == 1)
    PredictionLog(log.folder).append([FORECAST, FORECAST])
    await until(lambda: len(client.forecasts) == 2)
    assert (client.forecasts[0].symbol, client.forecasts[0].prob_up) == ("BTC/USDT", 0.571)
    client.gone.set()
    await task
    assert (stream.listeners, stream.dropped) == (0, 0)


async def test_midnight_passes_without_a_gap(log: PredictionLog) -> None:
    from dataclasses import replace

    stream, client = PredictionStream(log), Client()
    task = open_stream(stream, client)
    await until(lambda: len(client.bodies) == 1)
    log.append([FORECAST, replace(FORECAST, served_at_ms=NOW_MS + 86_400_000)])
    await until(lambda: len(client.forecasts) == 2)
    client.gone.set()
    await task


async def test_a_quiet_stream_beats(log: PredictionLog) -> None:
    stream, client = PredictionStream(log), Client()
    task = open_stream(stream, client, heartbeat_s=0.01)
    await until(lambda: len(client.bodies) > 3)
    assert set(client.bodies) == {b": heartbeat\n\n"}
    client.gone.set()
    await task


async def test_a_client_that_does_not_read_is_sent_away_and_others_are_not(log: PredictionLog) -> None:
    stream, slow, quick = PredictionStream(log), Client(reads=False), Client()
    stuck = open_stream(stream, slow, patience_s=0.05)
    task = open_stream(stream, quick)
    await asyncio.wait_for(stuck, 10)
    assert (stream.listeners, stream.dropped) == (1, 1)
    log.append([FORECAST])
    await until(lambda: len(quick.forecasts) == 1)
    quick.gone.set()
    await task


async def test_a_client_that_falls_behind_is_let_go_with_what_it_was_given(log: PredictionLog) -> None:
    stream = PredictionStream(log)
    with stream.listening(NOW_MS) as listener:
        log.append([FORECAST] * (QUEUE_LIMIT + 1))
        await until(lambda: stream.dropped == 1)
        assert listener.queue.qsize() == 1
        assert await listener.queue.get() == b""


async def test_there_is_room_for_so_many_and_none_when_the_worker_ends(log: PredictionLog) -> None:
    from contextlib import ExitStack

    stream = PredictionStream(log)
    with ExitStack() as listeners:
        for _ in range(MOST_LISTENERS):
            stream.expect_room()
            listeners.enter_context(stream.listening(NOW_MS))
        with pytest.raises(ApiError, match="at most 64"):
            stream.expect_room()
    client = Client()
    task = open_stream(stream, client)
    await until(lambda: len(client.bodies) == 1)
    stream.end_soon()
    await asyncio.wait_for(task, 10)
    assert client.bodies[-1] == b""
    with pytest.raises(ApiError):
        stream.expect_room()
