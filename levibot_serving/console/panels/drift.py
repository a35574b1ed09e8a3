"""How far today's features lie from those the champion was trained on."""

from dataclasses import dataclass
from datetime import date

from levibot_core.drift.psi import CRITICAL_LEVEL, WARNING_LEVEL
from levibot_core.stores.paths import Home
from levibot_serving.console.report_files import ReportFiles
from levibot_serving.console.report_formats import FeatureDrift
from levibot_serving.console.report_pages import page_names
from levibot_serving.deps import Services

SHOWN = 8
PAGE = "latest"


@dataclass(frozen=True, slots=True)
class DriftPanel:
    """The newest drift report, or why there is none.

    Attributes:
        level: `ok`, `warning` or `critical`; None without a report.
        problem: Why a report that is there cannot be read.
        day: The UTC day it was made.
        written_at_ms: When it was written, UTC milliseconds.
        reference_version: The version whose training data is compared with.
        other_champion: Whether another version answers now.
        critical: Features at that level.
        warning: Features at that level.
        features: How many were compared.
        most_moved: Those with the highest index.
        scale: Index at the right end of the bars.
        page: Whether Evidently's page is there.
    """

    level: str | None = None
    problem: str | None = None
    day: date | None = None
    written_at_ms: int | None = None
    reference_version: int | None = None
    other_champion: bool = False
    critical: int = 0
    warning: int = 0
    features: int = 0
    most_moved: tuple[FeatureDrift, ...] = ()
    scale: float = CRITICAL_LEVEL
    page: bool = False
    warning_level: float = WARNING_LEVEL
    critical_level: float = CRITICAL_LEVEL


def drift_panel(services: Services, reports: ReportFiles, home: Home) -> DriftPanel:
    """Gather the panel."""
    report = reports.drift()
    if report.content is None:
        return DriftPanel(problem=report.problem, written_at_ms=report.written_at_ms)
    drift, served = report.content, services.models.served
    most_moved = tuple(sorted(drift.features, key=lambda item: -item.psi)[:SHOWN])
    return DriftPanel(
        level=drift.level,
        day=drift.report_day,
        written_at_ms=report.written_at_ms,
        reference_version=drift.champion_version,
        other_champion=served is not None and served.version != drift.champion_version,
        critical=drift.critical_features,
        warning=drift.warning_features,
        features=len(drift.features),
        most_moved=most_moved,
        scale=max([CRITICAL_LEVEL, *(item.psi for item in most_moved)]),
        page=PAGE in page_names(home, "drift"),
    )
