"""Constant load on the inference API: keep-alive clients, each asking at its own pace, and every answer remembered.

What is measured while they ask is the benchmark's business, such as `benchmarks.rollback_under_load`.
"""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import httpx

_PATIENCE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One request: when it was sent and answered (seconds of `time.perf_counter`), and by which version, or why not."""

    sent: float
    answered: float
    version: int | None
    failure: str | None


class LoadClient:
    """Asks for forecasts on one connection, so many a second, until it is stopped."""

    def __init__(self, address: str, symbol: str, per_second: float, headers: Mapping[str, str]) -> None:
        self.answers: list[Answer] = []
        self._address, self._symbol, self._headers = address, symbol, dict(headers)
        self._pause = 1.0 / per_second
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask_until_stopped, daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more, and wait for the last answer."""
        self._stop.set()
        self._thread.join(_PATIENCE_SECONDS)

    def first_served(self, version: int, since: float) -> float | None:
        """When a version first answered something that was sent after an instant; None where it did not yet."""
        served = (one.answered for one in self.answers.copy() if one.sent >= since and one.version == version)
        return min(served, default=None)

    def _ask_until_stopped(self) -> None:
        with httpx.Client(base_url=self._address, headers=self._headers, timeout=_PATIENCE_SECONDS) as client:
            due = time.perf_counter()
            while not self._stop.wait(max(0.0, due - time.perf_counter())):
                self.answers.append(self._ask(client))
                # Behind its pace it goes on at once, and does not make up for what it missed.
                due = max(due + self._pause, time.perf_counter())

    def _ask(self, client: httpx.Client) -> Answer:
        sent = time.perf_counter()
        version, failure = None, None
        try:
            response = client.get("/ai/predict", params={"symbol": self._symbol})
            if response.status_code == httpx.codes.OK:
                version = int(response.json()["model_version"])
            else:
                failure = f"{response.status_code}: {response.text[:200]}"
        except httpx.HTTPError as error:
            failure = repr(error)
        return Answer(sent, time.perf_counter(), version, failure)


@contextmanager
def load(
    address: str, symbols: Sequence[str], clients: int, per_second: float, headers: Mapping[str, str]
) -> Iterator[list[LoadClient]]:
    """So many clients, each with so many requests a second, for the length of a block."""
    with ExitStack() as running:
        asking = [LoadClient(address, symbols[number % len(symbols)], per_second, headers) for number in range(clients)]
        for client in asking:
            client.start()
            running.callback(client.stop)
        yield asking
