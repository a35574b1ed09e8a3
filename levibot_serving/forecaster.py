"""Forecasts for requests: features, then the model or what it said before, then the answer, each part timed.

Everything an endpoint does for one symbol on the hot path is here; what the parts decide is theirs
(`feature_reader`, `forecast_cache`, `predictor`). Authentication, limits and the kill switch are the endpoints'.
"""

from time import perf_counter
from typing import Final

from anyio import CapacityLimiter, to_thread

from levibot_serving.config import ServingSettings
from levibot_serving.contract import Prediction
from levibot_serving.feature_reader import FeatureReader
from levibot_serving.features import NewestFeatures
from levibot_serving.forecast_cache import ForecastCache, SharedForecasts
from levibot_serving.metrics import Metrics
from levibot_serving.predictor import Forecast, answer, forecast
from levibot_serving.served import ServedModel
from levibot_serving.vector_log import VectorLog

HOT_ENDPOINT: Final = "/ai/predict"
_THREADS = 2
"""Forecasts that may be computed, or fetched from replicas, beside the event loop at a time."""


class Forecaster:
    """Answers for one application. To be used on the event loop."""

    def __init__(
        self, reader: FeatureReader, settings: ServingSettings, metrics: Metrics, vector_log: VectorLog
    ) -> None:
        """Nothing is contacted yet.

        Raises:
            ConfigurationError: `REDIS_URL` cannot be used.
        """
        self._reader = reader
        self._metrics = metrics
        self._vector_log = vector_log
        self._grace_seconds = settings.feature_grace_seconds
        self._cache = ForecastCache(settings.forecast_cache_items, metrics)
        address = settings.redis_address if settings.forecast_cache_items else None
        self._shared = None if address is None else SharedForecasts(address, metrics)
        self._threads = CapacityLimiter(_THREADS)

    async def predict(
        self, served: ServedModel, symbol: str, now_ms: int, note: str | None = None, endpoint: str = HOT_ENDPOINT
    ) -> Prediction:
        """The model's forecast for one symbol from its newest features: `read`, then `answer`."""
        newest = await self.read(served, symbol, now_ms, endpoint)
        return await self.answer(served, symbol, newest, now_ms, note, endpoint=endpoint)

    async def read(self, served: ServedModel, symbol: str, now_ms: int, endpoint: str = HOT_ENDPOINT) -> NewestFeatures:
        """The newest features of a symbol.

        Args:
            served: The model that they are for.
            symbol: Inside spelling.
            now_ms: UTC milliseconds.
            endpoint: Route template, for the metrics.

        Raises:
            UnknownSymbolError, MissingFeatureError: as `levibot_serving.features.newest_features`.
            LevibotError: the store cannot be read, and no features that were kept may stand in.
        """
        started = perf_counter()
        newest = await self._reader.newest(served.bundle.manifest, symbol, now_ms)
        self._metrics.observe_stage(endpoint, "features", perf_counter() - started)
        return newest

    async def answer(
        self,
        served: ServedModel,
        symbol: str,
        newest: NewestFeatures,
        now_ms: int,
        note: str | None = None,
        instead: str | None = None,
        endpoint: str = HOT_ENDPOINT,
    ) -> Prediction:
        """The model's forecast from these features, counted and logged.

        Args:
            served: The model.
            symbol: Inside spelling.
            newest: What the forecast is made from.
            now_ms: UTC milliseconds.
            note: Passed on to the reader of the answer.
            instead: Why the features are not those of the online store; what `newest` says when not given.
            endpoint: Route template, for the metrics.

        Raises:
            UnknownSymbolError, MissingFeatureError, BundleError: as `levibot_serving.predictor.predict`.
        """
        metrics, started = self._metrics, perf_counter()
        said = self._cache.get(served, symbol, newest)
        if said is None:
            said = await self._ask(served, symbol, newest)
            self._cache.put(served, symbol, newest, said)
        asked = perf_counter()
        why = instead or newest.degraded
        prediction = answer(served, symbol, newest.vector, said, now_ms, self._grace_seconds, note, why)
        self._vector_log.record(newest.vector, served.record.name, served.version, now_ms)
        metrics.count_prediction(prediction)
        metrics.observe_stage(endpoint, "model", asked - started)
        metrics.observe_stage(endpoint, "answer", perf_counter() - asked)
        return prediction

    def close(self) -> None:
        """Let go of threads and connections."""
        self._reader.close()
        if self._shared is not None:
            self._shared.close()

    async def _ask(self, served: ServedModel, symbol: str, newest: NewestFeatures) -> Forecast:
        """Ask the replicas, then the model: on the event loop where that takes less than a hand-over to a thread."""
        if self._shared is None and served.bundle.manifest.window == 1:
            return forecast(served, symbol, newest.vector, newest.bars)
        return await to_thread.run_sync(self._ask_in_thread, served, symbol, newest, limiter=self._threads)

    def _ask_in_thread(self, served: ServedModel, symbol: str, newest: NewestFeatures) -> Forecast:
        shared = self._shared
        if shared is None:
            return forecast(served, symbol, newest.vector, newest.bars)
        said = shared.get(served, symbol, newest)
        if said is None:
            said = forecast(served, symbol, newest.vector, newest.bars)
            shared.put(served, symbol, newest, said)
        return said
