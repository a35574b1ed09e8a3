"""The base rate: a model that knows how often prices rose, and nothing about now. Every other has to beat it."""

import numpy as np

from levibot_core.models.bundle import BundleIdentity, ModelBundle
from levibot_core.models.calibration import IdentityCalibrator
from levibot_core.models.predictors import BASE_RATE, base_rate_text


def fit_base_rate(labels: np.ndarray) -> float:
    """Laplace's estimate of the probability of a rise, (rises + 1) / (rows + 2): never 0 or 1, 0.5 without rows.

    Args:
        labels: 1 for a rise, else 0; shape (n,), any numeric type.
    """
    return float((np.sum(labels, dtype=np.float64) + 1.0) / (len(labels) + 2.0))


def base_rate_bundle(identity: BundleIdentity, labels: np.ndarray | None = None) -> ModelBundle:
    """The base rate as a bundle like any other. Without labels (a new home) it answers 0.5.

    Args:
        identity: What the bundle says about itself.
        labels: 1 for a rise, else 0; shape (n,). None when nothing was observed yet.
    """
    probability = fit_base_rate(np.empty(0) if labels is None else labels)
    files = {"base_rate.json": base_rate_text(probability).encode()}
    return ModelBundle.build(identity, BASE_RATE, files, IdentityCalibrator())
