"""Whether the mean of bounded differences is above zero, judged while they come in: valid however often one looks.

The evidence is a gambler's wealth. It starts at 1, and before each difference a share of it is put on that difference
being above 0. Where the mean is not, no bet gains on average, so that the wealth ever reaches 1 / alpha with a
probability of alpha at most (J. Ville, "Étude critique de la notion de collectif", 1939), whoever looks whenever, and
stops when it suits him. A wealth of that kind is an e-process; this one is from I. Waudby-Smith, A. Ramdas,
"Estimating means of bounded random variables by betting", JRSS B 86 (2024).

The bets are a grid of constants, each kept for ever with its part of the first wealth (their "diversified Kelly" bets;
universal portfolios of T. M. Cover, 1991), not bets that follow the data (GRAPA). They cost a few more observations,
and give what a nightly job needs:

* The wealth does not depend on the order of the observations, nor on how they are cut into nights.
* The mean may wander. Say m_i is the mean of x_i given what came before. The wealth of a bet b is the product of
  (1 + b x_i), which is a martingale times the product of (1 + b m_i), and that is at most exp(b (m_1 + … + m_t)). So
  the wealth is an e-process against every market in which the differences so far were not above 0 on average; not
  only against those in which none ever was. (Bets that follow the data lose this: they can be large just when m_i is.)

What is compared is decided in `.paired_blocks`, what follows from the evidence in `.sequential_verdict`.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from levibot_core.errors import DataQualityError

FloatArray = npt.NDArray[np.float64]

DECISIVE: Final = 20.0
"""Evidence that is acted on: reached with a probability of 5 % at most where there is nothing to find."""
# At the largest bet a difference at the bound takes nine tenths of its wealth. A hundredth of it finds differences so
# small that a year of them would not decide. Each begins with wealth in proportion to its size: differences between
# forecasts are small against their bound, so that mostly the large ones decide.
_SHARES: Final = np.geomspace(0.009, 0.9, 16)
_FIRST_WEALTH: Final = np.log(_SHARES / _SHARES.sum())
_LARGEST_LOG = 700.0
_BISECTIONS = 50
_MOST_OBSERVATIONS = 1e9


@dataclass(frozen=True, slots=True)
class BettingProcess:
    """Evidence that the mean of some observations is above 0. Immutable; what it holds is all that is needed to go on.

    Attributes:
        bound: No observation is further from 0, known beforehand.
        log_wealth: Logarithm of the wealth of each bet, float64 (bets,).
        observations: How many were bet on.
    """

    bound: float
    log_wealth: FloatArray
    observations: int = 0

    @classmethod
    def begin(cls, bound: float) -> "BettingProcess":
        """The process before the first observation: its evidence is 1.

        Raises:
            DataQualityError: the bound is not a positive number.
        """
        if not (math.isfinite(bound) and bound > 0.0):
            raise DataQualityError(f"Expected a positive bound of the observations, was {bound}. State one beforehand.")
        return cls(bound, _FIRST_WEALTH)

    @property
    def e_value(self) -> float:
        """The evidence so far: 1 before the first observation, below 1 where it speaks against a positive mean.

        Kept below 1e304, so that it can be written down.
        """
        return float(_wealth(self.log_wealth))

    def after(self, values: FloatArray) -> tuple["BettingProcess", FloatArray]:
        """The process after further observations, and the evidence after each of them, float64 (n,).

        Args:
            values: Observations in the order of time, float64 (n,), each within the bound.

        Raises:
            DataQualityError: an observation is beyond the bound, or no number. The process is as it was.
        """
        _expect_within(values, self.bound)
        bets = _bets(self.bound)
        steps = np.log1p(np.multiply.outer(values, bets))
        # One running sum from where it stood: cut into any nights, it gives the same bits.
        path = np.cumsum(np.vstack([self.log_wealth, steps]), axis=0)
        return BettingProcess(self.bound, path[-1], self.observations + values.size), _wealth(path[1:])


def mean_interval(values: FloatArray, bound: float, confidence: float = 0.95) -> tuple[float, float]:
    """A confidence sequence for the mean, at its newest point: what the mean may be, at all times together.

    A mean is in it while nobody who bets that the true one is above it, or below it, made too much (the hedged
    capital process of Waudby-Smith and Ramdas 2024; each side has half of the error). It is not cut with the
    intervals of earlier nights: where the mean wanders, the newest interval is the one about the average so far.

    Args:
        values: Observations, float64 (n,), each within the bound.
        bound: No observation is further from 0.
        confidence: Probability that the true mean is never outside.

    Raises:
        DataQualityError: an observation is beyond the bound, or no number.
    """
    _expect_within(values, bound)
    decisive = math.log(2.0 / (1.0 - confidence))
    return _lowest(values, bound, decisive), -_lowest(-values, bound, decisive)


def expected_observations(mean: float, deviation: float, bound: float, decisive: float = DECISIVE) -> float | None:
    """About how many observations it takes until the evidence is decisive; None where it never is.

    The wealth that every bet has on average is followed, to the second order in the bet: about the median of what
    it takes, where observations are many and small.

    Args:
        mean: Of the observations.
        deviation: Their standard deviation.
        bound: As for `BettingProcess`.
        decisive: The evidence that is wanted.
    """
    bets = _bets(bound)
    growth = bets * mean - 0.5 * bets**2 * (deviation**2 + mean**2)
    if growth.max() <= 0.0:
        return None
    below, above = 0.0, 1.0
    while _wealth(_FIRST_WEALTH + above * growth) < decisive:
        below, above = above, 2.0 * above
        if above > _MOST_OBSERVATIONS:
            return None
    for _ in range(_BISECTIONS):
        middle = 0.5 * (below + above)
        below, above = (middle, above) if _wealth(_FIRST_WEALTH + middle * growth) < decisive else (below, middle)
    return above


def _bets(bound: float) -> FloatArray:
    return np.asarray(_SHARES / bound)


def _wealth(log_wealth: FloatArray) -> FloatArray:
    """What the bets own together, from its logarithms, over the last axis; kept below 1e304."""
    highest = log_wealth.max(axis=-1)
    spread = np.exp(log_wealth - np.expand_dims(highest, -1)).sum(axis=-1)
    return np.asarray(np.exp(np.minimum(highest + np.log(spread), _LARGEST_LOG)))


def _lowest(values: FloatArray, bound: float, decisive: float) -> float:
    """The lowest mean that the observations do not rule out by being above it."""
    # An observation is at most `bound + mean` below a mean, so that the bets on it may be the larger, the lower it is.
    # Their wealth falls as the mean rises all the same (each factor does): those ruled out are all means below one.
    below, above = -bound, bound
    for _ in range(_BISECTIONS):
        middle = 0.5 * (below + above)
        gains = np.log1p(np.multiply.outer(values - middle, _bets(bound + middle))).sum(axis=0)
        ruled_out = float(np.log(_wealth(_FIRST_WEALTH + gains))) >= decisive
        below, above = (middle, above) if ruled_out else (below, middle)
    return below


def _expect_within(values: FloatArray, bound: float) -> None:
    if values.ndim != 1 or not bool(np.all(np.abs(values) <= bound)):  # NaN is not
        beyond = values[~(np.abs(values) <= bound)].ravel()[:3].tolist() if values.ndim == 1 else values.shape
        raise DataQualityError(
            f"Expected a row of observations within {bound:g} of 0, was {beyond}. Bounds are stated beforehand: "
            "score what is compared with the clipping that goes with them."
        )
