"""One thread that asks for everybody, so that a slow server never holds more than that thread, nor the event loop.

Whoever asks while an earlier question is on its way waits for the next one, which then asks for all who wait, in one
round trip: an answer is never older than the question, and sixteen callers cost as many round trips as one. What is
asked, and what happens when there is no answer in time, is the caller's business.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

_Key = TypeVar("_Key")
_Answer = TypeVar("_Answer")


class Lane(Generic[_Key, _Answer]):
    """Asks for many at once, in one thread. To be used from one event loop at a time."""

    def __init__(
        self, name: str, ask: Callable[[Sequence[_Key]], Mapping[_Key, _Answer | Exception]], deadline_s: float
    ) -> None:
        """Nothing is started before the first question.

        Args:
            name: Of the thread.
            ask: Called in the thread with keys that differ; gives the answer, or the error, of each.
            deadline_s: Seconds that a caller waits at most.
        """
        self._name = name
        self._ask = ask
        self._deadline_s = deadline_s
        self._executor: ThreadPoolExecutor | None = None
        self._waiting: list[tuple[_Key, asyncio.Future[_Answer]]] = []
        self._asking_since: float | None = None

    async def get(self, key: _Key) -> _Answer:
        """The answer to a question that was asked after this call began.

        Raises:
            TimeoutError: there was none in time; while one question is overdue, others do not wait at all.
            Exception: what asking raised.
        """
        since = self._asking_since
        if since is not None and time.monotonic() - since > self._deadline_s:
            raise TimeoutError
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[_Answer] = loop.create_future()
        self._waiting.append((key, waiter))
        if since is None:
            self._begin(loop)
        async with asyncio.timeout(self._deadline_s):
            return await waiter

    def close(self) -> None:
        """Ask nothing more; an answer on its way is not waited for."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._executor is None:
            self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=self._name)
        batch, self._waiting = self._waiting, []
        self._asking_since = time.monotonic()
        self._executor.submit(self._work, loop, batch)

    def _work(self, loop: asyncio.AbstractEventLoop, batch: list[tuple[_Key, "asyncio.Future[_Answer]"]]) -> None:
        keys = list(dict.fromkeys(key for key, _ in batch))
        answers: Mapping[_Key, _Answer | Exception]
        try:
            answers = self._ask(keys)
        except Exception as error:  # Whoever waits gets it, whatever it is.
            answers = dict.fromkeys(keys, error)
        try:
            loop.call_soon_threadsafe(self._deliver, loop, batch, answers)
        except RuntimeError:  # The loop was closed meanwhile, and nobody waits.
            self._asking_since = None

    def _deliver(
        self,
        loop: asyncio.AbstractEventLoop,
        batch: list[tuple[_Key, "asyncio.Future[_Answer]"]],
        answers: Mapping[_Key, _Answer | Exception],
    ) -> None:
        self._asking_since = None
        if self._waiting:
            self._begin(loop)
        for key, waiter in batch:
            if waiter.done():  # Its caller gave up.
                continue
            answer = answers[key]
            if isinstance(answer, Exception):
                waiter.set_exception(answer)
            else:
                waiter.set_result(answer)
