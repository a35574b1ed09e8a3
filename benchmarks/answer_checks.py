"""Asks the API without pause and checks every answer: is the number right, and does it say when it is degraded?

Right is what the pure predictor gives, offline, for the version and the bar that the answer names; a bar is told by its
close. What an answer should have said at the time is the scenario's business, see `benchmarks.serving_faults`.
"""

import http.client
import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.serving_home import SERVED_SYMBOLS, vector_of
from levibot_core.models.bundle import ModelBundle
from levibot_core.models.uncertainty import read_uncertainty
from levibot_serving.predictor import forecast
from levibot_serving.registry import ModelRecord
from levibot_serving.served import ServedModel

_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One request and what came of it.

    Attributes:
        sent: Monotonic seconds.
        received: Monotonic seconds.
        status: HTTP status; None when the connection broke.
        body: The JSON that came back; empty without an answer.
    """

    sent: float
    received: float
    status: int | None
    body: Mapping[str, Any]

    @property
    def flagged(self) -> bool:
        """Whether the answer says that it is less than a fresh one of the champion."""
        return bool(self.body.get("fallback") or self.body.get("note"))


class Expected:
    """The right probability of every version, symbol and bar, worked out when it is first needed."""

    def __init__(self) -> None:
        self._models: dict[int, ServedModel] = {}
        self._known: dict[tuple[int, str, float], float] = {}
        self._lock = threading.Lock()

    def add(self, version: int, bundle: ModelBundle) -> None:
        """A version that may answer."""
        record = ModelRecord(name="checked", version=version, created_ms=0, source="", aliases=(), tags={})
        parts = read_uncertainty(bundle.parts, bundle.manifest.horizon_bars, len(bundle.manifest.features))
        self._models[version] = ServedModel(bundle, record, True, (), 0, False, parts)

    def is_right(self, body: Mapping[str, Any]) -> bool:
        """Whether the probability is that of the version and the bar that the answer names, bit by bit."""
        key = (int(body["model_version"]), str(body["symbol"]), float(body["_current_price"]))
        with self._lock:
            if key not in self._known:
                vector = vector_of(key[1], round(key[2] - 100.0), known_at_ms=0)
                self._known[key] = forecast(self._models[key[0]], key[1], vector).probability
        return bool(body["prob_up"] == self._known[key])


class Engines:
    """Clients that ask for one symbol after another at a fixed rate, for the length of a `with` block."""

    def __init__(self, port: int, headers: Mapping[str, str], clients: int = 4, rate: float = 100.0) -> None:
        self._port = port
        self._headers = dict(headers)
        self._period_s = clients / rate
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(place,), daemon=True) for place in range(clients)]
        self._answers: list[list[Answer]] = [[] for _ in range(clients)]

    def __enter__(self) -> "Engines":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def answers(self) -> list[Answer]:
        """All answers so far, in the order in which they were asked for."""
        return sorted((answer for found in self._answers for answer in tuple(found)), key=lambda answer: answer.sent)

    def _ask(self, place: int) -> None:
        connection: http.client.HTTPConnection | None = None
        symbols = SERVED_SYMBOLS[place:] + SERVED_SYMBOLS[:place]
        number = 0
        while not self._stop.wait(self._period_s):
            symbol = symbols[number % len(symbols)].replace("/", "")
            number += 1
            sent = time.monotonic()
            try:
                if connection is None:
                    connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_TIMEOUT_S)
                connection.request("GET", f"/ai/predict?symbol={symbol}", headers=self._headers)
                response = connection.getresponse()
                body = json.loads(response.read())
                answer = Answer(sent, time.monotonic(), response.status, body)
            except (OSError, http.client.HTTPException, ValueError):
                answer = Answer(sent, time.monotonic(), None, {})
                if connection is not None:
                    connection.close()
                    connection = None
            self._answers[place].append(answer)
        if connection is not None:
            connection.close()


def summary(answers: Sequence[Answer], expected: Expected) -> dict[str, Any]:
    """Counts over some answers: how many were given, wrong, refused, flagged; and the slowest."""
    given = [answer for answer in answers if answer.status == 200]
    times = sorted((answer.received - answer.sent) * 1e3 for answer in answers)
    return {
        "requests": len(answers),
        "answered": len(given),
        "wrong": sum(not expected.is_right(answer.body) for answer in given),
        "flagged": sum(answer.flagged for answer in given),
        "abstained": sum(bool(answer.body["abstain"]) for answer in given),
        "refused": sum(answer.status is not None and answer.status != 200 for answer in answers),
        "broken": sum(answer.status is None for answer in answers),
        "p99_ms": times[len(times) * 99 // 100] if times else None,
    }
