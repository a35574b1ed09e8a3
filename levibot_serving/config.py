"""Settings of the inference API: what the platform shares, and what only serving needs.

The shared fields (home, timeframe, horizon, ...) are inherited from `levibot_core.config.Settings`, so that one
environment starts a home's pipelines and its API on the same model.
"""

from typing import Any

from pydantic import Field, ValidationError

from levibot_core.errors import ConfigurationError
from levibot_core.stores.paths import Home
from levibot_serving.security.settings import SecuritySettings


class ServingSettings(SecuritySettings):
    """What a person may set from outside: `LEVIBOT_<FIELD>`, and MLflow's own `MLFLOW_TRACKING_URI`."""

    mlflow_tracking_uri: str | None = Field(
        None,
        validation_alias="MLFLOW_TRACKING_URI",
        description="Address of the model registry; the home's own SQLite registry when unset",
    )
    registry_poll_seconds: float = Field(2.0, gt=0, le=60, description="Seconds between two looks at the alias")
    registry_timeout_seconds: int = Field(2, ge=1, le=60, description="Seconds that a registry over HTTP may take")

    online_deadline_seconds: float = Field(
        0.5, gt=0, le=10, description="Seconds that a forecast waits for a Redis server before kept features serve"
    )
    forecast_cache_items: int = Field(
        100,
        ge=0,
        description="Forecasts kept in the process, one per version and symbol; 0 asks the model always",
    )
    log_slow_ms: float = Field(100.0, ge=0, description="Requests that took longer are logged, milliseconds")

    served_log_days: int = Field(30, ge=1, description="UTC days for which served feature vectors are kept")

    dagster_url: str | None = Field(
        None, description="Address of the Dagster web server that backtests are queued at; none can be asked for unset"
    )

    @property
    def folders(self) -> Home:
        """Where everything lies inside the home."""
        return Home.at(self.home)

    @property
    def tracking_uri(self) -> str:
        """Address of the model registry that is polled."""
        return self.mlflow_tracking_uri or self.folders.tracking_uri


def load_serving_settings(**overrides: Any) -> ServingSettings:
    """Read the settings from the environment; keyword arguments that are not None win over it.

    Raises:
        ConfigurationError: a variable has a value that cannot be used; the message names it and what is allowed.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return ServingSettings(**given)
    except ValidationError as error:
        problems = [f"{detail['loc'][0]}: {detail['msg']} (was {detail['input']!r})" for detail in error.errors()]
        raise ConfigurationError("Settings cannot be used. " + "; ".join(problems)) from error
