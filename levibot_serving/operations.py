"""What stands around the forecasts: the kill switch, the journal and its stream, the challenger, aliases, backtests.

Opened once per worker, beside what `levibot_serving.deps` opens for the forecasts themselves.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from levibot_core.errors import LevibotError
from levibot_core.stores.audit_log import AuditLog
from levibot_core.stores.kill_switch import KillState, KillSwitch
from levibot_core.stores.online import OnlineStore
from levibot_core.stores.prediction_log import PredictionLog
from levibot_serving.activation import ModelAliases
from levibot_serving.backtests import Backtests
from levibot_serving.cache import ModelCache
from levibot_serving.challenger_shadow import ChallengerShadow
from levibot_serving.config import ServingSettings
from levibot_serving.contract import Prediction
from levibot_serving.dagster_client import DagsterClient
from levibot_serving.home_registry import open_registry
from levibot_serving.model_store import ModelStore
from levibot_serving.prediction_journal import PredictionJournal
from levibot_serving.prediction_stream import PredictionStream
from levibot_serving.recent_features import RecentFeatures
from levibot_serving.registered_versions import served_versions
from levibot_serving.registry import MlflowRegistry, ModelRegistry


@dataclass(frozen=True, slots=True)
class Operations:
    """The parts of one worker."""

    kill_switch: KillSwitch
    audit: AuditLog
    journal: PredictionJournal
    stream: PredictionStream
    shadow: ChallengerShadow
    recent: RecentFeatures
    aliases: ModelAliases
    backtests: Backtests

    def silenced(self, prediction: Prediction) -> Prediction:
        """The forecast as it is while the kill switch is off; while it is on, one that nobody may act on."""
        state = self.kill_switch.state
        if not state.active:
            return prediction
        reasons = (f"the kill switch is on: {state.reason}", *prediction.reasons)
        return prediction.model_copy(update={"tradable": False, "side": "flat", "abstain": True, "reasons": reasons})

    def throw_kill_switch(self, on: bool, reason: str, actor: str) -> KillState:
        """Turn the switch on or off: recorded first, and turned on even where it cannot be recorded.

        Raises:
            AuditLogError, HomeNotWritableError: it was not recorded; only turning it on was done all the same.
        """
        try:
            self.audit.append("kill_switch", actor, {"on": on, "reason": reason})
        except LevibotError:
            if on:
                self.kill_switch.throw(on, reason, actor)
            raise
        return self.kill_switch.throw(on, reason, actor)


def build_operations(
    settings: ServingSettings, models: ModelStore, features: OnlineStore, registry: ModelRegistry | None = None
) -> Operations:
    """The parts of a worker, not started; the registry is that of the settings when none is given."""
    home = settings.folders
    mlflow = MlflowRegistry(settings.tracking_uri, settings.registry_timeout_seconds)
    asked = registry or open_registry(settings)
    journal = PredictionJournal(PredictionLog(home.predictions), settings.served_log_days)
    cache = ModelCache(home.root / "serving")
    return Operations(
        kill_switch=KillSwitch(home.kill_switch),
        audit=AuditLog(home.audit_log),
        journal=journal,
        stream=PredictionStream(journal.log),
        shadow=ChallengerShadow(asked, cache, settings.model_name, features, journal, settings.feature_grace_seconds),
        recent=RecentFeatures(settings),
        aliases=ModelAliases(home, lambda: served_versions(settings, mlflow), asked, models),
        backtests=Backtests(home, DagsterClient(settings.dagster_url)),
    )


@contextmanager
def open_operations(settings: ServingSettings, models: ModelStore, features: OnlineStore) -> Iterator[Operations]:
    """The parts of a worker, at work until the context ends."""
    operations = build_operations(settings, models, features)
    operations.journal.start()
    operations.shadow.start()
    try:
        yield operations
    finally:
        operations.shadow.stop()
        operations.journal.stop()
