"""Server-sent events: every forecast as it is written to the log of forecasts, whichever worker gave it.

One task per worker reads what was added to the file and hands it to its listeners, each with a queue of its own. A
listener that does not keep up is sent away: its queue is full, or a write to it does not end. Nothing is read while
nobody listens. Wire format: WHATWG HTML, section 9.2, "Server-sent events".
"""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from levibot_core.stores.prediction_log import PredictionLog, parse_forecast
from levibot_serving.errors import ApiError
from levibot_serving.prediction_journal import recent_prediction

logger = logging.getLogger(__name__)

MOST_LISTENERS = 64
QUEUE_LIMIT = 256
HEARTBEAT_S = 15.0
_LOOK_EVERY_S = 0.2
_SEND_PATIENCE_S = 10.0
_HEARTBEAT = b": heartbeat\n\n"
_END = b""


@dataclass(eq=False)
class Listener:
    """One client's queue of events; an empty one ends it."""

    queue: asyncio.Queue[bytes] = field(default_factory=lambda: asyncio.Queue(QUEUE_LIMIT))

    def offer(self, event: bytes) -> bool:
        """Queue an event; False when the queue is full, which ends the listener."""
        try:
            self.queue.put_nowait(event)
        except asyncio.QueueFull:
            self.end()
            return False
        return True

    def end(self) -> None:
        """Let the client go; what it has not read is forgotten."""
        while not self.queue.empty():
            self.queue.get_nowait()
        self.queue.put_nowait(_END)


class PredictionStream:
    """The listeners of one worker. To be used from its event loop, but for `end_soon`."""

    def __init__(self, log: PredictionLog) -> None:
        self.dropped = 0
        self._log = log
        self._listeners: set[Listener] = set()
        self._reader: asyncio.Task[None] | None = None
        self._path = Path()
        self._place = 0
        self._ending = False

    @property
    def listeners(self) -> int:
        """How many clients listen."""
        return len(self._listeners)

    def expect_room(self) -> None:
        """Refuse a client too many.

        Raises:
            ApiError: there are too many already, or the worker is about to end.
        """
        if self._ending or len(self._listeners) >= MOST_LISTENERS:
            raise ApiError(
                503, "too_many_streams", f"Expected at most {MOST_LISTENERS} open streams per worker. Try again later."
            )

    @contextmanager
    def listening(self, now_ms: int) -> Iterator[Listener]:
        """A listener to what is written from now on."""
        if self._reader is None or self._reader.done():
            self._path = self._log.file_of(now_ms)
            self._place = self._path.stat().st_size if self._path.is_file() else 0
            self._reader = asyncio.create_task(self._read_while_heard())
        listener = Listener()
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)

    def end_soon(self) -> None:
        """Let every client go: the worker is about to end, and would wait for them."""
        self._ending = True
        for listener in list(self._listeners):
            listener.end()

    async def _read_while_heard(self) -> None:
        while self._listeners:
            for line in await run_in_threadpool(self._added):
                logged = parse_forecast(line)
                if logged is None:
                    continue
                event = b"event: prediction\ndata: %b\n\n" % recent_prediction(logged).model_dump_json().encode()
                for listener in list(self._listeners):
                    if not listener.offer(event):
                        self.dropped += 1
                        self._listeners.discard(listener)
            await asyncio.sleep(_LOOK_EVERY_S)

    def _added(self) -> list[bytes]:
        """Whole lines that were added since the last look; at midnight, of both days."""
        lines = self._rest_of(self._path)
        newest = max((self._path, *self._log.files().values()), key=lambda path: path.name)
        if newest != self._path:
            self._path, self._place = newest, 0
            lines += self._rest_of(newest)
        return lines

    def _rest_of(self, path: Path) -> list[bytes]:
        try:
            with path.open("rb") as file:
                file.seek(self._place)
                content = file.read()
        except OSError:  # Not there yet, or no longer: nothing was added that could be read.
            return []
        whole = content.rpartition(b"\n")[0]
        if not whole:
            return []
        self._place += len(whole) + 1
        return [line for line in whole.split(b"\n") if line]


class EventStream(Response):
    """The response to one client."""

    def __init__(
        self,
        stream: PredictionStream,
        now_ms: int,
        heartbeat_s: float = HEARTBEAT_S,
        patience_s: float = _SEND_PATIENCE_S,
    ) -> None:
        super().__init__()
        self._stream = stream
        self._now_ms = now_ms
        self._heartbeat_s = heartbeat_s
        self._patience_s = patience_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the client leaves, does not keep up, or the worker ends."""
        del scope  # Part of every response's signature.
        with self._stream.listening(self._now_ms) as listener:
            leaving = asyncio.ensure_future(_client_left(receive))
            headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]
            try:
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                await self._send(send, _HEARTBEAT)
                while event := await self._next(listener, leaving):
                    await self._send(send, event)
                await self._send(send, b"", more=False)
            except TimeoutError:
                self._stream.dropped += 1
                logger.info("A listener to the forecasts did not read for %.0f s and was sent away", self._patience_s)
            finally:
                leaving.cancel()

    async def _next(self, listener: Listener, leaving: "asyncio.Future[None]") -> bytes:
        """The next event, a heartbeat when there is none for a while, or nothing at the end."""
        waiting = asyncio.ensure_future(listener.queue.get())
        either: set[asyncio.Future[Any]] = {waiting, leaving}
        done, _ = await asyncio.wait(either, timeout=self._heartbeat_s, return_when=asyncio.FIRST_COMPLETED)
        if waiting in done:
            return waiting.result()
        waiting.cancel()
        return _END if leaving in done else _HEARTBEAT

    async def _send(self, send: Send, body: bytes, *, more: bool = True) -> None:
        async with asyncio.timeout(self._patience_s):
            await send({"type": "http.response.body", "body": body, "more_body": more})


async def _client_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
