"""Fitting calibrators on the calibration rows and choosing one on the validation rows.

What a calibrator is, and how it is applied, is in `levibot_core.models.calibration`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from sklearn.isotonic import isotonic_regression

from levibot_core.models.calibration import (
    CalibrationMethod,
    Calibrator,
    IdentityCalibrator,
    IsotonicCalibrator,
    PlattCalibrator,
    logit,
    sigmoid,
)
from levibot_core.models.metrics import log_losses

_PSEUDO_ROWS = 2.0


@dataclass(frozen=True, slots=True)
class CalibrationChoice:
    """The calibrator that was chosen, and the validation log loss of every method and of the raw scores (`none`)."""

    calibrator: Calibrator
    validation_loss: Mapping[CalibrationMethod, float]


def fit_calibrator(
    calibration_scores: np.ndarray,
    calibration_labels: np.ndarray,
    validation_scores: np.ndarray,
    validation_labels: np.ndarray,
) -> CalibrationChoice:
    """Fit Platt and isotonic calibration and take the one with the lower validation log loss; on a tie, Platt.

    Args:
        calibration_scores: Raw scores of the calibration rows, (n,).
        calibration_labels: Their labels, 1 for a rise, else 0; (n,). Both classes.
        validation_scores: Raw scores of the validation rows, (m,).
        validation_labels: Their labels, (m,).
    """
    candidates: tuple[Calibrator, ...] = (
        fit_platt(calibration_scores, calibration_labels),
        fit_isotonic(calibration_scores, calibration_labels),
    )
    losses: dict[CalibrationMethod, float] = {
        candidate.method: float(log_losses(candidate.apply(validation_scores), validation_labels).mean())
        for candidate in (IdentityCalibrator(), *candidates)
    }
    return CalibrationChoice(min(candidates, key=lambda candidate: losses[candidate.method]), losses)


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
