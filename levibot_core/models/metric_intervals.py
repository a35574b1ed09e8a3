"""Scores of probability forecasts with 95 % intervals, from blocks of time drawn again and again.

The scores themselves are defined in `levibot_core.models.metrics`, the draws in `.block_bootstrap`. Whether one
forecaster beats another is a paired question: `BlockBootstrap.mean` of the differences, row by row.
"""

from dataclasses import dataclass

import numpy as np

from levibot_core.models.block_bootstrap import BlockBootstrap, MetricInterval, interval
from levibot_core.models.metrics import (
    CALIBRATION_BINS,
    ReliabilityCurve,
    classification_metrics,
    equal_count_bins,
    equal_width_bins,
    log_losses,
    reliability_curve,
)


@dataclass(frozen=True, slots=True)
class ReliabilityBand:
    """A reliability curve, and per point the 95 % interval of the observed share of rises."""

    curve: ReliabilityCurve
    lower_95: tuple[float, ...]
    upper_95: tuple[float, ...]


def metric_intervals(
    probabilities: np.ndarray, labels: np.ndarray, bootstrap: BlockBootstrap
) -> dict[str, MetricInterval]:
    """AUC, log loss, Brier score and calibration errors of one set of forecasts, each with its interval.

    `auc`, `log_loss` and `brier` have percentile intervals. The calibration errors `ece` (10 bins of equal width),
    `ece_equal_count` (10 bins of equally many rows, which R. Roelofs, N. Cain, J. Shlens, M. Mozer, "Mitigating bias in
    calibration error estimation", 2022, found the less biased) are sums of absolute gaps: noise alone makes them
    positive, and makes resampled ones larger still. Their upper limit is the 97.5 percentile all the same, which errs
    on the safe side. The lower limit is the error less the 97.5 percentile of sum_b |gap of b resampled - gap of b|:
    by the triangle inequality the true error is not below it, and for a calibrated forecast it reaches 0.

    `ece_debiased` is `ece_equal_count` less its bias, the mean of the resampled errors less the error, and not below 0:
    the debiasing of A. Kumar, P. Liang, T. Ma, "Verified uncertainty calibration" (2019), with resampled
    instead of normal gaps, as rows are not independent. Its interval is that of `ece_equal_count`.

    Args:
        probabilities: Forecast probability of a rise, (n,).
        labels: 1 for a rise, else 0; (n,).
        bootstrap: Laid out over the decision times of these rows, in their order.

    Raises:
        DataQualityError: there are no rows, or rows of one class only.
    """
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    scores = classification_metrics(p, y)
    losses = np.column_stack([np.ones(p.size), log_losses(p, y), (p - y) ** 2])
    gaps = [_indicators(places) * (p - y)[:, None] for places in (equal_width_bins(p), equal_count_bins(p))]
    means = bootstrap.sums(np.hstack([losses, *gaps]))
    means /= means[:, :1]
    first_equal_count = losses.shape[1] + gaps[0].shape[1]
    equal_width, _ = _calibration_error(gaps[0], means[:, losses.shape[1] : first_equal_count])
    equal_count, debiased = _calibration_error(gaps[1], means[:, first_equal_count:])
    return {
        "auc": interval(scores["auc"], _resampled_auc(p, y, bootstrap)),
        "log_loss": interval(scores["log_loss"], means[:, 1]),
        "brier": interval(scores["brier"], means[:, 2]),
        "ece": equal_width,
        "ece_equal_count": equal_count,
        "ece_debiased": debiased,
    }


def reliability_band(
    probabilities: np.ndarray, labels: np.ndarray, bootstrap: BlockBootstrap, bins: int = CALIBRATION_BINS
) -> ReliabilityBand:
    """The reliability curve with, per point, the percentile interval of the share of rises in that bin.

    The bins stay those of all rows. A draw without a row of a bin says nothing about it.

    Args:
        probabilities: Forecast probability of a rise, (n,).
        labels: 1 for a rise, else 0; (n,).
        bootstrap: Laid out over the decision times of these rows, in their order.
        bins: Bins of about equally many rows.
    """
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    curve = reliability_curve(p, y, bins)
    members = _indicators(equal_count_bins(p, bins))
    rows, rises = np.hsplit(bootstrap.sums(np.hstack([members, members * y[:, None]])), 2)
    shares = np.divide(rises, rows, out=np.full(rows.shape, np.nan), where=rows > 0)
    lower, upper = np.nanquantile(shares, [0.025, 0.975], axis=0)
    return ReliabilityBand(curve, tuple(lower.tolist()), tuple(upper.tolist()))


def _calibration_error(gaps: np.ndarray, resampled_gaps: np.ndarray) -> tuple[MetricInterval, MetricInterval]:
    """The error with its interval, and the debiased error with the same.

    Args:
        gaps: Forecast less label in the column of the row's bin, else 0; (n, bins).
        resampled_gaps: Their means over each draw, (resamples, bins).
    """
    observed = gaps.mean(axis=0)
    error, resampled = float(np.abs(observed).sum()), np.abs(resampled_gaps).sum(axis=1)
    lower = max(0.0, error - float(np.quantile(np.abs(resampled_gaps - observed).sum(axis=1), 0.975)))
    upper = float(np.quantile(resampled, 0.975))
    debiased = max(0.0, 2.0 * error - float(resampled.mean()))
    return MetricInterval(error, lower, upper), MetricInterval(debiased, lower, upper)


def _indicators(places: np.ndarray) -> np.ndarray:
    """One column per bin that has rows, 1 for its rows: float64 (n, bins)."""
    return np.asarray(np.unique(places)[None, :] == places[:, None], dtype=np.float64)


def _resampled_auc(p: np.ndarray, y: np.ndarray, bootstrap: BlockBootstrap) -> np.ndarray:
    """The Mann-Whitney statistic of every draw, (resamples,); ties count half, a draw of one class only is 0.5."""
    order = np.argsort(p, kind="stable")
    rises, falls = order[y[order] == 1], order[y[order] != 1]
    below = np.searchsorted(p[falls], p[rises], side="left")
    not_above = np.searchsorted(p[falls], p[rises], side="right")
    found = []
    for weights in bootstrap.time_weights():
        up = weights[:, bootstrap.places[rises]]
        down = np.zeros((len(weights), falls.size + 1))
        np.cumsum(weights[:, bootstrap.places[falls]], axis=1, out=down[:, 1:])
        wins = np.einsum("ij,ij->i", up, down[:, below]) + np.einsum("ij,ij->i", up, down[:, not_above])
        pairs = up.sum(axis=1) * down[:, -1]
        found.append(np.divide(wins / 2.0, pairs, out=np.full(pairs.size, 0.5), where=pairs > 0))
    return np.concatenate(found)
