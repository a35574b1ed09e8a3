"""The shape of why a forecast is what it is."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field


class FeatureContribution(BaseModel):
    """One value the forecast was made from, and what it adds."""

    feature: str
    value: float = Field(description="As the model saw it; symbol_code is the symbol's place in the model's list")
    contribution: float = Field(description="What it adds to the log-odds of a rise (SHAP value)")


class FeatureWeight(BaseModel):
    """How much a network looked at one feature; it does not say in which direction that moved the forecast."""

    feature: str
    value: float = Field(description="At the bar of the forecast")
    weight: float = Field(ge=0, le=1, description="Of the variable selection, on average over the window's bars")


class Explanation(BaseModel):
    """Why one forecast is what it is: base_value + contributions + others = log_odds, before calibration.

    Where a model has no such contributions, `reason` says why, and its selection weights stand in.
    """

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "ok": True,
                    "symbol": "BTC/USDT",
                    "timeframe": "5m",
                    "horizon": 60,
                    "timestamp": "2026-01-02T03:05:01.250Z",
                    "as_of": "2026-01-02T03:05:00Z",
                    "model": "levibot-5m-h12",
                    "family": "lightgbm",
                    "model_version": 7,
                    "prob_up": 0.571,
                    "prob_raw": 0.584,
                    "log_odds": 0.339,
                    "base_value": 0.021,
                    "contributions": [
                        {"feature": "return_12", "value": -0.0041, "contribution": 0.212},
                        {"feature": "rsi_14", "value": 31.2, "contribution": 0.077},
                    ],
                    "others": 0.029,
                    "reason": None,
                    "selection_weights": [],
                }
            ]
        },
    )

    ok: bool = Field(True, description="Always true; a failure is an error response")
    symbol: str = Field(description="Trading pair in the spelling BTC/USDT")
    timeframe: str = Field(description="Length of one bar")
    horizon: int = Field(description="How far ahead the forecast looks, minutes")
    timestamp: datetime = Field(description="When this answer was computed, UTC")
    as_of: datetime = Field(description="Decision time: the instant from which the features were known, UTC")
    model: str = Field(description="Registered model")
    family: str = Field(description="Kind of model that answered")
    model_version: int = Field(description="Version of the registered model")
    prob_up: float = Field(ge=0, le=1, description="Calibrated probability, as /ai/predict gives it")
    prob_raw: float = Field(ge=0, le=1, description="The model's score before calibration")
    log_odds: float = Field(description="log(prob_raw / (1 - prob_raw))")
    base_value: float | None = Field(
        description="Log-odds the model starts from, the same for every row; null without contributions"
    )
    contributions: tuple[FeatureContribution, ...] = Field(description="The strongest, largest absolute value first")
    others: float | None = Field(description="Sum of the contributions that are not listed; null without contributions")
    reason: str | None = Field(None, description="Why there are no contributions; null when there are")
    selection_weights: tuple[FeatureWeight, ...] = Field(
        (), description="Where a transformer looked, the highest weight first; empty for other models"
    )
