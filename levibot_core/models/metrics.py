"""Scores of probability forecasts, and whether one forecaster's log loss is truly below another's.

Everything is plain numpy and checked against scikit-learn in the tests. Fitting calibrators is in
`levibot_core.models.calibration_fitting`; what a score must be to be promoted, in `levibot_core.validation.gates`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from levibot_core.errors import DataQualityError

CALIBRATION_BINS = 10
LONG_THRESHOLD = 0.55
SHORT_THRESHOLD = 0.45
# Label overlap makes the loss differences a moving average of that order. Bartlett weights need a bandwidth well above
# the order: at 1 x they see two thirds of its variance, at 3 x eight ninths.
BANDWIDTH_PER_OVERLAP = 3

_PROBABILITY_CLIP = 1e-15

CRITICAL_975 = (1.9600, 2.9694, 0.4160, -0.5324)
"""The 97.5 % quantile for Bartlett weights: a cubic in the bandwidth's share (Kiefer, Vogelsang 2005, table 1)."""
CRITICAL_999 = (3.0902, 8.2758, -1.5191, -0.5611)
"""The same at 99.9 %, which the table does not have: simulated and fitted alike by `benchmarks/critical_values.py`."""


@dataclass(frozen=True, slots=True)
class ReliabilityCurve:
    """What was forecast against what happened, per bin of about equally many rows.

    Attributes:
        predicted: Mean forecast of each bin, rising.
        observed: Share of rises in each bin.
        counts: Rows in each bin.
    """

    predicted: tuple[float, ...]
    observed: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Mean difference per row with its uncertainty; below 0 the first forecaster is better when losses are compared.

    The interval of 95 % has two sides; the mean is below `upper_999` with 99.9 %, one-sided confidence.
    """

    mean: float
    standard_error: float
    lower_95: float
    upper_95: float
    upper_999: float


def classification_metrics(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Every score of the platform for one set of forecasts.

    Args:
        probabilities: Forecast probability of a rise, (n,).
        labels: 1 for a rise, else 0; (n,).

    Returns:
        `rows`, `base_rate` (share of rises), `auc`, `pr_auc` (average precision), `accuracy` and `kappa` (Cohen's) of
        saying rise at 0.5 and above, `log_loss` (nats), `brier`, `ece` (10 bins of equal width), `ece_equal_count`
        (10 bins of equally many rows), `calls_share` (rows forecast at least 0.55 or at most 0.45) and, where there
        are such rows, `hit_rate`, the share of them that went the way forecast. A constant forecast has an AUC of 0.5,
        a PR-AUC of the base rate and a kappa of 0.

    Raises:
        DataQualityError: there are no rows, or only one class, so that most scores mean nothing.
    """
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    base_rate = float(y.mean()) if y.size else 0.0
    if not 0.0 < base_rate < 1.0:
        raise DataQualityError(
            f"Expected rows of both classes to score a model on, was {y.size} rows with {int(y.sum())} rises. "
            "Use a longer history."
        )
    calls = (p >= LONG_THRESHOLD) | (p <= SHORT_THRESHOLD)
    scores = {
        "rows": float(y.size),
        "base_rate": base_rate,
        "auc": _auc(p, y),
        "pr_auc": _average_precision(p, y),
        "accuracy": float(np.mean((p >= 0.5) == (y == 1))),
        "kappa": _kappa(p >= 0.5, y == 1),
        "log_loss": float(log_losses(p, y).mean()),
        "brier": float(np.mean((p - y) ** 2)),
        "ece": expected_calibration_error(p, y),
        "ece_equal_count": _equal_count_calibration_error(p, y),
        "calls_share": float(calls.mean()),
    }
    if calls.any():
        scores["hit_rate"] = float(np.mean((p[calls] > 0.5) == (y[calls] == 1)))
    return scores


