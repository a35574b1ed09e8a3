"""Logs every served feature vector, so that it can be compared with an offline computation later.

A request only appends to a bounded queue; one thread writes. A vector of a symbol gets a line when it is first served
by a model version, and again when anything of it changed; how often it was served after that is counted, and written
when the next vector takes its place or the API stops. What cannot be logged is counted by reason, never silently lost.
The format is in `levibot_core.stores.served_log`.
"""

import logging
import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal

from levibot_core.errors import HomeNotWritableError, LevibotError
from levibot_core.stores.lake import Lake
from levibot_core.stores.online import FeatureVector
from levibot_core.stores.paths import Home
from levibot_core.stores.served_log import Entry, FurtherServings, ServedLog, ServedVector

logger = logging.getLogger(__name__)

QUEUE_LIMIT = 2_000
"""Servings that may wait for the writer: ten thousand a second at `_WRITE_EVERY_S`."""
_WRITE_EVERY_S = 0.2
_JOIN_TIMEOUT_S = 5.0

DropReason = Literal["queue_full", "not_written"]


@dataclass(frozen=True, slots=True)
class _Serving:
    vector: FeatureVector
    model: str
    model_version: int
    served_at_ms: int

    def repeats(self, other: "_Serving") -> bool:
        """Whether this serving differs from the other in nothing but its instant."""
        return self.model_version == other.model_version and self.model == other.model and self.vector == other.vector


@dataclass(slots=True)
class _Logged:
    """A serving that has its line, and what happened since."""

    first: _Serving
    further: int = 0
    last_ms: int = 0


class VectorLog:
    """The log of one home. `record` may be called from any thread and never waits."""

    def __init__(self, home: Home, kept_days: int, queue_limit: int = QUEUE_LIMIT) -> None:
        self._log = ServedLog(home.served_vectors)
        self._lake = Lake(home.lake)
        self._kept_days = kept_days
        self._queue: deque[_Serving] = deque()
        self._queue_limit = queue_limit
        self._current: dict[str, _Logged] = {}
        self._cleaned_on: date | None = None
        self._recorded = 0
        self._lines = 0
        self._unwritten = 0  # servings taken from the queue that no line tells of yet
        self._dropped: Counter[DropReason] = Counter({"queue_full": 0, "not_written": 0})
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write_until_stopped, name="vector-log", daemon=True)

    @property
    def recorded(self) -> int:
        """Servings taken in since the start, whether their lines are written yet or not."""
        return self._recorded

    @property
    def lines(self) -> int:
        """Lines written since the start for vectors that were served for the first time."""
        return self._lines

    @property
    def dropped(self) -> Mapping[DropReason, int]:
        """Servings that are not in the log, by reason."""
        return dict(self._dropped)

    def start(self) -> None:
        """Begin to write; returns at once. Nothing is created before the first serving."""
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, and the counts of the vectors that are current."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_JOIN_TIMEOUT_S)

    def record(self, vector: FeatureVector, model: str, model_version: int, served_at_ms: int) -> None:
        """Note that a forecast was made from the vector; a full queue drops the note and counts it."""
        if len(self._queue) >= self._queue_limit:
            self._dropped["queue_full"] += 1
            return
        self._recorded += 1
        self._queue.append(_Serving(vector, model, model_version, served_at_ms))

    def flush(self) -> None:
        """Write a line for every vector that waits and has none yet."""
        self._write([entry for _ in range(len(self._queue)) for entry in self._entries_of(self._queue.popleft())])

    def _entries_of(self, serving: _Serving) -> list[Entry]:
        self._unwritten += 1
        symbol = serving.vector.symbol
        logged = self._current.get(symbol)
        if logged is not None and serving.repeats(logged.first):
            logged.further += 1
            logged.last_ms = serving.served_at_ms
            return []
        self._current[symbol] = _Logged(serving)
        ended = [] if logged is None else _further(logged)
        return [*ended, self._line_of(serving)]

    def _line_of(self, serving: _Serving) -> ServedVector:
        vector = serving.vector
        return ServedVector(
            symbol=vector.symbol,
            ts_ms=vector.ts_ms,
            known_at_ms=vector.known_at_ms,
            feature_set=vector.feature_set,
            source_kind=vector.source_kind,
            source_key=self._source_key(vector.source_kind),
            model=serving.model,
            model_version=serving.model_version,
            served_at_ms=serving.served_at_ms,
            close=vector.close,
            values=vector.values,
        )

    def _source_key(self, kind: str) -> str | None:
        """The source that the lake was last filled from, if it is of that kind: vectors carry only the kind."""
        try:
            source = self._lake.current_source()
        except (LevibotError, OSError):
            return None
        return source.key if source is not None and source.kind == kind else None

    def _write(self, entries: list[Entry]) -> None:
        if not entries:
            return
        try:
            self._log.append(entries)
        except (HomeNotWritableError, ValueError) as error:  # ValueError: a value that is not finite
            self._dropped["not_written"] += self._unwritten
            logger.warning("%d servings are not in the log of served vectors. %s", self._unwritten, error)
            # Forgotten, so that each vector gets its line when it is served next.
            self._unwritten = 0
            self._current.clear()
            return
        for entry in entries:
            self._lines += isinstance(entry, ServedVector)
            self._unwritten -= entry.servings if isinstance(entry, FurtherServings) else 1
        self._clean(datetime.fromtimestamp(entries[-1].served_at_ms / 1000, UTC).date())

    def _clean(self, today: date) -> None:
        """Let go of old days, once a day."""
        if today == self._cleaned_on:
            return
        self._cleaned_on = today
        try:
            self._log.remove_before(today - timedelta(days=self._kept_days - 1))
        except HomeNotWritableError as error:
            logger.warning("Old files of the log of served vectors stay. %s", error)

    def _write_until_stopped(self) -> None:
        stopping = False
        while not stopping:
            stopping = self._stop.wait(_WRITE_EVERY_S)
            try:
                self.flush()
                if stopping:
                    self._write([entry for logged in self._current.values() for entry in _further(logged)])
            except Exception:
                logger.exception("Writing the log of served vectors failed in an unforeseen way")


def _further(logged: _Logged) -> list[Entry]:
    if not logged.further:
        return []
    first = logged.first
    return [
        FurtherServings(
            symbol=first.vector.symbol,
            ts_ms=first.vector.ts_ms,
            feature_set=first.vector.feature_set,
            model_version=first.model_version,
            servings=logged.further,
            served_at_ms=logged.last_ms,
        )
    ]
