"""How every part is doing: what `/healthz` says, and whether what was served is what the lake gives."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from levibot_serving.deps import Services
from levibot_serving.health import examine
from levibot_serving.predictor import utc

PartStatus = Literal["ok", "degraded", "failing"]


@dataclass(frozen=True, slots=True)
class Part:
    """One part and how it is."""

    name: str
    status: PartStatus
    critical: bool
    detail: str


@dataclass(frozen=True, slots=True)
class ParityFinding:
    """Served values compared with the offline computation: how many, how many differ, and when last."""

    compared: int
    mismatches: int
    checked_at: datetime


@dataclass(frozen=True, slots=True)
class HealthPanel:
    """The whole and its parts.

    Attributes:
        parity: None where nothing was compared yet.
        served_since_start: Forecasts whose features were taken in to be logged since this process started.
        not_logged: Of those, how many are not in the log.
    """

    status: PartStatus
    parts: tuple[Part, ...]
    parity: ParityFinding | None
    served_since_start: int
    not_logged: int


def health_panel(services: Services) -> HealthPanel:
    """Gather the panel; every component of `/healthz` is a part."""
    health, totals = examine(services), services.parity.totals()
    return HealthPanel(
        status=health.status,
        parts=tuple(
            Part(name.replace("_", " "), part.status, part.critical, part.detail)
            for name, part in health.components.items()
        ),
        parity=None
        if totals is None
        else ParityFinding(totals.compared, totals.mismatches, utc(int(totals.checked_at_s * 1000))),
        served_since_start=services.vector_log.recorded,
        not_logged=sum(services.vector_log.dropped.values()),
    )
