"""Fitting calibrators and choosing one, on the rows of the calibration part alone.

What a calibrator is, and how it is applied, is in `levibot_core.models.calibration`. Venn-Abers calibration is fitted
in `.venn_abers`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.optimize import minimize
from sklearn.isotonic import isotonic_regression

from levibot_core.errors import DataQualityError
from levibot_core.models.calibration import (
    CalibrationMethod,
    Calibrator,
    IdentityCalibrator,
    IsotonicCalibrator,
    PlattCalibrator,
    logit,
    sigmoid,
)
from levibot_core.models.metrics import BANDWIDTH_PER_OVERLAP, log_losses, mean_with_interval
from levibot_core.models.venn_abers import fit_venn_abers

CROSS_FITTING_BLOCKS = 5

_LEVEL_DEVIATION = 0.05
_SLOPE_EXPECTED, _SLOPE_DEVIATION = 0.5, 0.25
_PRIOR_FREEDOM = 3.0
_PSEUDO_ROWS = 2.0


@dataclass(frozen=True, slots=True)
class CalibrationChoice:
    """The calibrator that was chosen, and the cross-fitted log loss of every method and of the raw scores (`none`)."""

    calibrator: Calibrator
    validation_loss: Mapping[CalibrationMethod, float]


def fit_calibrator_of(rows: pl.DataFrame, scores: np.ndarray, labels: np.ndarray) -> CalibrationChoice:
    """`fit_calibrator` for rows of a table.

    Args:
        rows: The calibration rows, with known_at and label_end (UTC).
        scores: Their raw scores, (n,).
        labels: Their labels, (n,).

    Raises:
        DataQualityError: as `fit_calibrator`.
    """
    known_at_ms, label_end_ms = (rows[name].dt.epoch("ms").to_numpy() for name in ("known_at", "label_end"))
    return fit_calibrator(scores, labels, known_at_ms, label_end_ms)


def fit_calibrator(
    scores: np.ndarray, labels: np.ndarray, known_at_ms: np.ndarray, label_end_ms: np.ndarray
) -> CalibrationChoice:
    """Choose between Platt, isotonic and Venn-Abers calibration by cross-fitting, and fit the chosen one on all rows.

    The decision times are cut into five blocks that follow one another. Each block is scored by calibrators fitted on
    the others, without the rows whose label overlaps one of the block. Platt, which has the fewest freedoms, is taken
    unless another one's log loss is lower by more than one standard error of the difference (the rule of L. Breiman,
    J. Friedman, R. Olshen, C. Stone, "Classification and regression trees", 1984, section 3.4.3).

    Args:
        scores: Raw scores of the calibration rows, (n,), in any order.
        labels: Their labels, 1 for a rise, else 0; (n,). Both classes.
        known_at_ms: Decision times, UTC milliseconds, (n,).
        label_end_ms: When each label became known, UTC milliseconds, (n,).

    Raises:
        DataQualityError: the rows span too little time for a block to be scored by rows that do not overlap it.
    """
    overlap = _label_overlap(known_at_ms, label_end_ms)
    evidence = evidence_of(known_at_ms, label_end_ms)
    losses: dict[CalibrationMethod, list[np.ndarray]] = {"none": [], "platt": [], "isotonic": [], "venn_abers": []}
    times: list[np.ndarray] = []
    for fit_on, block in purged_blocks(known_at_ms, label_end_ms):
        times.append(known_at_ms[block])
        for calibrator in (
            IdentityCalibrator(),
            *_fit_all(scores[fit_on], labels[fit_on], evidence[fit_on]),
        ):
            losses[calibrator.method].append(log_losses(calibrator.apply(scores[block]), labels[block]))
    if not times:
        raise DataQualityError(
            f"Expected calibration rows over several times the reach of a label, was {np.unique(known_at_ms).size} "
            f"decision times with labels of {overlap} bars. Train on a longer history or with a shorter horizon."
        )
    joined = {method: np.concatenate(parts) for method, parts in losses.items()}
    means: dict[CalibrationMethod, float] = {method: float(loss.mean()) for method, loss in joined.items()}

    def is_better(method: CalibrationMethod) -> bool:
        found = mean_with_interval(
            joined[method] - joined["platt"], np.concatenate(times), BANDWIDTH_PER_OVERLAP * overlap
        )
        return found.mean + found.standard_error < 0.0

    best = min((method for method in means if method not in ("none", "platt")), key=lambda method: means[method])
    chosen = best if is_better(best) else "platt"
    fitted = {calibrator.method: calibrator for calibrator in _fit_all(scores, labels, evidence)}
    return CalibrationChoice(fitted[chosen], means)


def purged_blocks(
    known_at_ms: np.ndarray, label_end_ms: np.ndarray, blocks: int = CROSS_FITTING_BLOCKS
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Cut the decision times into blocks that follow one another; per block, the rows to fit on and those of the block.

    A row is fitted on if its label ended before the block begins, or if it was decided after the last label of the
    block ended. Blocks that leave nothing to fit on are left out.

    Args:
        known_at_ms: Decision times, UTC milliseconds, (n,).
        label_end_ms: When each label became known, UTC milliseconds, (n,).
        blocks: Into how many, at most.

    Yields:
        Two int64 arrays of row numbers.
    """
    for block in np.array_split(np.unique(known_at_ms), blocks):
        if not block.size:
            continue
        within = (known_at_ms >= block[0]) & (known_at_ms <= block[-1])
        apart = (label_end_ms <= block[0]) | (known_at_ms >= label_end_ms[within].max())
        if apart.any():
            yield np.flatnonzero(apart), np.flatnonzero(within)


