"""What a Sharpe ratio is worth, given how long it was earned, how its returns are shaped, and how often one tried.

All ratios are per period, not annualised: `annual / sqrt(periods per year)`. The formulas are those of D. H. Bailey,
M. Lopez de Prado, "The Sharpe ratio efficient frontier" (2012) and "The deflated Sharpe ratio" (2014). What figures are
demanded is decided in `levibot_core.validation.gates`; whether choosing the best trial works at all is estimated in
`levibot_core.validation.backtest_overfitting`.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from levibot_core.errors import DataQualityError

FloatArray = npt.NDArray[np.float64]

SAME_TRIAL_CORRELATION = 0.99
_FEWEST_COMMON_PERIODS = 20
# Rounding leaves a deviation of 1e-19 where nothing varied.
_FLAT = 1e-15
_EULER_MASCHERONI = 0.5772156649015329
_NORMAL = NormalDist()
_CHUNK = 256


@dataclass(frozen=True, slots=True)
class ReturnShape:
    """What the formulas need to know of a series of returns.

    Attributes:
        sharpe: Mean over standard deviation, per period.
        periods: Number of returns.
        skewness: Third standardised moment; 0 for the normal distribution.
        kurtosis: Fourth standardised moment; 3 for the normal distribution.
    """

    sharpe: float
    periods: int
    skewness: float = 0.0
    kurtosis: float = 3.0

    @classmethod
    def of(cls, returns: FloatArray) -> "ReturnShape | None":
        """The shape of returns per period, (periods,); NaN is no return. None if flat: nothing varied, or none."""
        values = np.asarray(returns, dtype=np.float64)
        values = values[~np.isnan(values)]
        if values.size < 2 or float(values.std()) < _FLAT:
            return None
        standard = (values - values.mean()) / values.std()
        return cls(
            float(values.mean() / values.std(ddof=1)),
            values.size,
            float(np.mean(standard**3)),
            float(np.mean(standard**4)),
        )

    @property
    def ratio_variance(self) -> float:
        """Variance of the estimated ratio times (periods - 1); E. Mertens (2002), eq. 8 of Bailey (2012).

        Positive for the moments of any data, since kurtosis is at least 1 + skewness^2; 0 only in its limit.
        """
        return 1.0 - self.skewness * self.sharpe + (self.kurtosis - 1.0) / 4.0 * self.sharpe**2


@dataclass(frozen=True, slots=True)
class DeflatedSharpe:
    """A ratio beside what is left of it. Ratios are per period.

    Attributes:
        observed: The chosen trial.
        probabilistic: Probability that the true ratio is above 0, if nothing else had been tried.
        deflated: Probability that it is above what the best of as many worthless trials would have shown.
        expected_maximum: That ratio.
        trials: Trials with a return, flat ones included.
        effective_trials: How many of them are different.
        trial_variance: Variance of the different trials' ratios, brought to the number of periods of the chosen one.
        minimum_periods: Periods needed for a `probabilistic` of 0.95; infinite for a ratio of 0 or below.
    """

    observed: ReturnShape
    probabilistic: float
    deflated: float
    expected_maximum: float
    trials: int
    effective_trials: int
    trial_variance: float
    minimum_periods: float


def deflate(chosen: FloatArray, trials: FloatArray) -> DeflatedSharpe | None:
    """Deflate the Sharpe ratio of a chosen policy by everything that was ever tried.

    Args:
        chosen: Returns of the chosen policy per period, (periods,).
        trials: Returns of every trial, the chosen one among them, (trials, any number of periods); NaN where a trial
            has none. The periods need not be those of `chosen`, but must be as long, a day say.

    Returns:
        None if the chosen policy is flat: there is nothing to deflate.

    Raises:
        DataQualityError: there is no trial, or a return is infinite.
    """
    observed = ReturnShape.of(chosen)
    matrix = _checked(trials)
    if observed is None:
        return None
    different = different_trials(matrix)
    shapes = [shape for shape in map(ReturnShape.of, matrix[different]) if shape is not None]
    # Ratios without skill spread as 1 / sqrt(periods - 1): those of longer trials would make the best look rarer.
    ratios = [shape.sharpe * math.sqrt((shape.periods - 1) / (observed.periods - 1)) for shape in shapes]
    variance = float(np.var(ratios, ddof=1)) if len(ratios) > 1 else 0.0
    expected = expected_maximum_sharpe(variance, different.size)
    return DeflatedSharpe(
        observed=observed,
        probabilistic=probabilistic_sharpe(observed),
        deflated=probabilistic_sharpe(observed, expected),
        expected_maximum=expected,
        trials=int((~np.isnan(matrix)).any(axis=1).sum()),
        effective_trials=different.size,
        trial_variance=variance,
        minimum_periods=minimum_track_record_length(observed),
    )


def probabilistic_sharpe(observed: ReturnShape, benchmark: float = 0.0) -> float:
    """Probability that the true ratio is above the benchmark (per period); Bailey (2012), eq. 9."""
    deviation = math.sqrt(max(observed.ratio_variance, _FLAT))
    return _NORMAL.cdf((observed.sharpe - benchmark) * math.sqrt(observed.periods - 1) / deviation)


def expected_maximum_sharpe(trial_variance: float, trials: float) -> float:
    """The best ratio to expect of so many independent trials without any skill; Bailey (2014), eq. 1.

    Args:
        trial_variance: Variance of the trials' ratios, per period.
        trials: Number of independent trials; need not be whole.

    Returns:
        Per period. 0 for a single trial: nothing was chosen.
    """
    if trials <= 1.0:
        return 0.0
    upper = _NORMAL.inv_cdf(1.0 - 1.0 / trials), _NORMAL.inv_cdf(1.0 - 1.0 / (trials * math.e))
    best = (1.0 - _EULER_MASCHERONI) * upper[0] + _EULER_MASCHERONI * upper[1]
    return math.sqrt(trial_variance) * max(best, 0.0)


def minimum_track_record_length(observed: ReturnShape, benchmark: float = 0.0, confidence: float = 0.95) -> float:
    """Periods needed until the ratio is above the benchmark with that confidence; Bailey (2012), eq. 11.

    Args:
        observed: The ratio and the shape of the returns; their number does not matter.
        benchmark: Ratio to be above, per period.
        confidence: Between 0.5 and 1.

    Returns:
        Infinite where the ratio is not above the benchmark.
    """
    if observed.sharpe <= benchmark:
        return math.inf
    return 1.0 + observed.ratio_variance * (_NORMAL.inv_cdf(confidence) / (observed.sharpe - benchmark)) ** 2


def effective_trials(trials: FloatArray, same_above: float = SAME_TRIAL_CORRELATION) -> int:
    """How many of the trials are different; see `different_trials`."""
    return different_trials(trials, same_above).size


def different_trials(trials: FloatArray, same_above: float = SAME_TRIAL_CORRELATION) -> npt.NDArray[np.int64]:
    """One trial for each policy that was truly tried.

    In order, a trial counts unless its returns correlate above `same_above` with those of one that counts already: a
    re-run, a resumed study, a neighbouring set of parameters that trades the same. All flat trials are one. A trial
    without any return was given up before it traded; it could not have been chosen and does not count.

    The count is deterministic, never falls when trials are added at the end, and errs on the high side: the effective
    number of eigenvalues (participation ratio, entropy) says 1 where a thousand near copies hide ten others, and
    taking off for the mean correlation does so twice, since the variance of correlated trials' ratios is small
    already. Where all trials share a correlation r, choosing the best of N gains sqrt(1 - r) times that of N
    independent ones: exactly what N and that smaller variance give.

    Args:
        trials: Returns per period, (trials, periods); NaN where a trial has none.
        same_above: Correlation over common periods above which two trials are one. With fewer than 20 common periods
            they are always two.

    Returns:
        Places of the trials that count, int64, rising.

    Raises:
        DataQualityError: there is no trial, or a return is infinite.
    """
    matrix = _checked(trials)
    traded = ~np.isnan(matrix)
    counts = traded.sum(axis=1)
    sums = np.where(traded, matrix, 0.0)
    centred = np.where(traded, matrix - (sums.sum(axis=1) / np.maximum(counts, 1))[:, np.newaxis], 0.0)
    spread = np.sqrt((centred**2).sum(axis=1) / np.maximum(counts, 1))
    flat = np.flatnonzero((counts > 0) & (spread < _FLAT))
    varied = np.flatnonzero(spread >= _FLAT)
    scaled = np.zeros_like(centred)
    scaled[varied] = centred[varied] / spread[varied, np.newaxis]
    kept: list[int] = []
    for start in range(0, varied.size, _CHUNK):
        chunk = varied[start : start + _CHUNK]
        earlier = np.array(kept, dtype=np.int64)
        new = chunk[~(_correlations(scaled, traded, chunk, earlier) > same_above).any(axis=1)]
        alike = _correlations(scaled, traded, new, new) > same_above
        chosen: list[int] = []
        for place in range(new.size):
            if not alike[place, chosen].any():
                chosen.append(place)
        kept += new[chosen].tolist()
    return np.sort(np.concatenate([np.array(kept, dtype=np.int64), flat[:1]]))


def _correlations(
    scaled: FloatArray, traded: npt.NDArray[np.bool_], some: npt.NDArray[np.int64], others: npt.NDArray[np.int64]
) -> FloatArray:
    """Correlations over the periods that both have, (some, others); 0 where there are too few or one does not vary."""
    one, other = scaled[some], scaled[others]
    has_one, has_other = traded[some].astype(np.float64), traded[others].astype(np.float64)
    common = has_one @ has_other.T
    periods = np.maximum(common, 1.0)
    means = (one @ has_other.T) / periods, (has_one @ other.T) / periods
    squares = ((one**2) @ has_other.T) / periods - means[0] ** 2, (has_one @ (other**2).T) / periods - means[1] ** 2
    product = np.sqrt(np.clip(squares[0], 0.0, None) * np.clip(squares[1], 0.0, None))
    comparable = (common >= _FEWEST_COMMON_PERIODS) & (product > 1e-12)
    covariances = (one @ other.T) / periods - means[0] * means[1]
    return np.divide(covariances, product, out=np.zeros_like(product), where=comparable)


def _checked(trials: FloatArray) -> FloatArray:
    matrix = np.asarray(trials, dtype=np.float64)
    if matrix.ndim != 2 or np.isnan(matrix).all() or np.isinf(matrix).any():
        raise DataQualityError(
            f"Expected returns (trials, periods), finite or NaN, of at least one trial, was {matrix.shape} with "
            f"{int(np.isfinite(matrix).sum())} returns and {int(np.isinf(matrix).sum())} infinite ones. "
            "Give every trial of the ledger one row."
        )
    return matrix
