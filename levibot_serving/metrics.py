"""What Prometheus scrapes. Counters are touched per request; the state of model and features is read when scraped.

Names begin with `levibot_`. Labels are bounded: route templates, sides, configured symbols; never what a caller sent.
"""

import logging
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from levibot_core.errors import LevibotError
from levibot_core.stores.online import OnlineStore
from levibot_serving.contract import Prediction
from levibot_serving.model_store import ModelStore
from levibot_serving.parity import ParityFigures
from levibot_serving.vector_log import VectorLog

logger = logging.getLogger(__name__)

_LATENCY_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """The metrics of one application; two applications in one process do not share them."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Histogram(
            "levibot_request_duration_seconds",
            "Time from the first byte of a request to the last of its response, by route and status",
            ("endpoint", "status"),
            buckets=_LATENCY_BUCKETS,
            registry=self._registry,
        )
        self._predictions = Counter(
            "levibot_predictions_total",
            "Forecasts given, by side and by whether the platform abstained",
            ("side", "abstain"),
            registry=self._registry,
        )
        self._auth_failures = Counter(
            "levibot_auth_failures_total",
            "Requests and sign-ins refused for want of a token, a role, an address or a password",
            ("reason",),
            registry=self._registry,
        )
        self._rate_limited = Counter(
            "levibot_rate_limited_total", "Requests over the budget of forecasts", ("role",), registry=self._registry
        )
        ProcessCollector(registry=self._registry)

    def add(self, collector: Collector) -> None:
        """Scrape the state of another part as well."""
        self._registry.register(collector)

    def observe_request(self, endpoint: str, status: int | None, seconds: float) -> None:
        """Count one request; a status of None is a client that left before the response began."""
        self._requests.labels(endpoint, "none" if status is None else str(status)).observe(seconds)

    def count_prediction(self, prediction: Prediction) -> None:
        """Count one forecast."""
        self._predictions.labels(prediction.side, str(prediction.abstain).lower()).inc()

    def count_auth_failure(self, reason: str) -> None:
        """Count one refusal; the reasons are those of `levibot_serving.security`."""
        self._auth_failures.labels(reason).inc()

    def count_rate_limited(self, role: str) -> None:
        """Count one request that was over its budget."""
        self._rate_limited.labels(role).inc()

    def render(
        self,
        models: ModelStore,
        features: OnlineStore,
        vector_log: VectorLog,
        parity: ParityFigures,
        now_ms: int,
        *more: Collector,
    ) -> bytes:
        """Everything, in the Prometheus text format; `more` is what only others know."""
        state = CollectorRegistry()
        for collector in more:
            state.register(collector)
        state.register(_State(models, features, now_ms))
        state.register(_Parity(vector_log, parity))
        return generate_latest(self._registry) + generate_latest(state)


class _State(Collector):
    """What is true at the moment of the scrape."""

    def __init__(self, models: ModelStore, features: OnlineStore, now_ms: int) -> None:
        self._models = models
        self._features = features
        self._now_ms = now_ms

    def collect(self) -> Iterator[Metric]:
        status = self._models.status
        yield GaugeMetricFamily(
            "levibot_registry_reachable",
            "Whether the model registry answered the last look",
            value=float(status.registry_reachable is True),
        )
        if status.last_contact_age_s is not None:
            yield GaugeMetricFamily(
                "levibot_registry_last_contact_age_seconds",
                "Time since the model registry last answered",
                value=status.last_contact_age_s,
            )
        yield GaugeMetricFamily(
            "levibot_champion_served",
            "Whether the served model is the champion of the registry, as far as it is known",
            value=float(status.problem is None),
        )
        yield CounterMetricFamily(
            "levibot_model_swaps", "Models that began to be served since the start", value=self._models.swaps
        )
        yield from self._model()
        yield from self._feature_ages()

    def _model(self) -> Iterator[Metric]:
        served = self._models.served
        if served is None:
            return
        labels = {
            "name": served.record.name,
            "version": str(served.version),
            "family": served.bundle.manifest.family,
            "snapshot_id": served.snapshot_id,
            "source_kind": served.source_kind,
            "tradable": str(served.tradable).lower(),
            "from_cache": str(served.from_cache).lower(),
        }
        yield InfoMetricFamily("levibot_model", "The served model", value=labels)

    def _feature_ages(self) -> Iterator[Metric]:
        served = self._models.served
        if served is None:
            return
        try:
            known_at_ms = self._features.last_known_at_ms(served.bundle.manifest.symbols)
        except LevibotError as error:
            logger.warning("The age of the features cannot be measured: %s", error)
            return
        ages = GaugeMetricFamily(
            "levibot_feature_age_seconds", "Time since the newest features of a symbol were known", labels=("symbol",)
        )
        # Of expired vectors too: the age that an alert watches goes on growing.
        for symbol, time_ms in sorted(known_at_ms.items()):
            ages.add_metric((symbol,), (self._now_ms - time_ms) / 1000)
        yield ages


class _Parity(Collector):
    """What is logged of the served vectors, and what replaying them found."""

    def __init__(self, vector_log: VectorLog, parity: ParityFigures) -> None:
        self._vector_log = vector_log
        self._parity = parity

    def collect(self) -> Iterator[Metric]:
        log = self._vector_log
        yield CounterMetricFamily(
            "levibot_served_vectors", "Served feature vectors taken in to be logged", value=log.recorded
        )
        yield CounterMetricFamily(
            "levibot_served_vector_lines", "Lines of the log: distinct served feature vectors", value=log.lines
        )
        dropped = CounterMetricFamily(
            "levibot_served_vectors_dropped", "Served feature vectors that are not in the log", labels=("reason",)
        )
        for reason, servings in log.dropped.items():
            dropped.add_metric((reason,), servings)
        yield dropped
        totals = self._parity.totals()
        if totals is None:
            return
        yield CounterMetricFamily(
            "levibot_parity_mismatches",
            "Served values whose bits differ from the offline computation; anything but 0 is a defect",
            value=totals.mismatches,
        )
        yield CounterMetricFamily(
            "levibot_parity_compared", "Served values compared with the offline computation", value=totals.compared
        )
        yield GaugeMetricFamily(
            "levibot_parity_checked_timestamp_seconds",
            "When served values were last compared, seconds since 1970-01-01 UTC",
            value=totals.checked_at_s,
        )
