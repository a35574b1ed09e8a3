"""Scores the challenger on what the champion is asked, off the request path, and logs what it would have said.

A request only appends to a bounded queue; when it is full, or anything fails, the challenger is not scored, and the
request does not notice. What the forecasts were worth is weighed on the bars of the lake, by the pipelines
(docs/promotion.md); here the challenger shows that it can be served, and what it says live.
"""

import logging
import time
from collections import deque
from dataclasses import dataclass

from levibot_core.errors import BundleError, LevibotError
from levibot_core.models.uncertainty import read_uncertainty
from levibot_core.stores.online import FeatureVector, OnlineStore
from levibot_serving.background import PeriodicThread
from levibot_serving.cache import ModelCache
from levibot_serving.features import NewestFeatures, newest_features
from levibot_serving.prediction_journal import PredictionJournal
from levibot_serving.predictor import predict
from levibot_serving.registry import ModelRecord, ModelRegistry
from levibot_serving.served import ServedModel

logger = logging.getLogger(__name__)

QUEUE_LIMIT = 500
_WORK_EVERY_S = 0.2
_LOOK_EVERY_S = 10.0
_IN_SHADOW = "it is the challenger, which is scored and not served"


@dataclass(frozen=True, slots=True)
class _Asked:
    vector: FeatureVector
    now_ms: int


class ChallengerShadow:
    """Follows the alias `challenger`. `offer` may be called from any thread and never waits."""

    def __init__(
        self,
        registry: ModelRegistry,
        cache: ModelCache,
        model_name: str,
        features: OnlineStore,
        journal: PredictionJournal,
        grace_seconds: float,
        queue_limit: int = QUEUE_LIMIT,
    ) -> None:
        self.scored = 0
        self.failed = 0
        self.dropped = 0
        self.challenger: ServedModel | None = None
        self._registry = registry
        self._cache = cache
        self._model_name = model_name
        self._features = features
        self._journal = journal
        self._grace_seconds = grace_seconds
        self._queue: deque[_Asked] = deque()
        self._queue_limit = queue_limit
        self._done: dict[str, tuple[int, int]] = {}
        self._refused: str | None = None
        self._next_look = 0.0
        self._thread = PeriodicThread("challenger-shadow", _WORK_EVERY_S, self.work)

    def start(self) -> None:
        """Begin to follow and to score; returns at once. The champion is fetched first."""
        self._next_look = time.monotonic() + _LOOK_EVERY_S
        self._thread.start()

    def stop(self) -> None:
        """Score what waits, and end."""
        self._thread.stop()

    def offer(self, vector: FeatureVector, now_ms: int) -> None:
        """Let the challenger be asked what the champion was asked; dropped where there is none, or too much waits."""
        if self.challenger is None:
            return
        if len(self._queue) >= self._queue_limit:
            self.dropped += 1
            return
        self._queue.append(_Asked(vector, now_ms))

    def work(self) -> None:
        """Look at the alias when it is time, and score what waits, each bar of a symbol once."""
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + _LOOK_EVERY_S
            self.follow()
        for _ in range(len(self._queue)):
            asked, challenger = self._queue.popleft(), self.challenger
            if challenger is None:
                continue
            done = (challenger.version, asked.vector.ts_ms)
            if self._done.get(asked.vector.symbol) == done:
                continue
            self._done[asked.vector.symbol] = done
            try:
                self._score(challenger, asked)
                self.scored += 1
            except LevibotError as error:
                self.failed += 1
                logger.info("The challenger was not scored on %s. %s", asked.vector.symbol, error)

    def follow(self) -> None:
        """Look at the alias once; a challenger that is also champion, or cannot be read, is none."""
        try:
            record = self._registry.challenger(self._model_name)
            if record is None or "champion" in record.aliases:
                self.challenger = None
            elif self.challenger is None or self.challenger.record.key != record.key:
                self.challenger = None if record.key == self._refused else self._opened(record)
        except BundleError as error:
            self.challenger, self._refused = None, record.key if record else None
            logger.warning("The challenger cannot be scored. %s", error)
        except LevibotError as error:
            logger.info("The challenger cannot be looked at; the one that is known stays. %s", error)

    def _opened(self, record: ModelRecord) -> ServedModel:
        bundle = self._cache.load(record)
        if bundle is None:
            bundle = self._cache.add(record, lambda folder: self._registry.download(record, folder))
        manifest = bundle.manifest
        return ServedModel(
            bundle=bundle,
            record=record,
            tradable=False,
            reasons=(_IN_SHADOW,),
            loaded_at_ms=time.time_ns() // 1_000_000,
            from_cache=False,
            uncertainty=read_uncertainty(bundle.parts, manifest.horizon_bars, len(manifest.features)),
        )

    def _score(self, challenger: ServedModel, asked: _Asked) -> None:
        symbol, manifest = asked.vector.symbol, challenger.bundle.manifest
        found = NewestFeatures(asked.vector)
        if manifest.window > 1:
            found = newest_features(self._features, manifest, symbol, asked.now_ms)
        prediction = predict(challenger, symbol, found.vector, asked.now_ms, self._grace_seconds, bars=found.bars)
        self._journal.record(prediction, "challenger")
