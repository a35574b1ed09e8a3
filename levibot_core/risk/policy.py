"""Whether a forecast pays its costs: the edge it promises against what a round trip takes.

A forecast may be right more often than not and still lose money: the policy stays flat there. How large a position
should be is not decided here.
"""

import math

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from levibot_core.errors import DataQualityError

FloatArray = npt.NDArray[np.float64]

_MEAN_SIZE_OF_A_NORMAL = math.sqrt(2.0 / math.pi)


class CostAwarePolicy(BaseModel):
    """Act on a forecast only where its expected gain exceeds the cost of a round trip. Shares are fractions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    taker_fee: float = Field(0.0015, ge=0, description="Of the notional of each fill")
    slippage: float = Field(0.0005, ge=0, lt=1, description="How much worse than the market's price a fill is")

    @property
    def round_trip_cost(self) -> float:
        """Fee and slippage of getting in and out, of the notional."""
        return 2.0 * (self.taker_fee + self.slippage)

    def edges(self, probabilities: FloatArray, volatilities: FloatArray) -> FloatArray:
        """Expected return of a long position over the horizon, before costs; negative argues for a short one.

        (2 p - 1) times the mean size of the move, which of a normal return is sqrt(2 / pi) times its volatility. It
        takes rises and falls to be equally large, and no move to be likelier to be foreseen for being large.

        Args:
            probabilities: Calibrated probability of a rise, float64 (n,).
            volatilities: Standard deviation of the return over the horizon, fraction, above 0, (n,).

        Returns:
            Fractions, float64 (n,).

        Raises:
            DataQualityError: a probability is not between 0 and 1, or a volatility is not a positive number.
        """
        if not (np.all(probabilities >= 0.0) and np.all(probabilities <= 1.0)):
            raise DataQualityError("Expected probabilities between 0 and 1, was something else. Calibrate the model.")
        if not (np.isfinite(volatilities).all() and np.all(volatilities > 0.0)):
            raise DataQualityError(
                "Expected positive volatilities, was something else. Leave out bars at which nothing moved."
            )
        return (2.0 * probabilities - 1.0) * _MEAN_SIZE_OF_A_NORMAL * volatilities

    def pays(self, probabilities: FloatArray, volatilities: FloatArray) -> npt.NDArray[np.bool_]:
        """Where acting is expected to gain more than it costs. Shapes (n,); see `edges`."""
        return np.abs(self.edges(probabilities, volatilities)) > self.round_trip_cost
