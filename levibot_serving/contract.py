"""The shapes of what the API answers: the fields that engines already know, and ours beside them.

A field whose name begins with an underscore on the wire has an alias here, since Python keeps such names private.
Errors have their own shape, in `levibot_serving.errors`.
"""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from levibot_serving.contract_explanation import Explanation

Side = Literal["long", "short", "flat"]


PREDICTION_EXAMPLE: dict[str, Any] = {
    "ok": True,
    "symbol": "BTC/USDT",
    "timeframe": "5m",
    "horizon": 60,
    "timestamp": "2026-01-02T03:05:01.250Z",
    "_current_price": 97310.5,
    "prob_up": 0.571,
    "side": "long",
    "confidence": 0.142,
    "price_target": 97352.9,
    "volatility": 0.0038,
    "interval_level": 0.9,
    "return_lower": -0.0062,
    "return_upper": 0.0063,
    "price_lower": 96707.2,
    "price_upper": 97923.6,
    "prob_lower": 0.566,
    "prob_upper": 0.577,
    "_prob_lgbm": 0.571,
    "_prob_tft": None,
    "_prob_sent": None,
    "components": [],
    "novelty": 0.31,
    "model": "levibot-5m-h12",
    "family": "lightgbm",
    "model_version": 7,
    "snapshot_id": "20260102T000000Z-0123456789ab",
    "as_of": "2026-01-02T03:05:00Z",
    "feature_age_s": 1.25,
    "staleness_s": 1.25,
    "source": "exchange",
    "tradable": True,
    "abstain": False,
    "fallback": False,
    "fallback_reason": None,
    "reasons": [],
    "note": None,
    "explanation": None,
}


