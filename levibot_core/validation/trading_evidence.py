"""From returns to the facts the trading gates look at: a policy judged by every trial ever run.

The statistics are in `deflated_sharpe` and `backtest_overfitting`, the demands in `gates`.
"""

import math

import numpy as np
import numpy.typing as npt

from levibot_core.validation.backtest_overfitting import OverfittingEstimate, probability_of_overfitting
from levibot_core.validation.deflated_sharpe import ReturnShape, deflate, effective_trials
from levibot_core.validation.gates import TradingFacts

FloatArray = npt.NDArray[np.float64]

_BLOCKS = 16
_FEWEST_BLOCKS = 4


def measure_trading(policy: FloatArray, lifetime: FloatArray, training: FloatArray) -> TradingFacts:
    """Measure what a policy's returns are worth.

    Args:
        policy: Daily after-cost returns of the chosen policy on untouched rows, fraction, (days,).
        lifetime: Those of every trial ever run, this training's among them, (trials, any days); NaN where a trial has
            none.
        training: Those of the trials of this training, among which the policy was chosen, (trials, days); NaN where a
            trial has none. A trial without any return was given up and is left out.

    Raises:
        DataQualityError: there is no trial, or a return is infinite.
    """
    deflated = deflate(policy, lifetime)
    finished = training[~np.isnan(training).all(axis=1)]
    traded = sum(ReturnShape.of(returns) is not None for returns in finished)
    estimate = _overfitting(finished)
    needed = deflated.minimum_periods if deflated else math.inf
    return TradingFacts(
        days=int((~np.isnan(policy)).sum()),
        sharpe=deflated.observed.sharpe if deflated else None,
        probabilistic_sharpe=deflated.probabilistic if deflated else None,
        deflated_sharpe=deflated.deflated if deflated else None,
        expected_maximum_sharpe=deflated.expected_maximum if deflated else None,
        trials=int((~np.isnan(lifetime)).any(axis=1).sum()),
        effective_trials=deflated.effective_trials if deflated else effective_trials(lifetime),
        minimum_track_record_days=needed if math.isfinite(needed) else None,
        trials_traded=traded,
        overfitting=estimate.probability if estimate else None,
    )


def _overfitting(trials: FloatArray) -> OverfittingEstimate | None:
    """Over the days that all trials have, in 16 blocks, or fewer where there are not two days for each."""
    common = trials[:, ~np.isnan(trials).any(axis=0)]
    blocks = min(_BLOCKS, common.shape[1] // 4 * 2)
    return probability_of_overfitting(common, blocks) if blocks >= _FEWEST_BLOCKS else None
