"""What the model says of features, or said before; then the answer as of now, each part timed.

What the parts decide is theirs (`forecast_cache`, `predictor`). Where the features come from, and what stands around
an answer (the kill switch, the log of forecasts), is in `levibot_serving.forecasting`.
"""

from time import perf_counter
from typing import Final

from anyio import CapacityLimiter, to_thread

from levibot_serving.config import ServingSettings
from levibot_serving.contract import Prediction
from levibot_serving.features import NewestFeatures
from levibot_serving.forecast_cache import ForecastCache, SharedForecasts
from levibot_serving.metrics import Metrics
from levibot_serving.predictor import Forecast, answer, forecast
from levibot_serving.served import ServedModel
from levibot_serving.vector_log import VectorLog

_THREADS: Final = 2
"""Forecasts that may be computed, or fetched from replicas, beside the event loop at a time."""


class Forecaster:
    """Answers for one application. To be used on the event loop."""

    def __init__(self, settings: ServingSettings, metrics: Metrics, vector_log: VectorLog) -> None:
        """Nothing is contacted yet.

        Raises:
            ConfigurationError: `REDIS_URL` cannot be used.
        """
        self._metrics = metrics
        self._vector_log = vector_log
        self._grace_seconds = settings.feature_grace_seconds
        self._cache = ForecastCache(settings.forecast_cache_items, metrics)
        address = settings.redis_address if settings.forecast_cache_items else None
        self._shared = None if address is None else SharedForecasts(address, metrics)
        self._threads = CapacityLimiter(_THREADS)

    async def answer(
        self,
        served: ServedModel,
        symbol: str,
        newest: NewestFeatures,
        now_ms: int,
        endpoint: str,
        note: str | None = None,
        instead: str | None = None,
        *,
        sent: bool = False,
    ) -> Prediction:
        """The model's forecast from these features, timed and logged.

        Args:
            served: The model.
            symbol: Inside spelling.
            newest: What the forecast is made from.
            now_ms: UTC milliseconds.
            endpoint: Route template, for the metrics.
            note: Passed on to the reader of the answer.
            instead: Why the features are not those of the online store; what `newest` says when not given.
            sent: Whether a caller sent what the features were computed from. Such a forecast is not kept, since nobody
                else asks for it, nor is its vector logged: it is not in the lake, so it could not be replayed.

        Raises:
            UnknownSymbolError, MissingFeatureError, BundleError: as `levibot_serving.predictor.predict`.
        """
        metrics, started = self._metrics, perf_counter()
        said = await self._compute(served, symbol, newest) if sent else await self._say(served, symbol, newest)
        asked = perf_counter()
        why = instead or newest.degraded
        prediction = answer(served, symbol, newest.vector, said, now_ms, self._grace_seconds, note, why)
        if not sent:
            self._vector_log.record(newest.vector, served.record.name, served.version, now_ms)
        metrics.observe_stage(endpoint, "model", asked - started)
        metrics.observe_stage(endpoint, "answer", perf_counter() - asked)
        return prediction

    def close(self) -> None:
        """Let go of connections."""
        if self._shared is not None:
            self._shared.close()

    async def _say(self, served: ServedModel, symbol: str, newest: NewestFeatures) -> Forecast:
        """What the model said of these features before, in this process or a replica, or says now."""
        said = self._cache.get(served, symbol, newest)
        if said is None:
            shared = self._shared
            if shared is None:
                said = await self._compute(served, symbol, newest)
            else:
                said = await to_thread.run_sync(
                    _ask_replicas_first, shared, served, symbol, newest, limiter=self._threads
                )
            self._cache.put(served, symbol, newest, said)
        return said

    async def _compute(self, served: ServedModel, symbol: str, newest: NewestFeatures) -> Forecast:
        """Ask the model: on the event loop where that takes less than a hand-over to a thread."""
        if served.bundle.manifest.window == 1:
            return forecast(served, symbol, newest.vector, newest.bars)
        return await to_thread.run_sync(forecast, served, symbol, newest.vector, newest.bars, limiter=self._threads)


def _ask_replicas_first(shared: SharedForecasts, served: ServedModel, symbol: str, newest: NewestFeatures) -> Forecast:
    said = shared.get(served, symbol, newest)
    if said is None:
        said = forecast(served, symbol, newest.vector, newest.bars)
        shared.put(served, symbol, newest, said)
    return said