def _fit_all(scores: np.ndarray, labels: np.ndarray, evidence: np.ndarray) -> tuple[Calibrator, ...]:
    return (
        fit_cautious_platt(scores, labels, evidence),
        fit_isotonic(scores, labels),
        fit_venn_abers(scores, labels),
    )


def _label_overlap(known_at_ms: np.ndarray, label_end_ms: np.ndarray) -> int:
    """How many decision times a label reaches over, at least 1."""
    times = np.unique(known_at_ms)
    step = float(np.median(np.diff(times))) if times.size > 1 else 1.0
    return max(1, round(float(np.median(label_end_ms - known_at_ms)) / step))


def fit_platt(scores: np.ndarray, labels: np.ndarray) -> PlattCalibrator:
    """Logistic regression of the labels on the logit of the scores, with the slope held at 0 or above.

    A model that ranks rows the wrong way round, or not at all, so becomes the constant base rate: it never gains
    from being inverted. Targets are smoothed as in H.-T. Lin, C.-J. Lin, R. C. Weng, "A note on Platt's probabilistic
    outputs for support vector machines" (2007), which keeps the fit finite where the scores separate the classes.
    """
    logits = logit(scores)
    center, spread = float(logits.mean()), float(logits.std())
    rises = float(labels.sum())
    targets = np.where(labels == 1, (rises + 1.0) / (rises + 2.0), 1.0 / (labels.size - rises + 2.0))
    base_rate = float(targets.mean())
    constant = float(np.log(base_rate / (1.0 - base_rate)))
    if spread < 1e-12:
        return PlattCalibrator(0.0, constant)
    standardized = (logits - center) / spread

    def loss_and_gradient(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        fitted = parameters[0] * standardized + parameters[1]
        loss = np.mean(np.logaddexp(0.0, fitted) - targets * fitted)
        residuals = sigmoid(fitted) - targets
        return float(loss), np.array([np.mean(residuals * standardized), np.mean(residuals)])

    found = minimize(
        loss_and_gradient,
        np.array([0.0, constant]),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0.0, None), (None, None)],
        options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 500},
    )
    slope = float(found.x[0]) / spread
    return PlattCalibrator(slope, float(found.x[1]) - slope * center)


