"""Settings from the environment (`LEVIBOT_*`), and the frozen parameters that profiles give to a training.

Only the edges (command line, Dagster resources, serving start-up) read settings; everything below them takes
plain arguments. Where files lie inside a home is decided in `levibot_core.stores.paths`.
"""

from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from levibot_core.errors import ConfigurationError, UnknownSymbolError
from levibot_core.labels.definition import LabelKind, SampleWeights, TripleBarrierLabel
from levibot_core.market.symbols import normalize_symbol
from levibot_core.market.timeframe import Timeframe

SourceKind = Literal["exchange", "recorded", "simulated"]
SourceChoice = Literal["auto", "exchange", "recorded", "simulated"]
ProfileName = Literal["fast", "full"]
BoostedFamily = Literal["lightgbm", "xgboost"]
TrainedFamily = Literal["lightgbm", "xgboost", "tft"]


class Settings(BaseSettings):
    """What a person may set from outside. Every field is an environment variable `LEVIBOT_<FIELD>`.

    Except what names a server and is called the same everywhere: `REDIS_URL`.
    """

    model_config = SettingsConfigDict(
        env_prefix="LEVIBOT_", frozen=True, extra="ignore", env_ignore_empty=True, populate_by_name=True
    )

    home: Path = Field(Path(".levibot"), description="Folder that holds all state of this installation")
    source: SourceChoice = Field("auto", description="Where market data comes from")
    market_data: Path | None = Field(None, description="Folder of recorded Parquet files, searched recursively")
    symbols: Annotated[tuple[str, ...], NoDecode] = Field(
        ("BTC/USDT", "ETH/USDT", "SOL/USDT"), description="Comma-separated symbols this home works on", min_length=1
    )
    market: Literal["spot", "perp"] = Field("spot", description="Which market the candles belong to")
    timeframe: str = Field("5m", description="Length of one bar")
    feature_set: str = Field("v2", pattern="^v[1-9][0-9]*$", description="Version of the feature set in force")
    horizon_bars: int = Field(12, ge=1, le=288, description="Bars ahead that the model forecasts")
    labels: LabelKind = Field(
        "direction",
        description="What is forecast: the direction over the horizon, or whether a profit of 3 average true ranges is "
        "reached before a stop of 2, within 60 bars whatever the horizon",
    )
    sample_weights: SampleWeights = Field(
        "none", description="How much a row counts in a training: all the same, or by how unique its label is"
    )
    days: int = Field(168, ge=3, description="Days of history a lifecycle run works on")
    until: datetime | None = Field(None, description="End of the history (UTC); the latest there is when unset")
    profile: ProfileName = Field("fast", description="Training profile of profiles.yml")
    families: Annotated[tuple[TrainedFamily, ...], NoDecode] = Field(
        ("lightgbm", "xgboost", "tft"), description="Comma-separated families of models to train", min_length=1
    )
    seed: int = Field(7, ge=0, description="Seed of everything random")
    threads: int = Field(2, ge=1, description="Threads a training may use")
    exchanges: Annotated[tuple[str, ...], NoDecode] = Field(
        ("mexc", "binance", "bybit", "okx", "kraken"), description="Exchanges to ask, in this order", min_length=1
    )
    exchange_base_url: str | None = Field(
        None, description="Send exchange requests to this address instead (replay, tests)"
    )
    simulated_edge: float = Field(
        0.15, ge=0.0, le=1.0, description="Edge planted in the simulated market; 0 is a market with none"
    )
    redis_url: SecretStr | None = Field(
        None,
        validation_alias="REDIS_URL",
        description="Redis database of this home's online store; a SQLite file in the home when unset",
    )
    study_url: SecretStr | None = Field(
        None, description="Database of the Optuna studies, shared by several workers; files of the home when unset"
    )
    alert_webhook_file: Path | None = Field(
        None,
        description="File of mode 600 with the address that alerts are posted to; `secrets/alert_webhook` of the home "
        "if unset",
    )
    feature_grace_seconds: float = Field(
        60.0, ge=0, description="Seconds beyond one bar after which features are stale"
    )
    online_ttl_seconds: float | None = Field(
        None,
        ge=0.001,
        description="Seconds that an online vector of a live market lives; one bar and the grace if unset",
    )

    @field_validator("symbols", "exchanges", "families", mode="before")
    @classmethod
    def _split_commas(cls, value: Any) -> Any:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("symbols")
    @classmethod
    def _normalize_symbols(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            symbols = tuple(normalize_symbol(symbol) for symbol in value)
        except UnknownSymbolError as error:
            raise ValueError(str(error)) from error
        return tuple(dict.fromkeys(symbols))

    @field_validator("timeframe")
    @classmethod
    def _check_timeframe(cls, value: str) -> str:
        try:
            return Timeframe.parse(value).name
        except ConfigurationError as error:
            raise ValueError(str(error)) from error

    @field_validator("until")
    @classmethod
    def _as_utc(cls, value: datetime | None) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)

    @property
    def model_name(self) -> str:
        """Name of the registered model: `levibot-<timeframe>-h<bars>`, or `-tb<bars>` where labels are barriers.

        Models of different labels answer different questions and are never compared.
        """
        return f"levibot-{self.timeframe}-{'h' if self.triple_barrier is None else 'tb'}{self.label_bars}"

    @property
    def triple_barrier(self) -> TripleBarrierLabel | None:
        """The barriers of the labels; None where labels are the direction."""
        return TripleBarrierLabel() if self.labels == "triple_barrier" else None

    @property
    def label_bars(self) -> int:
        """Bars that a label looks ahead, at most."""
        return self.horizon_bars if self.triple_barrier is None else self.triple_barrier.max_bars

    @property
    def redis_address(self) -> str | None:
        """`redis_url` with its password, for opening a connection; never for showing."""
        return None if self.redis_url is None else self.redis_url.get_secret_value()

    @property
    def study_address(self) -> str | None:
        """`study_url` with its password, for opening a connection; never for showing."""
        return None if self.study_url is None else self.study_url.get_secret_value()

    @property
    def online_lifetime_s(self) -> float:
        """Seconds that an online vector of a live market is served: until the next one is overdue."""
        if self.online_ttl_seconds is not None:
            return self.online_ttl_seconds
        return Timeframe.parse(self.timeframe).milliseconds / 1000 + self.feature_grace_seconds


