"""What a forecast of quantiles says: how probable a rise is, and how far prices will move.

The forecast of a row is its values at some levels. They are put in order first: a network that is trained on each level
by itself may cross them, and the rearranged curve is never farther from the true one (Chernozhukov, Fernandez-Val and
Galichon 2010, "Quantile and probability curves without crossing", proposition 4). Between two levels the distribution
function is straight; beyond the outermost its log-odds go on with the slope of the last piece, as those of a logistic
distribution do.
"""

from collections.abc import Sequence
from statistics import NormalDist
from typing import Final

import numpy as np

# The share of outcomes below which, and above which, a spread is not looked at: the tails are the least certain part.
SPREAD_LEVELS: Final = (0.1, 0.9)
_NARROWEST = 1e-9
_CERTAIN = 1e-9


def rearranged(quantiles: np.ndarray) -> np.ndarray:
    """The values of every row in rising order, float64 (n, q) in and out."""
    return np.sort(np.asarray(quantiles, dtype=np.float64), axis=1)


def probability_above(quantiles: np.ndarray, levels: Sequence[float], threshold: float = 0.0) -> np.ndarray:
    """The probability of an outcome above a threshold, float64 (n,), strictly between 0 and 1.

    Args:
        quantiles: Forecast values, float64 (n, q), in any order within a row.
        levels: Their levels, q of them, rising, strictly between 0 and 1; at least two.
        threshold: In the unit of the values.
    """
    values, level = rearranged(quantiles), np.asarray(levels, dtype=np.float64)
    odds = np.log(level / (1.0 - level))
    rows = np.arange(len(values))
    # The piece of the curve that the threshold lies in or, beyond the outermost value, the last piece.
    right = np.clip((values <= threshold).sum(axis=1), 1, level.size - 1)
    low, high = values[rows, right - 1], values[rows, right]
    share = (threshold - low) / np.maximum(high - low, _NARROWEST)
    inside = (share >= 0.0) & (share <= 1.0)
    between = level[right - 1] + np.where(inside, share, 0.0) * (level[right] - level[right - 1])
    beyond = odds[right - 1] + share * (odds[right] - odds[right - 1])
    below = np.where(inside, between, 1.0 / (1.0 + np.exp(-np.clip(beyond, -50.0, 50.0))))
    return np.asarray(1.0 - np.clip(below, _CERTAIN, 1.0 - _CERTAIN), dtype=np.float64)


def normal_spread(quantiles: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """The standard deviation of the normal distribution that spreads as far as the forecast, float64 (n,).

    As far as between `SPREAD_LEVELS`, which have to be among the levels.

    Args:
        quantiles: Forecast values, float64 (n, q), in any order within a row.
        levels: Their levels, rising.
    """
    values = rearranged(quantiles)
    lower, upper = (list(levels).index(level) for level in SPREAD_LEVELS)
    of_normal = NormalDist().inv_cdf(SPREAD_LEVELS[1]) - NormalDist().inv_cdf(SPREAD_LEVELS[0])
    return np.asarray((values[:, upper] - values[:, lower]) / of_normal, dtype=np.float64)