def log_losses(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Log loss of each row in nats, (n,); probabilities are kept 1e-15 away from 0 and 1."""
    p = np.clip(np.asarray(probabilities, dtype=np.float64), _PROBABILITY_CLIP, 1.0 - _PROBABILITY_CLIP)
    return np.asarray(-np.log(np.where(np.asarray(labels) == 1, p, 1.0 - p)))


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = CALIBRATION_BINS) -> float:
    """Mean distance of forecast and frequency over bins of equal width on [0, 1], weighted by rows.

    After Naeini, Cooper, Hauskrecht: "Obtaining well calibrated probabilities using Bayesian binning" (2015). A bin
    includes its lower edge; the last one also 1. Forecasts of weak signals crowd into one or two such bins: look at
    `ece_equal_count` beside it.
    """
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    places = equal_width_bins(p, bins)
    gaps = np.bincount(places, weights=p, minlength=bins) - np.bincount(places, weights=y, minlength=bins)
    return float(np.abs(gaps).sum() / p.size)


def reliability_curve(probabilities: np.ndarray, labels: np.ndarray, bins: int = CALIBRATION_BINS) -> ReliabilityCurve:
    """Forecast against frequency in bins of about equally many rows.

    Equal forecasts share a bin, so that there are fewer bins where forecasts repeat; a constant forecast gives one.
    """
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    places = equal_count_bins(p, bins)
    counts = np.bincount(places)
    used = counts > 0
    predicted = np.bincount(places, weights=p, minlength=counts.size)[used] / counts[used]
    observed = np.bincount(places, weights=y, minlength=counts.size)[used] / counts[used]
    return ReliabilityCurve(tuple(predicted.tolist()), tuple(observed.tolist()), tuple(counts[used].tolist()))


def equal_width_bins(probabilities: np.ndarray, bins: int = CALIBRATION_BINS) -> np.ndarray:
    """The bin of each forecast, int64 (n,), of equal width on [0, 1]; a bin includes its lower edge, the last 1."""
    return np.minimum((np.asarray(probabilities) * bins).astype(np.int64), bins - 1)


def equal_count_bins(probabilities: np.ndarray, bins: int = CALIBRATION_BINS) -> np.ndarray:
    """The bin of each forecast, int64 (n,), of about equally many rows; equal forecasts share a bin."""
    p = np.asarray(probabilities, dtype=np.float64)
    edges = np.unique(np.quantile(p, np.arange(1, bins) / bins, method="inverted_cdf"))
    return np.asarray(np.searchsorted(edges, p, side="left"))


def paired_log_loss_difference(
    new: np.ndarray, old: np.ndarray, labels: np.ndarray, label_overlap_bars: int, groups: np.ndarray
) -> PairedDifference:
    """Mean over rows of (log loss of `new` - log loss of `old`) on the same rows; below 0, `new` is better.

    Args:
        new: Probabilities of the first forecaster, (n,).
        old: Probabilities of the second, (n,).
        labels: 1 for a rise, else 0; (n,).
        label_overlap_bars: Bars a label looks ahead; neighbouring labels share that much of the future.
        groups: Time of each row, (n,), any sortable type. Rows of one time (other symbols) are not independent.

    Raises:
        DataQualityError: there are fewer than two times.
    """
    differences = log_losses(new, labels) - log_losses(old, labels)
    return mean_with_interval(differences, groups, BANDWIDTH_PER_OVERLAP * label_overlap_bars)


def mean_with_interval(values: np.ndarray, groups: np.ndarray, lag: int) -> PairedDifference:
    """Mean of values that depend on each other within a time and over up to `lag` neighbouring times.

    Values of one time are summed first (J. C. Driscoll, A. C. Kraay, "Consistent covariance matrix estimation with
    spatially dependent panel data", 1998); the long-run variance of the sums has Bartlett weights (W. K. Newey,
    K. D. West, "A simple, positive semi-definite, heteroskedasticity and autocorrelation consistent covariance
    matrix", 1987). The interval uses the fixed-bandwidth critical value of N. M. Kiefer, T. J. Vogelsang, "A new
    asymptotic theory for heteroskedasticity-autocorrelation robust tests" (2005), which widens it where the lag is
    not small against the number of times.

    Args:
        values: One value per row, (n,).
        groups: Time of each row, (n,), any sortable type; times are taken as evenly spaced.
        lag: Highest autocovariance used; cut to the number of times less one.

    Raises:
        DataQualityError: there are fewer than two times.
    """
    places = np.unique(groups, return_inverse=True)[1]
    sizes = np.bincount(places)
    times = sizes.size
    if times < 2:
        raise DataQualityError(f"Expected rows of at least two times to compare two models on, was {times}.")
    mean = float(values.mean())
    residuals = np.bincount(places, weights=values) - mean * sizes
    lag = min(lag, times - 1)
    weights = 1.0 - np.arange(1, lag + 1) / (lag + 1.0)
    covariances = np.array([residuals[step:] @ residuals[:-step] for step in range(1, lag + 1)])
    variance = float(residuals @ residuals + 2.0 * (weights @ covariances))
    standard_error = float(np.sqrt(max(variance, 0.0)) / values.size)
    bandwidth_share = (lag + 1) / times
    margin = _critical_value(CRITICAL_975, bandwidth_share) * standard_error
    above = _critical_value(CRITICAL_999, bandwidth_share) * standard_error
    return PairedDifference(mean, standard_error, mean - margin, mean + margin, mean + above)


def _critical_value(coefficients: Sequence[float], bandwidth_share: float) -> float:
    b = min(bandwidth_share, 1.0)
    return float(sum(coefficient * b**power for power, coefficient in enumerate(coefficients)))


def _auc(p: np.ndarray, y: np.ndarray) -> float:
    """Area under the ROC curve by the Mann-Whitney statistic; ties count half."""
    _, places, counts = np.unique(p, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2.0)[places]
    rises = y.sum()
    return float((ranks[y == 1].sum() - rises * (rises + 1) / 2.0) / (rises * (y.size - rises)))


def _average_precision(p: np.ndarray, y: np.ndarray) -> float:
    """Sum over thresholds of precision times gain in recall; rows of equal forecast enter together."""
    _, places, counts = np.unique(-p, return_inverse=True, return_counts=True)
    rises = np.bincount(places, weights=y)
    precision = np.cumsum(rises) / np.cumsum(counts)
    return float(precision @ rises / y.sum())


def _kappa(predicted: np.ndarray, actual: np.ndarray) -> float:
    """Cohen's kappa: agreement beyond what the two shares of rises give by chance."""
    agreement = np.mean(predicted == actual)
    chance = predicted.mean() * actual.mean() + (1 - predicted.mean()) * (1 - actual.mean())
    return float((agreement - chance) / (1.0 - chance))


def _equal_count_calibration_error(p: np.ndarray, y: np.ndarray) -> float:
    curve = reliability_curve(p, y)
    gaps = np.abs(np.asarray(curve.predicted) - np.asarray(curve.observed))
    return float(gaps @ np.asarray(curve.counts) / p.size)
