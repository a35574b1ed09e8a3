"""The interval of the return: split conformal prediction, kept honest over time by adaptive conformal inference.

The score of a row is |ln(1 + return)| / volatility, with the volatility that was forecast for it. The interval of a new
row reaches as far as all but the share `1 - level` of earlier scores did: J. Lei, M. G'Sell, A. Rinaldo, R. Tibshirani,
L. Wasserman, "Distribution-free predictive inference for regression" (2018), section 5.2. Markets change, so that share
is moved after every outcome, up after a hit and down after a miss: I. Gibbs, E. Candès, "Adaptive conformal inference
under distribution shift" (2021), equation 2. In log returns, a price band is symmetric and never below 0.

Serving needs `ReturnInterval` alone. Where the volatility comes from is in `levibot_core.models.volatility`, how well
an interval did in `.conformal_coverage`.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from levibot_core.errors import BundleError, DataQualityError

INTERVAL: Final = "interval.json"
FORMAT: Final = "levibot-interval/1"
LEVEL: Final = 0.9
GAMMA: Final = 0.005
"""Step by which one time's misses move the share; 0.005 is what Gibbs and Candès take for returns."""


@dataclass(frozen=True, slots=True)
class ReturnInterval:
    """An interval of the return in multiples of the volatility forecast, as `interval.json` keeps it.

    Attributes:
        level: Share of returns it is to hold, between 0 and 1.
        quantile: How many volatilities it reaches to either side, above 0.
        gamma: Step of the adaptation that led to the quantile.
    """

    level: float
    quantile: float
    gamma: float

    def __post_init__(self) -> None:
        if not (0.0 < self.level < 1.0 and math.isfinite(self.quantile) and self.quantile > 0.0 <= self.gamma < 1.0):
            raise BundleError(
                f"Expected a level between 0 and 1, a finite quantile above 0 and a step from 0 to 1, "
                f"was {self.level}, {self.quantile} and {self.gamma}. Fit the interval again."
            )

    def apply(self, volatility: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper limit of the return over the horizon.

        Args:
            volatility: Volatility forecast over the horizon, a fraction, (n,).

        Returns:
            Two float64 (n,), fractions not below -1: exp(-quantile * volatility) - 1 and exp(quantile * volatility) -
            1, which is infinite where it is beyond all numbers.
        """
        reach = self.quantile * np.asarray(volatility, dtype=np.float64)
        with np.errstate(over="ignore"):
            return np.asarray(np.expm1(-reach)), np.asarray(np.expm1(reach))


def interval_text(interval: ReturnInterval) -> str:
    """The content of `interval.json`; `read_interval` gives back the same interval, bit for bit."""
    content = {
        "format": FORMAT,
        "level": interval.level,
        "quantile": interval.quantile,
        "gamma": interval.gamma,
    }
    return json.dumps(content, indent=2) + "\n"


def read_interval(text: str) -> ReturnInterval:
    """Read what `interval_text` wrote.

    Raises:
        BundleError: the text is not JSON, or holds values that cannot be.
    """
    try:
        match json.loads(text):
            case {
                "format": "levibot-interval/1",
                "level": float(level),
                "quantile": float(quantile),
                "gamma": float(gamma),
            }:
                return ReturnInterval(level, quantile, gamma)
    except ValueError as error:
        raise BundleError(f"Expected {INTERVAL} to be JSON, but {error}. Fit the interval again.") from error
    raise BundleError(
        f"Expected {INTERVAL} of the format {FORMAT!r} with level, quantile and gamma, was {text[:80]!r}. "
        "Fit the interval again."
    )


def conformity_scores(forward_return: np.ndarray, volatility: np.ndarray) -> np.ndarray:
    """|ln(1 + return)| / volatility of each row, float64 (n,).

    Args:
        forward_return: Return over the horizon, a fraction above -1, (n,).
        volatility: Volatility that was forecast for it, a fraction, (n,).

    Raises:
        DataQualityError: a volatility is not a number above 0, or a return not one above -1.
    """
    sound = np.isfinite(volatility) & (volatility > 0.0) & np.isfinite(forward_return) & (forward_return > -1.0)
    if not sound.all():
        raise DataQualityError("Expected returns above -1 and volatilities above 0, was something else in some row.")
    return np.asarray(np.abs(np.log1p(forward_return)) / volatility)


@dataclass(frozen=True, slots=True)
class OnlineIntervals:
    """What was answered row by row, before the outcome was known.

    Attributes:
        quantiles: Quantile that each row was given, (n,): infinite while too few labels were known, and after so many
            misses that nothing finite would do; minus infinity, an empty interval, after as many hits.
        covered: Whether the return lay within, bool (n,).
        judged: Whether enough labels were known for the answer to count, bool (n,).
    """

    quantiles: np.ndarray
    covered: np.ndarray
    judged: np.ndarray


class AdaptiveConformal:
    """Runs over rows in time. A label counts from the decision time on that is not before its end.

    Several runs follow one another; each goes on with what the last one left.
    """

    def __init__(self, level: float = LEVEL, gamma: float = GAMMA) -> None:
        self._level, self._gamma = level, gamma
        self._miss_share = 1.0 - level
        self._shares: list[float] = []
        self._known = np.empty(0)
        self._waiting = _Rows(np.empty(0), np.empty(0), np.empty(0, dtype=np.int64), np.empty(0, dtype=bool))
        ReturnInterval(level, 1.0, gamma)  # Refuses what cannot be.

    def run(self, scores: np.ndarray, known_at_ms: np.ndarray, label_end_ms: np.ndarray) -> OnlineIntervals:
        """Answer every row with what was known at its decision time.

        Args:
            scores: Scores of the rows, (n,), in any order.
            known_at_ms: Decision times, UTC milliseconds, (n,), none before those of earlier runs.
            label_end_ms: When each label became known, UTC milliseconds, (n,), later than `known_at_ms`.
        """
        quantiles, judged = np.empty(scores.size), np.empty(scores.size, dtype=bool)
        for now_ms, rows in _by_time(known_at_ms):
            self._learn(now_ms)
            self._shares.append(self._miss_share)
            quantiles[rows] = self.quantile
            judged[rows] = self._is_warm
            self._waiting = self._waiting.joined(_Rows(scores[rows], quantiles[rows], label_end_ms[rows], judged[rows]))
        return OnlineIntervals(quantiles, scores <= quantiles, judged)

    def settle(self) -> None:
        """Learn from every label that is still waited for, as time goes on without new rows."""
        for now_ms in np.unique(self._waiting.label_end_ms).tolist():
            self._learn(now_ms)

    @property
    def quantile(self) -> float:
        """The quantile that a row decided now would be given."""
        return self._quantile(self._miss_share) if self._is_warm else math.inf

    def interval(self) -> ReturnInterval:
        """The interval to serve from now on, without further outcomes to adapt to.

        The share wanders around the one that is right, which evens out over time, but not for a quantile that stays:
        it is taken at the mean share of all decision times, and between the lowest and the highest score known.

        Raises:
            DataQualityError: fewer labels are known than the level needs.
        """
        if not self._is_warm:
            raise DataQualityError(
                f"Expected at least {self._fewest} known labels for an interval of {self._level:.0%}, "
                f"was {self._known.size}. Calibrate on a longer history."
            )
        quantile = float(np.clip(self._quantile(float(np.mean(self._shares))), self._known[0], self._known[-1]))
        return ReturnInterval(self._level, quantile, self._gamma)

    def _quantile(self, miss_share: float) -> float:
        """The lowest score that all but that share of the known ones, and of one more, do not exceed."""
        rank = math.ceil(round((self._known.size + 1) * (1.0 - miss_share), 9))
        if rank > self._known.size:
            return math.inf
        return float(self._known[rank - 1]) if rank > 0 else -math.inf

    @property
    def _fewest(self) -> int:
        return math.ceil(round(self._level / (1.0 - self._level), 9))

    @property
    def _is_warm(self) -> bool:
        return self._known.size >= self._fewest

    def _learn(self, now_ms: int) -> None:
        """Take in the labels that ended by now, in order of their ends; rows of one end move the share together."""
        ended, self._waiting = self._waiting.split(now_ms)
        for _, rows in _by_time(ended.label_end_ms):
            if (judged := rows[ended.judged[rows]]).size:
                misses = float(np.mean(ended.scores[judged] > ended.quantiles[judged]))
                self._miss_share += self._gamma * (1.0 - self._level - misses)
        arrived = np.sort(ended.scores)
        self._known = np.insert(self._known, np.searchsorted(self._known, arrived), arrived)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows that were answered and whose label is not known yet, each array (n,)."""

    scores: np.ndarray
    quantiles: np.ndarray
    label_end_ms: np.ndarray
    judged: np.ndarray

    def where(self, chosen: np.ndarray) -> "_Rows":
        return _Rows(self.scores[chosen], self.quantiles[chosen], self.label_end_ms[chosen], self.judged[chosen])

    def split(self, now_ms: int) -> tuple["_Rows", "_Rows"]:
        ended = self.label_end_ms <= now_ms
        return self.where(ended), self.where(~ended)

    def joined(self, later: "_Rows") -> "_Rows":
        return _Rows(
            np.append(self.scores, later.scores),
            np.append(self.quantiles, later.quantiles),
            np.append(self.label_end_ms, later.label_end_ms),
            np.append(self.judged, later.judged),
        )


def _by_time(times_ms: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each time in order, and the rows of it."""
    order = np.argsort(times_ms, kind="stable")
    times, firsts = np.unique(times_ms[order], return_index=True)
    return zip(times.tolist(), np.split(order, firsts[1:]), strict=True) if times.size else iter(())
