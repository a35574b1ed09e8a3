"""Everything the console shows at one moment: the panels, and the few figures that stand above them."""

from dataclasses import dataclass
from datetime import datetime

from levibot_core.security.roles import Principal
from levibot_serving.console.panels.backtests import BacktestsPanel, backtests_panel
from levibot_serving.console.panels.calibration import CalibrationPanel, calibration_panel
from levibot_serving.console.panels.drift import DriftPanel, drift_panel
from levibot_serving.console.panels.health import HealthPanel, health_panel
from levibot_serving.console.panels.kill_switch import KillPanel, kill_panel
from levibot_serving.console.panels.models import Champion, ModelsPanel, models_panel
from levibot_serving.console.panels.predictions import PredictionsPanel, predictions_panel
from levibot_serving.console.report_files import ReportFiles
from levibot_serving.deps import Services
from levibot_serving.predictor import utc


@dataclass(frozen=True, slots=True)
class Overview:
    """One moment.

    Attributes:
        now: UTC.
        model_name: The registered model that is followed, whether one is there or not.
        simulated: Whether the model or the features come from a market that does not exist.
        oldest_age_s: Age of the oldest features that a forecast was made from; None without a forecast.
        stale: Symbols without a forecast from fresh features.
    """

    now: datetime
    model_name: str
    champion: Champion | None
    models: ModelsPanel
    predictions: PredictionsPanel
    calibration: CalibrationPanel
    drift: DriftPanel
    backtests: BacktestsPanel
    health: HealthPanel
    kill: KillPanel
    simulated: bool
    oldest_age_s: float | None
    stale: int


def overview(services: Services, reports: ReportFiles, visitor: Principal) -> Overview:
    """Gather everything. It may wait for the online store, so it belongs into a thread."""
    home = services.settings.folders
    models, predictions = models_panel(services, reports), predictions_panel(services)
    given = [item.prediction for item in predictions.forecasts if item.prediction is not None]
    fresh = sum(not prediction.fallback for prediction in given)
    return Overview(
        now=utc(services.now_ms()),
        model_name=services.models.model_name,
        champion=models.champion,
        models=models,
        predictions=predictions,
        calibration=calibration_panel(services, reports),
        drift=drift_panel(services, reports, home),
        backtests=backtests_panel(reports, home),
        health=health_panel(services),
        kill=kill_panel(services.operations.kill_switch.state, visitor),
        simulated=predictions.simulated or (models.champion is not None and models.champion.simulated),
        oldest_age_s=max((prediction.feature_age_s for prediction in given), default=None),
        stale=len(predictions.forecasts) - fresh,
    )
