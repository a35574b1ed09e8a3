"""The shapes of the newest features of one symbol or of many."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from levibot_serving.contract_forecasts import ForecastError

_FEATURES: dict[str, Any] = {
    "ok": True,
    "symbol": "BTC/USDT",
    "ts": "2026-01-02T03:00:00Z",
    "as_of": "2026-01-02T03:05:00Z",
    "feature_age_s": 1.25,
    "stale": False,
    "feature_set": "v2",
    "source": "exchange",
    "close": 97310.5,
    "values": {"log_return_1": -0.0004, "rsi_14": 48.2},
}


class Features(BaseModel):
    """The newest features of one symbol; never with a value filled in."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [_FEATURES]})

    ok: bool = True
    symbol: str
    ts: datetime = Field(description="Open time of the bar, UTC")
    as_of: datetime = Field(description="Close of the bar, from which the values were known, UTC")
    feature_age_s: float = Field(description="Seconds since as_of")
    stale: bool = Field(description="Whether a forecast from them would be flagged as resting on old features")
    feature_set: str
    source: str = Field(description="exchange, recorded or simulated")
    close: float = Field(description="Quote currency")
    values: dict[str, float]


class FeaturesItem(BaseModel):
    """One symbol: its features, or why there are none."""

    model_config = ConfigDict(frozen=True)

    symbol: str
    features: Features | None
    error: ForecastError | None


class FeaturesBatch(BaseModel):
    """One item per symbol, in the order in which they were asked for; read in one round trip."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [{"ok": True, "items": [{"symbol": "BTC/USDT", "features": _FEATURES, "error": None}]}]
        },
    )

    ok: bool = True
    items: tuple[FeaturesItem, ...]
