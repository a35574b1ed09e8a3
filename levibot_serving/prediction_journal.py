"""Keeps what was forecast: for the lists of recent forecasts and signals, the deciles and the stream.

A request only appends to a bounded queue; one thread writes. A forecast that says the same as the last one of its
symbol (same bar, version, probability and verdict) is not written again, so a day has about as many lines as bars. The
files are `levibot_core.stores.prediction_log`'s; all workers append to them, so all of them read the same.
"""

import logging
import threading
from collections import deque
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import islice

from levibot_core.errors import HomeNotWritableError
from levibot_core.stores.prediction_log import LoggedForecast, PredictionLog, Role
from levibot_serving.background import PeriodicThread
from levibot_serving.contract import Prediction
from levibot_serving.contract_analytics import RecentPrediction
from levibot_serving.predictor import utc

logger = logging.getLogger(__name__)

QUEUE_LIMIT = 2_000
_WRITE_EVERY_S = 0.2


class PredictionJournal:
    """The journal of one home. `record` may be called from any thread and never waits."""

    def __init__(self, log: PredictionLog, kept_days: int, queue_limit: int = QUEUE_LIMIT) -> None:
        self.log = log
        self.dropped = 0
        self._kept_days = kept_days
        self._queue: deque[tuple[Prediction, Role, str]] = deque()
        self._queue_limit = queue_limit
        # What was queued last and written last, by symbol, role and source.
        self._noted: dict[tuple[str, Role, str], tuple[object, ...]] = {}
        self._said: dict[tuple[str, Role, str], tuple[object, ...]] = {}
        self._cleaned_on: date | None = None
        self._writing = threading.Lock()
        self._thread = PeriodicThread("prediction-journal", _WRITE_EVERY_S, self.flush)

    def start(self) -> None:
        """Begin to write; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Write what waits."""
        self._thread.stop()

    def record(self, prediction: Prediction, role: Role = "champion", source: str | None = None) -> None:
        """Note a forecast, perhaps as of another source than it says; a full queue drops the note and counts it.

        One that says what was noted last is not even queued: engines ask far more often than bars close.
        """
        shown = source or prediction.source
        key, said = (prediction.symbol, role, shown), _said_by(prediction)
        if self._noted.get(key) == said:
            return
        if len(self._queue) >= self._queue_limit:
            self.dropped += 1
            return
        self._queue.append((prediction, role, shown))
        self._noted[key] = said

    def flush(self) -> None:
        """Write a line for every forecast that waits and says something new."""
        with self._writing:
            waiting = [self._queue.popleft() for _ in range(len(self._queue))]
            new = [logged for noted in waiting if (logged := self._if_new(*noted)) is not None]
            if not new:
                return
            try:
                self.log.append(new)
                self._clean(datetime.fromtimestamp(new[-1].served_at_ms / 1000, UTC).date())
            except HomeNotWritableError as error:
                self.dropped += len(new)
                # So that each is written when it is given next.
                self._said.clear()
                self._noted.clear()
                logger.warning("%d forecasts are not in the log of forecasts. %s", len(new), error)

    def newest(self, limit: int, role: Role | None = None, *, signals_only: bool = False) -> list[LoggedForecast]:
        """The last written forecasts, newest first: of all workers, and from before a restart."""
        self.flush()
        return list(islice(self._chosen(role, signals_only), limit))

    def _chosen(self, role: Role | None, signals_only: bool) -> Iterator[LoggedForecast]:
        for found in self.log.newest():
            if (role is None or found.role == role) and (not signals_only or found.side != "flat"):
                yield found

    def _if_new(self, prediction: Prediction, role: Role, source: str) -> LoggedForecast | None:
        key = (prediction.symbol, role, source)
        said = _said_by(prediction)
        if self._said.get(key) == said:
            return None
        self._said[key] = said
        return logged_forecast(prediction, role, source)

    def _clean(self, today: date) -> None:
        """Let go of old days, once a day."""
        if today != self._cleaned_on:
            self._cleaned_on = today
            self.log.remove_before(today - timedelta(days=self._kept_days - 1))


def _said_by(prediction: Prediction) -> tuple[object, ...]:
    """What makes a forecast another one than the last of its symbol."""
    verdict = (prediction.side, prediction.tradable, prediction.abstain, prediction.fallback)
    return (prediction.as_of, prediction.model_version, prediction.prob_up, *verdict)


def logged_forecast(prediction: Prediction, role: Role, source: str) -> LoggedForecast:
    """What is kept of a forecast."""
    return LoggedForecast(
        served_at_ms=_milliseconds(prediction.timestamp),
        role=role,
        model=prediction.model,
        model_version=prediction.model_version,
        symbol=prediction.symbol,
        as_of_ms=_milliseconds(prediction.as_of),
        horizon_ms=prediction.horizon * 60_000,
        price=prediction.current_price,
        prob_up=prediction.prob_up,
        confidence=prediction.confidence,
        side=prediction.side,
        price_target=prediction.price_target,
        source=source,
        tradable=prediction.tradable,
        abstain=prediction.abstain,
        fallback=prediction.fallback,
    )


def _milliseconds(instant: datetime) -> int:
    return round(instant.timestamp() * 1000)


def recent_prediction(logged: LoggedForecast) -> RecentPrediction:
    """A kept forecast as the API lists and streams it."""
    return RecentPrediction(
        ts=logged.served_at_ms / 1000,
        ts_iso=utc(logged.served_at_ms),
        symbol=logged.symbol,
        prob_up=logged.prob_up,
        confidence=logged.confidence,
        side=logged.side,
        source=logged.source,
        price_target=logged.price_target,
        price=logged.price,
        as_of=utc(logged.as_of_ms),
        horizon=logged.horizon_ms // 60_000,
        model_version=logged.model_version,
        role=logged.role,
        tradable=logged.tradable,
        abstain=logged.abstain,
        fallback=logged.fallback,
    )
