"""How large a position a forecast is worth: a share of equity from probability, volatility and confidence.

The rule is that of the earlier LeviBot: a fraction of Kelly's stake for a gain of 1.2 times the loss, scaled towards a
target volatility and by confidence, under a cap per symbol (J. Kelly, "A new interpretation of information rate",
1956).
One thing differs: it staked a short on the probability of a rise, so that shorts came out as 0; here a short is staked
on the probability of a fall. Whether to act at all is decided in `.policy`.
"""

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from levibot_core.errors import DataQualityError
from levibot_core.market.timeframe import Timeframe

_LEAST_CONFIDENCE_SCALE = 0.5


class SizingRule(BaseModel):
    """The parameters of a position's size. Shares are fractions of equity, volatilities fractions per year."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    symbol_cap: float = Field(0.20, ge=0, le=1, description="Largest share in one symbol")
    kelly_fraction: float = Field(0.25, ge=0, le=1, description="Share of Kelly's stake that is taken")
    payoff: float = Field(1.2, gt=0, description="Gain of a trade that wins over the loss of one that loses")
    volatility_target: float = Field(0.15, gt=0, description="Volatility at which nothing is scaled")
    least_volatility_scale: float = Field(0.05, ge=0, description="However wild the market")
    most_volatility_scale: float = Field(1.5, gt=0, description="However calm the market")
    standstill_scale: float = Field(0.5, ge=0, description="Where the volatility is 0, which says nothing")

    def size(self, probability_up: float, side: Literal["long", "short", "flat"], annual_volatility: float) -> float:
        """Share of equity to hold: above 0 long, below 0 short; its size is at most `symbol_cap`.

        min(symbol_cap, kelly_fraction * kelly * volatility_scale * confidence_scale), with p the probability that the
        side wins, kelly = clip(p - (1 - p) / payoff, 0, 1), volatility_scale = clip(volatility_target / volatility,
        least, most) and confidence_scale = 0.5 + 0.5 * |2 p - 1|.

        Args:
            probability_up: Calibrated probability of a rise.
            side: Side to take.
            annual_volatility: Expected volatility, per year; 0 where nothing moved.

        Raises:
            DataQualityError: the probability is not between 0 and 1, or the volatility no number from 0 up.
        """
        if not 0.0 <= probability_up <= 1.0:
            raise DataQualityError(
                f"Expected a probability between 0 and 1, was {probability_up}. Calibrate the model."
            )
        if not (math.isfinite(annual_volatility) and annual_volatility >= 0.0):
            raise DataQualityError(f"Expected a volatility of 0 or above, was {annual_volatility}. Forecast it again.")
        if side == "flat":
            return 0.0
        winning = probability_up if side == "long" else 1.0 - probability_up
        kelly = min(max(winning - (1.0 - winning) / self.payoff, 0.0), 1.0)
        confidence_scale = _LEAST_CONFIDENCE_SCALE + (1.0 - _LEAST_CONFIDENCE_SCALE) * abs(2.0 * winning - 1.0)
        stake = self.kelly_fraction * kelly * self._volatility_scale(annual_volatility) * confidence_scale
        share = min(self.symbol_cap, stake)
        return share if side == "long" or share == 0.0 else -share

    def _volatility_scale(self, annual_volatility: float) -> float:
        if annual_volatility == 0.0:
            return self.standstill_scale
        # Compared before it is divided: the quotient of a tiny volatility is beyond all numbers.
        if annual_volatility * self.most_volatility_scale <= self.volatility_target:
            return self.most_volatility_scale
        return max(self.volatility_target / annual_volatility, self.least_volatility_scale)


def annual_volatility(volatility: float, horizon_bars: int, timeframe: Timeframe) -> float:
    """The volatility per year of 365 days of one over a horizon, both fractions: it grows with the root of time."""
    return volatility * math.sqrt(timeframe.bars_per_year / horizon_bars)
