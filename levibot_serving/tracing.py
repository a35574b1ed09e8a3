"""OpenTelemetry traces, sent only where the environment names a collector; otherwise nothing is loaded or measured.

FastAPI makes the spans by itself (request, dependencies, endpoint, serialisation) and takes a caller's trace context
from the headers. OTEL_EXPORTER_OTLP_ENDPOINT, or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, says where they go (OTLP over
HTTP); OTEL_SERVICE_NAME and OTEL_TRACES_SAMPLER mean what OpenTelemetry says. Metrics are Prometheus' business
(`levibot_serving.metrics`), logs that of `levibot_serving.json_logs`.
"""

import os
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

from fastapi.telemetry import TelemetryConfig

SERVICE_NAME: Final = "levibot-inference"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_NOT_TRACED = frozenset({"/livez", "/readyz", "/healthz", "/metrics"})


def telemetry_of(environment: Mapping[str, str]) -> TelemetryConfig:
    """What FastAPI is told about telemetry: traces where the environment names a collector, else nothing at all."""
    traced = any(environment.get(name) for name in _ENDPOINTS)
    if traced:
        # Read by the SDK when its provider is made; a name that a person gave stays.
        os.environ.setdefault("OTEL_SERVICE_NAME", SERVICE_NAME)
    return TelemetryConfig(
        tracing=traced,
        operation_spans=traced,
        auto_configure=traced,
        metrics=False,
        logs=False,
        exclude=_is_probe,
    )


def _is_probe(scope: MutableMapping[str, Any]) -> bool:
    """Probes and scrapes come every few seconds and tell nothing."""
    return scope.get("path") in _NOT_TRACED
