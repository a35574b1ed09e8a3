"""Does choosing the best trial work? The probability of backtest overfitting.

Combinatorially symmetric cross-validation: the periods are cut into blocks; for every choice of half of them, the
trial with the best Sharpe ratio there is looked up among the ratios of the other half. Where choosing works, it stands
high there too; where trials differ by luck alone, it stands anywhere. After D. H. Bailey, J. M. Borwein, M. Lopez de
Prado, Q. J. Zhu, "The probability of backtest overfitting" (2017), section 2.

How far one ratio can be believed is in `levibot_core.validation.deflated_sharpe`.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from levibot_core.errors import DataQualityError

FloatArray = npt.NDArray[np.float64]

# Rounding of sums leaves a variance of about this where a trial did not trade; series are scaled to a variance of 1.
_FLAT = 1e-12
# Trials that made the same trade have the same ratio: rounding must not rank them.
_DECIMALS = 10


@dataclass(frozen=True, slots=True, eq=False)
class OverfittingEstimate:
    """What the combinations say.

    Attributes:
        probability: Share of combinations in which the chosen trial is at or below the median of the other half.
        logits: ln(rank / (1 - rank)) of the chosen trial in the other half, float64 (combinations,); the rank is
            relative, between 0 (worst) and 1.
        degradation_slope: Slope of the least-squares line from the chosen trial's ratio to its ratio in the other half;
            below 0 the better one looked, the worse it was.
        degradation_intercept: Where that line crosses 0.
        loss_probability: Share of combinations in which the chosen trial lost in the other half.
        trials: Trials that traded; others are left out.
        periods: Number of returns of each.
    """

    probability: float
    logits: FloatArray
    degradation_slope: float
    degradation_intercept: float
    loss_probability: float
    trials: int
    periods: int


def probability_of_overfitting(trials: FloatArray, blocks: int = 16) -> OverfittingEstimate | None:
    """Estimate the probability that the trial chosen by its Sharpe ratio is no better than the median one.

    Args:
        trials: Returns per period of every trial of one choice, (trials, periods), over the same periods.
        blocks: Even number of blocks the periods are cut into; 16 give 12,870 combinations.

    Returns:
        None if fewer than two trials traded: there was nothing to choose from.

    Raises:
        DataQualityError: a return is missing or infinite, the number of blocks is odd, or there are fewer than two
            periods per block.
    """
    matrix = np.asarray(trials, dtype=np.float64)
    if matrix.ndim != 2 or not np.isfinite(matrix).all():
        raise DataQualityError(
            f"Expected finite returns (trials, periods), was {matrix.shape} with {int((~np.isfinite(matrix)).sum())} "
            "that are not. Take the periods that all trials have."
        )
    periods = matrix.shape[1]
    if blocks < 2 or blocks % 2 or periods < 2 * blocks:
        raise DataQualityError(
            f"Expected an even number of blocks of at least two periods each, was {blocks} blocks of {periods} "
            "periods. Take more days or fewer blocks."
        )
    matrix = matrix[np.ptp(matrix, axis=1) > 0.0]
    if matrix.shape[0] < 2:
        return None
    chosen = np.array(list(combinations(range(blocks), blocks // 2)), dtype=np.int64)
    inside = np.zeros((len(chosen), blocks))
    np.put_along_axis(inside, chosen, 1.0, axis=1)
    # The complement of a combination is its mirror image in this order.
    ratios = _ratios(matrix, inside, blocks)
    return _estimate(ratios, np.ascontiguousarray(ratios[::-1]), periods)


def _ratios(matrix: FloatArray, inside: FloatArray, blocks: int) -> FloatArray:
    """Sharpe ratio of each trial over the blocks of each combination, (combinations, trials); 0 where it is flat."""
    # A common scale per trial changes no ratio and keeps the variance below from cancelling.
    scaled = matrix / matrix.std(axis=1, keepdims=True)
    begins = np.linspace(0, matrix.shape[1], blocks + 1).astype(np.int64)
    sizes = np.diff(begins).astype(np.float64)
    periods = (inside @ sizes)[:, np.newaxis]
    middle = scaled.mean(axis=1)
    centred = scaled - middle[:, np.newaxis]
    away = (inside @ np.add.reduceat(centred, begins[:-1], axis=1).T) / periods
    variance = (inside @ np.add.reduceat(centred**2, begins[:-1], axis=1).T) / periods - away**2
    deviation = np.sqrt(np.maximum(variance, _FLAT))
    ratios = np.zeros_like(away)
    np.divide(away + middle, deviation, out=ratios, where=variance > _FLAT)
    rounded: FloatArray = np.round(ratios, _DECIMALS)
    return rounded


def _estimate(seen: FloatArray, unseen: FloatArray, periods: int) -> OverfittingEstimate:
    trials = seen.shape[1]
    rows = np.arange(seen.shape[0])
    best = seen.argmax(axis=1)
    before, after = seen[rows, best], unseen[rows, best]
    below = (unseen < after[:, np.newaxis]).sum(axis=1)
    equal = (unseen == after[:, np.newaxis]).sum(axis=1)
    # Ranks from 1, ties sharing their mean, over trials + 1: never 0 or 1.
    rank = (below + (equal + 1) / 2.0) / (trials + 1)
    logits = np.log(rank / (1.0 - rank))
    spread = before - before.mean()
    varied = float(spread @ spread)
    slope = float(spread @ after) / varied if varied > _FLAT else 0.0
    return OverfittingEstimate(
        probability=float((logits <= 0.0).mean()),
        logits=logits,
        degradation_slope=slope,
        degradation_intercept=float(after.mean() - slope * before.mean()),
        loss_probability=float((after < 0.0).mean()),
        trials=trials,
        periods=periods,
    )