def load_settings(**overrides: Any) -> Settings:
    """Read the settings from the environment; keyword arguments that are not None win over it.

    Raises:
        ConfigurationError: a variable has a value that cannot be used; the message names it and what is allowed.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        problems = [
            f"LEVIBOT_{'.'.join(map(str, detail['loc'])).upper()}: {detail['msg']} (was {detail['input']!r})"
            for detail in error.errors()
        ]
        raise ConfigurationError("Settings cannot be used. " + "; ".join(problems)) from error


class TrainingProfile(BaseModel):
    """How much work a training does. Values come from `profiles.yml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    trials: int = Field(ge=1, description="Optuna trials per study of a family")
    family_trials: dict[BoostedFamily, Annotated[int, Field(ge=1)]] = Field(
        default_factory=dict, description="Families that have another number of trials"
    )
    max_rounds: int = Field(ge=1, description="Upper limit of boosting rounds")
    early_stopping_rounds: int = Field(ge=1, description="Patience on the validation log loss")
    max_bin: int = Field(ge=15, description="Histogram bins of LightGBM")
    class_weight: Literal["none", "balanced"] = Field(
        "none", description="`balanced` counts rises (rows - rises) / rises times, where classes are of unequal size"
    )
    drift_rows: int = Field(ge=100, description="Rows per side that the Evidently report looks at")

    def trials_of(self, family: str) -> int:
        """Optuna trials of one family."""
        return dict(self.family_trials).get(cast(BoostedFamily, family), self.trials)


@cache
def load_profile(name: str) -> TrainingProfile:
    """The training profile of that name.

    Raises:
        ConfigurationError: profiles.yml has no such profile, or one that cannot be used.
    """
    return parse_profile(files("levibot_core").joinpath("profiles.yml").read_text("utf-8"), name)


def parse_profile(text: str, name: str) -> TrainingProfile:
    """One profile of the content of a `profiles.yml`.

    Raises:
        ConfigurationError: there is no such profile, or it has an unknown, missing or unusable parameter; the message
            names each.
    """
    profiles = yaml.safe_load(text)
    if name not in profiles:
        raise ConfigurationError(f"Expected a profile of {sorted(profiles)}, was {name!r}.")
    try:
        return TrainingProfile.model_validate({**profiles[name], "name": name})
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        known = ", ".join(field for field in TrainingProfile.model_fields if field != "name")
        raise ConfigurationError(
            f"Expected the profile {name!r} of profiles.yml to have the parameters {known}, but {problems}. Correct it."
        ) from error
