"""The shapes of what was forecast before, and of what became of it."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from levibot_serving.contract import Side

RECENT_PREDICTION_EXAMPLE: dict[str, Any] = {
    "ts": 1767323101.25,
    "ts_iso": "2026-01-02T03:05:01.250000Z",
    "symbol": "BTC/USDT",
    "prob_up": 0.571,
    "confidence": 0.142,
    "side": "long",
    "source": "exchange",
    "price_target": 97352.9,
    "price": 97310.5,
    "as_of": "2026-01-02T03:05:00Z",
    "horizon": 60,
    "model_version": 7,
    "role": "champion",
    "tradable": True,
    "abstain": False,
    "fallback": False,
}


class RecentPrediction(BaseModel):
    """A forecast, when it was first given. Given again unchanged, it is not listed again."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [RECENT_PREDICTION_EXAMPLE]})

    ts: float = Field(description="When it was given, seconds since 1970-01-01 UTC")
    ts_iso: datetime = Field(description="The same, UTC")
    symbol: str
    prob_up: float
    confidence: float
    side: Side
    source: str = Field(description="exchange, recorded, simulated, or request for candles that a caller sent")
    price_target: float | None
    price: float = Field(description="Close at as_of")
    as_of: datetime
    horizon: int = Field(description="Minutes")
    model_version: int
    role: Literal["champion", "challenger"]
    tradable: bool
    abstain: bool
    fallback: bool


class RecentPredictions(BaseModel):
    """The newest forecasts, of all workers and also from before a restart; newest first."""

    model_config = ConfigDict(
        frozen=True, json_schema_extra={"examples": [{"items": [RECENT_PREDICTION_EXAMPLE], "total": 1}]}
    )

    items: tuple[RecentPrediction, ...]
    total: int = Field(description="How many are listed")


class Decile(BaseModel):
    """Forecasts of one tenth, by confidence."""

    model_config = ConfigDict(frozen=True)

    decile: int = Field(ge=1, le=10, description="1 is the least confident tenth")
    confidence_from: float
    confidence_to: float
    forecasts: int
    settled: int = Field(description="Those whose outcome is known, and that lean to one side")
    hits: int = Field(description="Settled ones whose price went where they leaned; an unchanged price is a fall")
    hit_rate: float | None = Field(description="hits / settled; null while nothing is settled")
    hit_rate_lower: float | None = Field(description="Lower limit of the 95 % Wilson interval")
    hit_rate_upper: float | None = Field(description="Upper limit")


class Deciles(BaseModel):
    """How often forecasts came true, by how confident they were. Overlapping horizons are not independent."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "ok": True,
                    "window": "24h",
                    "role": "champion",
                    "forecasts": 864,
                    "settled": 828,
                    "hit_rate": 0.519,
                    "buckets": [
                        {
                            "decile": 10,
                            "confidence_from": 0.12,
                            "confidence_to": 0.21,
                            "forecasts": 86,
                            "settled": 82,
                            "hits": 46,
                            "hit_rate": 0.561,
                            "hit_rate_lower": 0.453,
                            "hit_rate_upper": 0.663,
                        }
                    ],
                }
            ]
        },
    )

    ok: bool = True
    window: Literal["24h", "7d"]
    role: Literal["champion", "challenger"]
    forecasts: int = Field(description="One per symbol, bar and model version")
    settled: int
    hit_rate: float | None
    buckets: tuple[Decile, ...] = Field(
        description="Ten where there are at least ten forecasts, the least confident first"
    )


class Signal(BaseModel):
    """A forecast that took a side."""

    model_config = ConfigDict(frozen=True)

    ts: float = Field(description="When it was given, seconds since 1970-01-01 UTC")
    symbol: str
    side: Side
    prob_up: float
    confidence: float
    source: str
    tradable: bool


class SignalLog(BaseModel):
    """The newest signals, newest first."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "items": [
                        {
                            "ts": 1767323101.25,
                            "symbol": "BTC/USDT",
                            "side": "long",
                            "prob_up": 0.571,
                            "confidence": 0.142,
                            "source": "exchange",
                            "tradable": True,
                        }
                    ]
                }
            ]
        },
    )

    items: tuple[Signal, ...]
