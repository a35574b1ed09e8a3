"""What Prometheus scrapes and is looked up only then: the served model, the registry, the features, the served vectors.

Of several workers it is what the scraped one sees. What is counted per request is in `levibot_serving.metrics`.
"""

import logging
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from levibot_core.errors import LevibotError
from levibot_core.stores.online import OnlineStore
from levibot_serving.model_store import ModelStore
from levibot_serving.parity import ParityFigures
from levibot_serving.vector_log import VectorLog

logger = logging.getLogger(__name__)


class ServingState(Collector):
    """What is true at the moment of the scrape."""

    def __init__(self, models: ModelStore, features: OnlineStore, now_ms: int) -> None:
        self._models = models
        self._features = features
        self._now_ms = now_ms

    def collect(self) -> Iterator[Metric]:
        """See `Collector.collect`."""
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


class ParityState(Collector):
    """What is logged of the served vectors, and what replaying them found."""

    def __init__(self, vector_log: VectorLog, parity: ParityFigures) -> None:
        self._vector_log = vector_log
        self._parity = parity

    def collect(self) -> Iterator[Metric]:
        """See `Collector.collect`."""
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
