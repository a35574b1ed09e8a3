"""Whether what the model says happens as often as it says, from its card."""

from dataclasses import dataclass
from datetime import datetime

from levibot_core.models.card_charts import reliability_svg
from levibot_core.models.predictors import BASE_RATE
from levibot_core.models.reliability_bands import reliability_bands
from levibot_serving.console.report_files import ReportFiles
from levibot_serving.console.report_formats import ModelCard
from levibot_serving.deps import Services


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """One dot of the plot: mean forecast, share that happened with its 95 % interval, and rows."""

    predicted: float
    observed: float
    lower_95: float
    upper_95: float
    rows: int


@dataclass(frozen=True, slots=True)
class CalibrationPanel:
    """The plot of one version, or words where there is none.

    Attributes:
        version: Which version is shown; None where none is.
        serving: Whether that version answers now.
        absence: Why there is nothing to show, or why it is not the champion's; None for the champion's own.
        method: How scores became probabilities.
        ece: Calibration error on the test rows.
        measured_at: When the card was made.
        svg: The plot, made of figures alone.
        bins: The same as numbers.
        rows_per_observation: Rows that count as one in the bands.
    """

    version: int | None = None
    serving: bool = False
    absence: str | None = None
    method: str = ""
    ece: float = 0.0
    measured_at: datetime | None = None
    svg: str = ""
    bins: tuple[ReliabilityBin, ...] = ()
    rows_per_observation: int = 1


def calibration_panel(services: Services, reports: ReportFiles) -> CalibrationPanel:
    """The champion's calibration; where it has no card, the newest card's, and why."""
    served = services.models.served
    absence = "No model is loaded."
    if served is not None:
        own = reports.model_card(served.version)
        if own.content is not None:
            return _panel(own.content, served.version, serving=True, absence=None)
        absence = own.problem or f"Version {served.version}, which answers, has no card."
        if served.bundle.manifest.family == BASE_RATE:
            absence = f"Version {served.version}, which answers, is the base rate: it always says the same."
    for version in reports.carded_versions():
        card = reports.model_card(version).content
        if card is not None:
            return _panel(card, version, serving=False, absence=absence)
    return CalibrationPanel(absence=absence)


def _panel(card: ModelCard, version: int, *, serving: bool, absence: str | None) -> CalibrationPanel:
    curve, overlap = card.reliability, card.model.horizon_bars
    if not len(curve.predicted) == len(curve.observed) == len(curve.counts) or sum(curve.counts) <= 0:
        return CalibrationPanel(absence=f"The card of version {version} has a reliability curve that does not fit.")
    bands = reliability_bands(curve.observed, curve.counts, overlap)
    return CalibrationPanel(
        version=version,
        serving=serving,
        absence=absence,
        method=card.calibration.method,
        ece=card.metrics.test.ece,
        measured_at=card.created_at,
        svg=reliability_svg(curve.predicted, curve.observed, curve.counts, card.base_rate.probability, bands),
        bins=tuple(
            ReliabilityBin(predicted, observed, lower, upper, rows)
            for predicted, observed, (lower, upper), rows in zip(
                curve.predicted, curve.observed, bands, curve.counts, strict=True
            )
        ),
        rows_per_observation=overlap,
    )
