"""What Prometheus scrapes of what stands around the forecasts: kill switch, journal, stream, challenger."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from levibot_serving.operations import Operations


class OperationsState(Collector):
    """What is true at the moment of the scrape, in the worker that is scraped."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def collect(self) -> Iterator[Metric]:
        """See `Collector.collect`."""
        parts = self._operations
        yield GaugeMetricFamily(
            "levibot_kill_switch_active",
            "Whether the kill switch of the home is on: every forecast abstains",
            value=float(parts.kill_switch.state.active),
        )
        yield CounterMetricFamily(
            "levibot_unlogged_forecasts", "Forecasts that are not in the log of forecasts", value=parts.journal.dropped
        )
        yield GaugeMetricFamily(
            "levibot_stream_listeners", "Clients that listen to the stream of forecasts", value=parts.stream.listeners
        )
        yield CounterMetricFamily(
            "levibot_stream_dropped", "Clients sent away because they did not keep up", value=parts.stream.dropped
        )
        challenger = parts.shadow.challenger
        yield GaugeMetricFamily(
            "levibot_challenger_version",
            "Version that is scored in shadow; 0 without one",
            value=0 if challenger is None else challenger.version,
        )
        scored = CounterMetricFamily(
            "levibot_challenger_forecasts", "Forecasts that the challenger was asked for", labels=("outcome",)
        )
        for outcome in ("scored", "failed", "dropped"):
            scored.add_metric((outcome,), getattr(parts.shadow, outcome))
        yield scored
