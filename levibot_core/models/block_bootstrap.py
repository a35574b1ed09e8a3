"""Resampling rows that depend on each other in time and within a time: the circular block bootstrap.

After H. R. Künsch, "The jackknife and the bootstrap for general stationary observations" (1989), with blocks that run
on from the last time to the first, so that every time is drawn equally often (D. N. Politis, J. P. Romano, "A circular
block-resampling procedure for stationary data", 1992). What is computed on the resamples is the caller's business.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from levibot_core.errors import DataQualityError
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY

RESAMPLES = 1000
FEWEST_BLOCKS = 5
"""Blocks are cut short where rows span fewer than so many; the interval is then too narrow, but there is one."""

_DRAWS_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class MetricInterval:
    """A figure with its 95 % interval."""

    value: float
    lower_95: float
    upper_95: float


class BlockBootstrap:
    """Draws of times with replacement, in blocks; all rows of a time (other symbols) stay together.

    A draw is told as how often each row is in it, so that any figure that knows weights can be computed on it.
    """

    def __init__(self, times_ms: np.ndarray, horizon_ms: int, seed: int, resamples: int = RESAMPLES) -> None:
        """Lay out the blocks: as long as a label looks ahead, and at least a day, which holds the daily pattern.

        Args:
            times_ms: Decision time of each row, UTC milliseconds, (n,), in any order.
            horizon_ms: How far a label looks ahead.
            seed: The same seed and times give the same draws.
            resamples: How many draws.

        Raises:
            DataQualityError: there are fewer than two times.
        """
        times, self.places = np.unique(times_ms, return_inverse=True)
        if times.size < 2:
            raise DataQualityError(f"Expected rows of at least two times to resample, was {times.size}.")
        step = float(np.median(np.diff(times)))
        wanted = round(max(horizon_ms, MILLISECONDS_PER_DAY) / step)
        self.times = times.size
        self.block = max(1, min(wanted, times.size // FEWEST_BLOCKS))
        self._resamples = resamples
        self._seed = seed

    def time_weights(self) -> Iterator[np.ndarray]:
        """How often each time is drawn: float64 (k, times) for k draws at once, until all draws are told."""
        generator = np.random.default_rng(self._seed)
        blocks = -(-self.times // self.block)
        lengths = np.full(blocks, self.block)
        lengths[-1] = self.times - self.block * (blocks - 1)
        for first in range(0, self._resamples, _DRAWS_AT_ONCE):
            count = min(_DRAWS_AT_ONCE, self._resamples - first)
            starts = generator.integers(0, self.times, (count, blocks))
            # +1 where a block begins and -1 behind its end, on a line that is long enough for the wrapped end.
            changes = np.zeros((count, 2 * self.times + 1))
            draws = np.arange(count)[:, None]
            np.add.at(changes, (draws, starts), 1.0)
            np.add.at(changes, (draws, starts + lengths), -1.0)
            covered = np.cumsum(changes, axis=1)
            yield covered[:, : self.times] + covered[:, self.times : 2 * self.times]

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sums over each draw: float64 (n, m) values per row in, float64 (resamples, m) out."""
        per_time = np.stack(
            [np.bincount(self.places, weights=column, minlength=self.times) for column in values.T], axis=1
        )
        return np.concatenate([weights @ per_time for weights in self.time_weights()])

    def mean(self, values: np.ndarray) -> MetricInterval:
        """The mean of one value per row, (n,), with its percentile interval. For differences too: paired by row."""
        sums = self.sums(np.column_stack([values, np.ones(values.size)]))
        return interval(float(values.mean()), sums[:, 0] / sums[:, 1])


def interval(value: float, resampled: np.ndarray) -> MetricInterval:
    """A figure with the 2.5 and 97.5 percentiles of its resampled values, (resamples,)."""
    lower, upper = np.quantile(resampled, [0.025, 0.975])
    return MetricInterval(value, float(lower), float(upper))
