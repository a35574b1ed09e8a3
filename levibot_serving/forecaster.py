"""Forecasts for requests: features, then the model or what it said before, then the answer, each part timed.

Everything an endpoint does for one symbol on the hot path is here; what the parts decide is theirs
(`feature_reader`, `forecast_cache`, `predictor`). Authentication, limits and the kill switch are the endpoints'.
"""

from time import perf_counter

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
        self, served: ServedModel, symbol: str, now_ms: int, note: str | None = None, endpoint: str = "/ai/predict"
    ) -> Prediction:
        """The model's forecast for one symbol, counted and logged.

        Args:
            served: The model.
            symbol: Inside spelling.
            now_ms: UTC milliseconds.
            note: Passed on to the reader of the answer.
            endpoint: Route template, for the metrics.

        Raises:
            UnknownSymbolError, MissingFeatureError, BundleError: as `levibot_serving.predictor.predict`.
            LevibotError: the features cannot be read, and none that were kept may stand in.
        """
        metrics, started = self._metrics, perf_counter()
        newest = await self._reader.newest(served.bundle.manifest, symbol, now_ms)
        read = perf_counter()
        said = self._cache.get(served, symbol, newest)
        if said is None:
            said = await self._ask(served, symbol, newest)
            self._cache.put(served, symbol, newest, said)
        asked = perf_counter()
        prediction = answer(
            served, symbol, newest.vector, said, now_ms, self._grace_seconds, note, degraded=newest.degraded
        )
        self._vector_log.record(newest.vector, served.record.name, served.version, now_ms)
        metrics.count_prediction(prediction)
        metrics.observe_stage(endpoint, "features", read - started)
        metrics.observe_stage(endpoint, "model", asked - read)
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
