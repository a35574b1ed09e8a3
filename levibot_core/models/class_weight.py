"""A weight for rises where the classes are of unequal size, and how its shift of the forecasts is taken out again.

Training with rises counted w times is training on a market in which rises are w times as frequent: it changes which
errors matter, and shifts every forecast. For a model that knows the two densities the shift is exactly a factor w on
the odds (C. Elkan, "The foundations of cost-sensitive learning", 2001, theorem 2). It is taken out before a validation
loss is looked at, so that trainings with and without a weight compare; calibration takes out what is left of it.
"""

import numpy as np


def weight_of_rises(labels: np.ndarray, weights: np.ndarray | None = None) -> float:
    """What makes both classes count the same: (rows - rises) / rises, each row counting as its weight.

    Args:
        labels: 1 for a rise, else 0; float64 (n,), both classes.
        weights: Row weights, float64 (n,); None where all count the same.
    """
    counts = np.ones(labels.size) if weights is None else weights
    rises = float(counts[labels == 1].sum())
    return (float(counts.sum()) - rises) / rises


def without_class_weight(probabilities: np.ndarray, weight: float) -> np.ndarray:
    """Probabilities as a training without that weight of rises would have given, float64 (n,): odds divided by it."""
    if weight == 1.0:
        return probabilities
    return np.asarray(probabilities / (probabilities + weight * (1.0 - probabilities)))
