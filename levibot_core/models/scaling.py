"""Scaling features by statistics of the train part, for models that mind the scale of what they see.

Trees do not need it. What a scaler was fitted on is the caller's business, and is attacked in
`levibot_core.validation.attack`.
"""

import json
from dataclasses import dataclass

import numpy as np

from levibot_core.errors import BundleError


@dataclass(frozen=True, slots=True)
class RobustScaler:
    """Subtracts a centre and divides by a spread, column by column.

    Attributes:
        centers: Median of each column.
        spreads: Interquartile range of each column, above 0; 1 where the quartiles are equal.
    """

    centers: tuple[float, ...]
    spreads: tuple[float, ...]

    def __post_init__(self) -> None:
        centers, spreads = np.asarray(self.centers), np.asarray(self.spreads)
        sound = centers.shape == spreads.shape and bool(np.isfinite(centers).all())
        if not (sound and bool(np.isfinite(spreads).all()) and bool((spreads > 0.0).all())):
            raise BundleError(
                "Expected a finite centre and a spread above 0 for every column, was something else. "
                "Fit the scaler on whole rows again."
            )

    def apply(self, matrix: np.ndarray) -> np.ndarray:
        """Scaled columns, float64 (n, f) in, float64 (n, f) out."""
        return np.asarray((matrix - np.asarray(self.centers)) / np.asarray(self.spreads), dtype=np.float64)

    def to_json(self) -> str:
        """The scaler as JSON text, exact to the last bit."""
        return json.dumps({"method": "robust", "centers": self.centers, "spreads": self.spreads}) + "\n"


def fit_robust_scaler(matrix: np.ndarray) -> RobustScaler:
    """Median and interquartile range of every column of `matrix`, float64 (n, f), n at least 1, all finite."""
    lower, centers, upper = np.quantile(matrix, (0.25, 0.5, 0.75), axis=0)
    spreads = np.where(upper > lower, upper - lower, 1.0)
    return RobustScaler(tuple(centers.tolist()), tuple(spreads.tolist()))
