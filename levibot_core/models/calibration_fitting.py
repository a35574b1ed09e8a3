"""Fitting calibrators and choosing one, on the rows of the calibration part alone.

What a calibrator is, and how it is applied, is in `levibot_core.models.calibration`. Venn-Abers calibration is fitted
in `.venn_abers`.
"""

import math
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

_T_95_PERCENT = 2.776  # Student's t, two-sided, with one degree of freedom less than there are blocks.
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
    losses: dict[CalibrationMethod, list[np.ndarray]] = {"none": [], "platt": [], "isotonic": [], "venn_abers": []}
    times: list[np.ndarray] = []
    for fit_on, block in purged_blocks(known_at_ms, label_end_ms):
        times.append(known_at_ms[block])
        for calibrator in (
            IdentityCalibrator(),
            *_fit_all(scores[fit_on], labels[fit_on], known_at_ms[fit_on]),
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
    fitted = {calibrator.method: calibrator for calibrator in _fit_all(scores, labels, known_at_ms)}
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


def _fit_all(scores: np.ndarray, labels: np.ndarray, known_at_ms: np.ndarray) -> tuple[Calibrator, ...]:
    return (
        shrink_platt(fit_platt(scores, labels), scores, labels, known_at_ms),
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


def shrink_platt(
    fitted: PlattCalibrator, scores: np.ndarray, labels: np.ndarray, known_at_ms: np.ndarray
) -> PlattCalibrator:
    """Keep of a Platt fit what the rows are evidence for; where they are none, the scores stay as they are.

    Rows of one time and overlapping labels say much the same, and a few weeks of a market have a trend that does not
    last: fitted plainly, its share of rises would be served as a base rate, and noise as a slope. The curve is written
    as a level (the log-odds at the mean logit of the scores) and a slope, and what each departs by from that of the
    scores is multiplied by max(0, 1 - (t s / e)^2), e being the departure, s its standard error and t the 97.5 % point
    of Student's t: L. Breiman, "Better subset regression using the nonnegative garrote" (1995), at the limit of
    significance. s is taken from how much five successive stretches of time differ, whatever the
    dependence within them: R. Ibragimov, U. Müller, "t-statistic based correlation and heterogeneity robust inference"
    (2010).

    A model that ranks well but exaggerates, or ranks wrongly, has scores that are far apart, so that its slope is
    known well and is corrected; scores that are close together cannot do much harm.

    Args:
        fitted: The fit on these rows.
        scores: Raw scores, (n,).
        labels: Labels, (n,).
        known_at_ms: Decision times, (n,).
    """
    logits, probabilities = logit(scores), fitted.apply(scores)
    center = float(logits.mean())
    residuals, information = labels - probabilities, probabilities * (1.0 - probabilities)
    blocks = _block_of(known_at_ms)

    def kept(departure: float, direction: np.ndarray) -> float:
        error = _standard_error_over_blocks(residuals * direction, blocks) / float(np.mean(information * direction**2))
        if departure == 0.0 or not math.isfinite(error):
            return 0.0
        return departure * max(0.0, 1.0 - (_T_95_PERCENT * error / departure) ** 2)

    level = center + kept(fitted.intercept + fitted.slope * center - center, np.ones(logits.size))
    if float(logits.std()) < 1e-12:
        return PlattCalibrator(0.0, level)
    slope = max(0.0, 1.0 + kept(fitted.slope - 1.0, logits - center))
    return PlattCalibrator(slope, level - slope * center)


def _block_of(known_at_ms: np.ndarray) -> np.ndarray:
    """Which of the successive stretches of time each row belongs to, (n,)."""
    times, places = np.unique(known_at_ms, return_inverse=True)
    return np.asarray(places * CROSS_FITTING_BLOCKS // times.size)


def _standard_error_over_blocks(values: np.ndarray, blocks: np.ndarray) -> float:
    """Standard error of the mean of values, from the means of their blocks; infinite where a block has no rows."""
    counts = np.bincount(blocks, minlength=CROSS_FITTING_BLOCKS)
    if not counts.all():
        return math.inf
    means = np.bincount(blocks, weights=values, minlength=CROSS_FITTING_BLOCKS) / counts
    return float(means.std(ddof=1) / math.sqrt(CROSS_FITTING_BLOCKS))


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
