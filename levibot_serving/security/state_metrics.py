"""What Prometheus reads about the door at the moment of a scrape; what it counts per request is in `metrics`."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from levibot_serving.security.access import Access
from levibot_serving.security.audit_trail import AuditTrail
from levibot_serving.security.rate_limits import RateLimits


class DoorState(Collector):
    """Whether the parts of the door work as they should."""

    def __init__(self, access: Access, limits: RateLimits, audit: AuditTrail) -> None:
        self._access = access
        self._limits = limits
        self._audit = audit

    def collect(self) -> Iterator[Metric]:
        """The state now."""
        yield GaugeMetricFamily(
            "levibot_rate_limits_alone",
            "Whether this process counts limits for itself although Redis should count for all",
            value=float(self._limits.alone),
        )
        yield GaugeMetricFamily(
            "levibot_access_stale",
            "Whether users, keys or sessions cannot be read, so that what was known of them goes on",
            value=float(self._access.problem is not None),
        )
        yield CounterMetricFamily(
            "levibot_audit_events_dropped", "Events that are not in the audit log", value=self._audit.dropped
        )