class MemberComponent(BaseModel):
    """What one member of an ensemble says."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(description="The member's family")
    probability: float = Field(ge=0, le=1, description="Its own calibrated probability of a rise")
    weight: float = Field(ge=0, description="Of its log-odds where the ensemble is stacked; of its vote, summing to 1")


class Prediction(BaseModel):
    """One forecast, with everything needed to decide whether to act on it."""

    model_config = ConfigDict(
        frozen=True,
        populate_by_name=True,
        serialize_by_alias=True,
        json_schema_extra={"examples": [PREDICTION_EXAMPLE]},
    )

    ok: bool = Field(True, description="Always true; a failure is an error response")
    symbol: str = Field(description="Trading pair in the spelling BTC/USDT")
    timeframe: str = Field(description="Length of one bar")
    horizon: int = Field(description="How far ahead the forecast looks, minutes")
    timestamp: datetime = Field(description="When this answer was computed, UTC")
    current_price: float = Field(alias="_current_price", description="Close of the bar the features describe")
    prob_up: float = Field(ge=0, le=1, description="Calibrated probability that the close after the horizon is higher")
    side: Side = Field(
        description="long from 0.55 up, short from 0.45 down, else flat; flat when abstaining or not paying its costs"
    )
    confidence: float = Field(ge=0, le=1, description="2 * |prob_up - 0.5|")
    price_target: float | None = Field(
        description="close * exp((2 * prob_up - 1) * volatility); without a volatility head, the realised one of the "
        "last 48 bars stretched to the horizon, and null without that"
    )
    volatility: float | None = Field(
        None, gt=0, description="Volatility expected over the horizon, fraction; null without a volatility head"
    )
    interval_level: float | None = Field(
        None, gt=0, lt=1, description="Share of returns that lie within the interval in the long run; null without one"
    )
    return_lower: float | None = Field(None, description="Lower limit of the return over the horizon, fraction")
    return_upper: float | None = Field(None, description="Upper limit of the return over the horizon, fraction")
    price_lower: float | None = Field(None, description="_current_price * (1 + return_lower)")
    price_upper: float | None = Field(None, description="_current_price * (1 + return_upper)")
    prob_lower: float | None = Field(
        None, ge=0, le=1, description="Lower Venn-Abers probability; null with another calibration"
    )
    prob_upper: float | None = Field(
        None, ge=0, le=1, description="Upper Venn-Abers probability; null with another calibration"
    )
    prob_lgbm: float | None = Field(alias="_prob_lgbm", description="The LightGBM member, null when there is none")
    prob_tft: float | None = Field(alias="_prob_tft", description="The TFT member, null when there is none")
    prob_sent: float | None = Field(alias="_prob_sent", description="The sentiment member, null when there is none")
    components: tuple[MemberComponent, ...] = Field((), description="Members of an ensemble; empty for a single model")
    novelty: float | None = Field(
        None, ge=0, le=1, description="Share of training rows less unusual than this one; null for older models"
    )
    model: str = Field(description="Registered model")
    family: str = Field(description="Kind of model that answered")
    model_version: int = Field(description="Version of the registered model")
    snapshot_id: str = Field(description="Training snapshot the version was fitted on")
    as_of: datetime = Field(description="Decision time: the instant from which the features were known, UTC")
    feature_age_s: float = Field(description="Seconds between as_of and timestamp; negative only if clocks disagree")
    staleness_s: float = Field(description="The same age under the name that engines know")
    source: str = Field(description="Market the features come from: exchange, recorded or simulated")
    tradable: bool = Field(description="Whether this very answer may be traded on")
    abstain: bool = Field(description="Whether the platform declines to take a side")
    fallback: bool = Field(description="Whether the answer rests on something less than fresh features")
    fallback_reason: str | None = Field(description="What it rests on instead")
    reasons: tuple[str, ...] = Field(description="Why it is not tradable or abstains, and what the gates noted")
    note: str | None = Field(description="What else a reader should know, such as a registry that does not answer")
    explanation: Explanation | None = Field(None, description="With explain=1: what each value of the row adds")


class RegistryState(BaseModel):
    """Whether the registry is being followed."""

    reachable: bool | None = Field(description="null before the first answer or failure")
    last_contact_age_s: float | None = Field(description="Seconds since the registry last answered")
    problem: str | None = Field(description="Why the served model is not the registry's champion")


class ModelMeta(BaseModel):
    """What is known about one served model."""

    found: bool
    path: str = Field(description="The version in MLflow's spelling")
    family: str
    timeframe: str
    horizon: int = Field(description="Minutes")
    horizon_bars: int
    symbols: tuple[str, ...]
    feature_set: str
    features: tuple[str, ...]
    snapshot_id: str
    source_kind: str
    calibration: str
    seed: int
    created_at: datetime
    loaded_at: datetime
    from_cache: bool = Field(description="True while no registry has confirmed the model since the API started")


class Models(BaseModel):
    """The served model, under the names that engines and panels know."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "ok": True,
                    "models": ["levibot-5m-h12"],
                    "current": "levibot-5m-h12",
                    "version": 7,
                    "aliases": ["champion"],
                    "tags": {"tradable": "true", "reasons": "[]", "family": "lightgbm"},
                    "tradable": True,
                    "reasons": [],
                    "registry": {"reachable": True, "last_contact_age_s": 0.8, "problem": None},
                    "meta": {
                        "levibot-5m-h12": {
                            "found": True,
                            "path": "models:/levibot-5m-h12/7",
                            "family": "lightgbm",
                            "timeframe": "5m",
                            "horizon": 60,
                            "horizon_bars": 12,
                            "symbols": ["BTC/USDT", "ETH/USDT"],
                            "feature_set": "v2",
                            "features": ["log_return_1", "rsi_14"],
                            "snapshot_id": "20260102T000000Z-0123456789ab",
                            "source_kind": "exchange",
                            "calibration": "venn_abers",
                            "seed": 7,
                            "created_at": "2026-01-02T03:40:11Z",
                            "loaded_at": "2026-01-02T03:41:02Z",
                            "from_cache": False,
                        }
                    },
                }
            ]
        }
    )

    ok: bool
    models: tuple[str, ...]
    current: str
    version: int
    aliases: tuple[str, ...]
    tags: dict[str, str]
    tradable: bool
    reasons: tuple[str, ...]
    registry: RegistryState
    meta: dict[str, ModelMeta]


class Alive(BaseModel):
    """The process answers."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "alive"}]})

    status: Literal["alive"] = "alive"


class Ready(BaseModel):
    """A model is loaded."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"status": "ready", "model": "levibot-5m-h12", "version": 7}]}
    )

    status: Literal["ready"] = "ready"
    model: str
    version: int


class Component(BaseModel):
    """One part that the API leans on."""

    status: Literal["ok", "degraded", "failing"]
    critical: bool = Field(description="Whether predictions stop when this part fails")
    detail: str
    facts: dict[str, Any] = Field(default_factory=dict)


class Health(BaseModel):
    """The whole, which is as bad as its worst critical part."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "status": "ok",
                    "components": {
                        "model": {
                            "status": "ok",
                            "critical": True,
                            "detail": "levibot-5m-h12 version 7",
                            "facts": {"version": 7, "tradable": True, "from_cache": False},
                        }
                    },
                }
            ]
        }
    )

    status: Literal["ok", "degraded", "failing"]
    components: dict[str, Component]
