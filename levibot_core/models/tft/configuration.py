"""Everything about a trained transformer but its weights: the content of `tft.json`.

From the values of a window to the numbers the network sees, and from its answers back to returns, by what was known
when the network was trained. Neither torch nor pandas is needed for that.
"""

from typing import Annotated, Any, Final, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from levibot_core.models.scaling import RobustScaler
from levibot_core.models.tft.profile import TFTProfile

QUANTILE_LEVELS: Final = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
VOLATILITY_FLOOR: Final = 1e-5
"""Log ratio per bar. A market that stood still has no volatility to divide by."""
FEATURE_CLIP: Final = 5.0
"""Interquartile ranges from the median: farther out lies a crash, and nothing a network has seen enough of."""
TARGET_CLIP: Final = 10.0
"""Standard deviations of the horizon. The outermost quantile has long been passed there."""
TFT_REBUILD_TOLERANCE: Final = 1e-3
"""How far the probability of a rise may lie from that of the same training elsewhere.

With other threads, another processor or a GPU; on one thread of the same machine the difference is 0. Two threads
instead of one moved it by 1.4e-7 in 24 steps on recorded candles, on which forecasts differ by 0.015; every further
step may carry a difference on.
"""
Share = Annotated[float, Field(gt=0, lt=1)]


class TFTConfiguration(BaseModel):
    """How to ask the network, and what it was trained with."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: Literal["levibot-tft/1"] = "levibot-tft/1"
    features: tuple[str, ...] = Field(min_length=1, description="In the order of the network's inputs")
    horizon_bars: int = Field(ge=1)
    levels: tuple[Share, ...] = Field(QUANTILE_LEVELS, min_length=2, description="Levels of the quantiles, rising")
    volatility_feature: str = Field(description="Per bar; a target is a return divided by it and the horizon's root")
    volatility_floor: float = Field(VOLATILITY_FLOOR, gt=0)
    centers: tuple[float, ...] = Field(description="Robust scaler of the train rows: medians")
    spreads: tuple[float, ...] = Field(description="And interquartile ranges")
    feature_clip: float = Field(FEATURE_CLIP, gt=0)
    target_clip: float = Field(TARGET_CLIP, gt=0)
    profile: TFTProfile
    seed: int
    epochs: int = Field(ge=1, description="Epochs trained")
    best_epoch: int = Field(ge=1, description="The one whose weights were kept, counted from 1")
    validation_loss: float = Field(description="Its quantile loss, as pytorch-forecasting counts it")
    dataset: dict[str, Any] = Field(description="Arguments of pytorch-forecasting's TimeSeriesDataSet")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not len(self.features) == len(self.centers) == len(self.spreads):
            raise ValueError("expected a centre and a spread for every feature")
        if self.volatility_feature not in self.features:
            raise ValueError(f"expected the volatility {self.volatility_feature} among the features")
        if sorted(set(self.levels)) != list(self.levels):
            raise ValueError("expected rising levels")
        return self

    @property
    def window(self) -> int:
        """Bars of a window."""
        return self.profile.window

    @property
    def scaler(self) -> RobustScaler:
        """The scaler of the train rows."""
        return RobustScaler(self.centers, self.spreads)

    def network_input(self, values: np.ndarray) -> np.ndarray:
        """Scaled and clipped features as the network sees them, float64 (..., k) in, float32 of that shape out."""
        scaled = self.scaler.apply(values)
        return np.asarray(np.clip(scaled, -self.feature_clip, self.feature_clip), dtype=np.float32)

    def horizon_volatility(self, values: np.ndarray) -> np.ndarray:
        """What a target is divided by, float64 (n,): volatility per bar times the root of the horizon.

        Args:
            values: Features of the rows at which forecasts are made, not scaled, float64 (n, k).
        """
        per_bar = np.maximum(values[:, self.features.index(self.volatility_feature)], self.volatility_floor)
        return np.asarray(per_bar * np.sqrt(self.horizon_bars), dtype=np.float64)
