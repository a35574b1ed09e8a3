"""Differences of two models block by block, simulated where it is known which of them is better.

One value is one block of an hour: the log loss of the reference less that of the contender, averaged over symbols, as
`levibot_core.validation.paired_blocks` makes it of real forecasts. Each function gives one market.
"""

import math
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from levibot_core.models.calibration import sigmoid
from levibot_core.models.metrics import log_losses
from levibot_core.validation.paired_blocks import LOG_LOSS_BOUND, MOST_CERTAIN
from levibot_core.validation.sequential import FloatArray

Market = Callable[[np.random.Generator, int], FloatArray]

BLOCKS_PER_DAY: Final = 24
SYMBOLS: Final = 3
SCALE: Final = 0.1
"""Standard deviation of a difference, nats: that of two models whose log-odds differ by 0.2."""
_PERSISTENCE = 0.9
_SYMBOLS_CORRELATION = 0.7


def normal(random: np.random.Generator, blocks: int) -> FloatArray:
    """Independent, normal."""
    return _kept(random.normal(0.0, SCALE, blocks))


def heavy_tails(random: np.random.Generator, blocks: int) -> FloatArray:
    """Independent, Student's t with 3 degrees of freedom."""
    return _kept(random.standard_t(3, blocks) * SCALE / math.sqrt(3.0))


def clustered(random: np.random.Generator, blocks: int) -> FloatArray:
    """Heavy tails whose size comes and goes over weeks, as that of market moves does."""
    size = np.exp(0.8 * _persistent(random, blocks, 0.99) - 0.32)
    return _kept(random.standard_t(5, blocks) * math.sqrt(0.6) * SCALE * size)


def equal_forecasts(random: np.random.Generator, blocks: int) -> FloatArray:
    """Two forecasters who are wrong by as much, the one too bold and the other too timid: skewed, never 0 on average.

    The truth lies where both lose the same at every single decision.
    """
    bold = np.clip(sigmoid(0.4 * _persistent(random, blocks, _PERSISTENCE)), 1.0 - MOST_CERTAIN, MOST_CERTAIN)
    rise, fall = np.log(bold / 0.5), np.log((1.0 - bold) / 0.5)
    labels = (random.random(blocks) < -fall / (rise - fall)).astype(np.float64)
    return np.asarray(log_losses(np.full(blocks, 0.5), labels) - log_losses(bold, labels))


def rare_disasters(random: np.random.Generator, blocks: int) -> FloatArray:
    """A little better nearly always, and once in a hundred blocks much worse: 0 on average."""
    return np.asarray(np.where(random.random(blocks) < 0.01, -0.99, 0.01))


def worse_then_better(random: np.random.Generator, blocks: int) -> FloatArray:
    """Worse for a fortnight, then better by as much, and so on: never better on average so far."""
    fortnight = 14 * BLOCKS_PER_DAY
    drift = np.where(np.arange(blocks) // fortnight % 2 == 0, -1.0, 1.0) * 0.2 * SCALE
    return _kept(drift + random.standard_t(5, blocks) * math.sqrt(0.6) * SCALE)


def autocorrelated(coefficient: float) -> Market:
    """Each difference like the one before it, 0 on average over a long time: beyond what the test promises."""

    def market(random: np.random.Generator, blocks: int) -> FloatArray:
        shocks = random.standard_t(5, blocks) * math.sqrt(0.6) * SCALE * math.sqrt(1.0 - coefficient**2)
        return _kept(_filtered(shocks, coefficient))

    return market


NULLS: Final[Mapping[str, Market]] = {
    "normal": normal,
    "heavy tails": heavy_tails,
    "clustered volatility": clustered,
    "equally wrong forecasts": equal_forecasts,
    "rare disasters": rare_disasters,
    "worse, then better, by turns": worse_then_better,
}
BEYOND: Final[Mapping[str, Market]] = {
    "autocorrelation 0.05": autocorrelated(0.05),
    "autocorrelation 0.1": autocorrelated(0.1),
    "autocorrelation 0.2": autocorrelated(0.2),
    "autocorrelation 0.3": autocorrelated(0.3),
}


def knows_more(log_odds: float) -> Market:
    """A contender that knows of something that moves the log-odds by as much, beside what the reference knows."""

    def market(random: np.random.Generator, blocks: int) -> FloatArray:
        known, new = (
            np.stack([_persistent(random, blocks, _PERSISTENCE) for _ in range(SYMBOLS)], axis=1) for _ in range(2)
        )
        reference, truth = 0.2 * known, 0.2 * known + log_odds * new
        return _loss_difference(random, sigmoid(reference), sigmoid(truth), sigmoid(truth))

    return market


def claims_too_much(factor: float) -> Market:
    """A champion whose log-odds are too large by a factor, after one that was right; above 0 is the harm done."""

    def market(random: np.random.Generator, blocks: int) -> FloatArray:
        truth = 0.2 * np.stack([_persistent(random, blocks, _PERSISTENCE) for _ in range(SYMBOLS)], axis=1)
        return _loss_difference(random, sigmoid(factor * truth), sigmoid(truth), sigmoid(truth))

    return market


def _loss_difference(
    random: np.random.Generator, worse: FloatArray, better: FloatArray, truth: FloatArray
) -> FloatArray:
    """Mean over symbols of the log loss of one forecaster less that of the other, (blocks,); all (blocks, symbols)."""
    common = math.sqrt(_SYMBOLS_CORRELATION) * random.normal(size=(truth.shape[0], 1))
    own = math.sqrt(1.0 - _SYMBOLS_CORRELATION) * random.normal(size=truth.shape)
    # The logistic curve as a threshold of a normal variable: it is within a hundredth of the normal curve here.
    labels = common + own < np.log(truth / (1.0 - truth)) / 1.702
    limits = (1.0 - MOST_CERTAIN, MOST_CERTAIN)
    losses = [log_losses(np.clip(forecast, *limits), labels) for forecast in (worse, better)]
    return np.asarray((losses[0] - losses[1]).mean(axis=1))


def _persistent(random: np.random.Generator, blocks: int, coefficient: float) -> FloatArray:
    """A stationary series with standard deviation 1 and that autocorrelation, (blocks,)."""
    shocks = random.normal(size=blocks) * math.sqrt(1.0 - coefficient**2)
    shocks[0] /= math.sqrt(1.0 - coefficient**2)
    return _filtered(shocks, coefficient)


def _filtered(shocks: FloatArray, coefficient: float) -> FloatArray:
    from scipy.signal import lfilter

    return np.asarray(lfilter([1.0], [1.0, -coefficient], shocks))


def _kept(differences: FloatArray) -> FloatArray:
    return np.clip(differences, -LOG_LOSS_BOUND, LOG_LOSS_BOUND)
