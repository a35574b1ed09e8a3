"""What Prometheus scrapes: counters and histograms that are touched per request.

Names begin with `levibot_`. Labels are bounded: route templates, stages, sides, versions, dependencies; never what a
caller sent. The series of a combination of labels is looked up once, since finding it takes longer than counting.

What is true only at the moment of a scrape (ages, the served model) is in `levibot_serving.metrics_state`. With several
workers whichever is scraped tells of all, see `levibot_serving.worker_metrics`.
"""

import os
from collections.abc import Callable
from typing import Literal, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from levibot_core.resilience import CircuitState
from levibot_serving.contract import Prediction
from levibot_serving.worker_metrics import WORKERS_FOLDER_VARIABLE

Stage = Literal["features", "model", "answer"]
"""The parts of a forecast: reading what it is made from, asking the model, writing it down."""

_LATENCY_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.1, 0.25, 0.5, 1.0, 2.5)
_STAGE_BUCKETS = (0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
_CIRCUIT_VALUES: dict[CircuitState, float] = {"closed": 0.0, "half-open": 1.0, "open": 2.0}
_Key = TypeVar("_Key")
_Series = TypeVar("_Series")


class Metrics:
    """The metrics of one application; without several workers, two applications in one process do not share them."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._parts: list[Collector] = []
        requests = self._histogram(
            "levibot_request_duration_seconds",
            "Time from the first byte of a request to the last of its response, by route and status",
            ("endpoint", "status"),
            _LATENCY_BUCKETS,
        )
        stages = self._histogram(
            "levibot_stage_duration_seconds",
            "Time of a part of a forecast: reading its features, asking the model, writing the answer",
            ("endpoint", "stage"),
            _STAGE_BUCKETS,
        )
        predictions = self._counter(
            "levibot_predictions",
            "Forecasts given, by model, side, whether the platform abstained, and whether on less than fresh features",
            ("model", "version", "side", "abstain", "fallback"),
        )
        hits = self._counter("levibot_cache_hits", "Look-ups that a cache answered", ("cache",))
        misses = self._counter("levibot_cache_misses", "Look-ups that a cache could not answer", ("cache",))
        self._kept_features = self._counter(
            "levibot_kept_features_served", "Answers from kept features, by why the store gave none", ("reason",)
        )
        self._retries = self._counter("levibot_retries", "Calls of a dependency that were tried again", ("dependency",))
        self._failures = self._counter(
            "levibot_dependency_failures", "Calls of a dependency that failed for good", ("dependency",)
        )
        self._circuits = Gauge(
            "levibot_circuit_state",
            "Circuit of a dependency: 0 closed, 1 half open, 2 open; of several workers the worst",
            ("dependency",),
            registry=self._registry,
            multiprocess_mode="livemax",
        )
        self._auth_failures = self._counter(
            "levibot_auth_failures", "Requests and sign-ins refused, by why", ("reason",)
        )
        self._rate_limited = self._counter("levibot_rate_limited", "Requests over the budget of forecasts", ("role",))
        if WORKERS_FOLDER_VARIABLE not in os.environ:
            ProcessCollector(registry=self._registry)

        self._request: _Remembered[tuple[str, int | None], Histogram] = _Remembered(
            lambda key: requests.labels(key[0], "none" if key[1] is None else str(key[1]))
        )
        self._stage: _Remembered[tuple[str, Stage], Histogram] = _Remembered(lambda key: stages.labels(*key))
        self._prediction: _Remembered[tuple[str, int, str, bool, bool], Counter] = _Remembered(
            lambda key: predictions.labels(key[0], str(key[1]), key[2], str(key[3]).lower(), str(key[4]).lower())
        )
        self._cache: _Remembered[tuple[str, bool], Counter] = _Remembered(
            lambda key: (hits if key[1] else misses).labels(key[0])
        )

    def add(self, collector: Collector) -> None:
        """Scrape the state of another part as well: of several workers, that of the one which is scraped."""
        self._parts.append(collector)

    def observe_request(self, endpoint: str, status: int | None, seconds: float) -> None:
        """Count one request; a status of None is a client that left before the response began."""
        self._request[endpoint, status].observe(seconds)

    def observe_stage(self, endpoint: str, stage: Stage, seconds: float) -> None:
        """Note how long one part of answering took."""
        self._stage[endpoint, stage].observe(seconds)

    def count_prediction(self, prediction: Prediction) -> None:
        """Count one forecast."""
        self._prediction[
            prediction.model, prediction.model_version, prediction.side, prediction.abstain, prediction.fallback
        ].inc()

    def count_cache(self, cache: str, *, hit: bool) -> None:
        """Count one look-up in a cache of that name."""
        self._cache[cache, hit].inc()

    def count_kept_features(self, reason: str) -> None:
        """Count one answer made from features that may not be the newest; `reason` is one of a few fixed texts."""
        self._kept_features.labels(reason).inc()

    def count_retry(self, dependency: str) -> None:
        """See `levibot_core.resilience.DependencyObserver`."""
        self._retries.labels(dependency).inc()

    def count_dependency_failure(self, dependency: str) -> None:
        """See `levibot_core.resilience.DependencyObserver`."""
        self._failures.labels(dependency).inc()

    def set_circuit_state(self, dependency: str, state: CircuitState) -> None:
        """See `levibot_core.resilience.DependencyObserver`."""
        self._circuits.labels(dependency).set(_CIRCUIT_VALUES[state])

    def count_auth_failure(self, reason: str) -> None:
        """Count one refusal; the reasons are those of `levibot_serving.security`."""
        self._auth_failures.labels(reason).inc()

    def count_rate_limited(self, role: str) -> None:
        """Count one request that was over its budget."""
        self._rate_limited.labels(role).inc()

    def render(self, *state: Collector) -> bytes:
        """Everything in the Prometheus text format: what was counted, and what the collectors find now."""
        now = CollectorRegistry()
        for collector in (*self._parts, *state):
            now.register(collector)
        counted = self._registry
        if WORKERS_FOLDER_VARIABLE in os.environ:
            counted = CollectorRegistry()
            MultiProcessCollector(counted)  # type: ignore[no-untyped-call]
        return generate_latest(counted) + generate_latest(now)

    def _counter(self, name: str, meaning: str, labels: tuple[str, ...]) -> Counter:
        return Counter(name, meaning, labels, registry=self._registry)

    def _histogram(self, name: str, meaning: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, meaning, labels, buckets=buckets, registry=self._registry)


class _Remembered(dict[_Key, _Series]):
    """The series of each combination of labels, made when it is first asked for."""

    def __init__(self, make: Callable[[_Key], _Series]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, key: _Key) -> _Series:
        series = self[key] = self._make(key)
        return series