def fit_cautious_platt(scores: np.ndarray, labels: np.ndarray, evidence: np.ndarray) -> PlattCalibrator:
    """Platt's curve as it is most likely after the rows, for someone who expects little of forecasts of a market.

    A few weeks have a trend that does not last and overlapping labels repeat themselves: fitted plainly, the share of
    rises would be served as a base rate, and noise as a slope. So the curve has a prior: a score of a half stays a half
    (log-odds 0, give or take 0.05, which is 1.25 percentage points), and the slope is a half, give or take a quarter:
    boosted trees overstate weak signals about twofold. Both follow Student's t with
    three degrees of freedom, so that evidence for something else overrules them (A. Gelman, A. Jakulin, M. Pittau,
    Y. Su, "A weakly informative default prior distribution for logistic and other regression models", 2008). The slope
    is never negative.

    Args:
        scores: Raw scores, (n,).
        labels: 1 for a rise, else 0; (n,).
        evidence: How much of an observation of its own each row is, from 0 to 1; (n,). See `evidence_of`.
    """
    logits = logit(scores)

    def curve(parameters: np.ndarray) -> tuple[float, float]:
        return _LEVEL_DEVIATION * parameters[0], _SLOPE_EXPECTED + _SLOPE_DEVIATION * parameters[1]

    def loss_and_gradient(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        level, slope = curve(parameters)
        fitted = level + slope * logits
        residuals = evidence * (sigmoid(fitted) - labels)
        squares = np.square(parameters)
        tails = 0.5 * (_PRIOR_FREEDOM + 1.0) * np.log1p(squares / _PRIOR_FREEDOM)
        loss = np.sum(evidence * (np.logaddexp(0.0, fitted) - labels * fitted)) + tails.sum()
        by_level, by_slope = _LEVEL_DEVIATION * residuals.sum(), _SLOPE_DEVIATION * np.sum(residuals * logits)
        towards_prior = (_PRIOR_FREEDOM + 1.0) * parameters / (_PRIOR_FREEDOM + squares)
        return float(loss), np.array([by_level, by_slope]) + towards_prior

    found = minimize(
        loss_and_gradient,
        np.zeros(2),
        jac=True,
        method="L-BFGS-B",
        bounds=[(None, None), (-_SLOPE_EXPECTED / _SLOPE_DEVIATION, None)],
        options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 500},
    )
    level, slope = curve(found.x)
    return PlattCalibrator(max(0.0, float(slope)), float(level))


def evidence_of(known_at_ms: np.ndarray, label_end_ms: np.ndarray) -> np.ndarray:
    """How much of an observation of its own each row is, float64 (n,).

    Labels that overlap share one, and so do all rows of one time: markets move together.

    Args:
        known_at_ms: Decision times, UTC milliseconds, (n,).
        label_end_ms: When each label became known, UTC milliseconds, (n,).
    """
    _, places, counts = np.unique(known_at_ms, return_inverse=True, return_counts=True)
    shares: np.ndarray = 1.0 / (counts[places] * _label_overlap(known_at_ms, label_end_ms))
    return shares


def fit_isotonic(scores: np.ndarray, labels: np.ndarray) -> IsotonicCalibrator:
    """The best non-decreasing curve by squared error (pool adjacent violators), drawn in from 0 and 1.

    Each pooled block is estimated as if it held two more rows of the base rate, (rises + 2 * rate) / (rows + 2) with
    Laplace's base rate (rises + 1) / (rows + 2), then pooled again where that broke the order. So a short block of
    one class gives no certainty, every probability is strictly between 0 and 1, and any log loss is finite.
    """
    values, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    rises = np.bincount(places, weights=labels)
    pooled = isotonic_regression(rises / counts, sample_weight=counts)
    starts = _block_starts(pooled)
    block_rows, block_rises = np.add.reduceat(counts, starts), np.add.reduceat(rises, starts)
    base_rate = (rises.sum() + 1.0) / (counts.sum() + 2.0)
    weights = block_rows + _PSEUDO_ROWS
    shrunk = (block_rises + _PSEUDO_ROWS * base_rate) / weights
    ordered = isotonic_regression(shrunk, sample_weight=weights)

    per_value = np.repeat(ordered, np.diff([*starts, values.size]))
    first = _block_starts(per_value)
    last = np.append(first[1:], values.size) - 1
    corners = np.unique(np.concatenate([first, last]))
    return IsotonicCalibrator(tuple(values[corners].tolist()), tuple(per_value[corners].tolist()))


def _block_starts(values: np.ndarray) -> np.ndarray:
    """Places where a run of equal values begins."""
    return np.flatnonzero(np.append(True, np.diff(values) != 0))
