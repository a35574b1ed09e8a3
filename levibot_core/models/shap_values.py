"""SHAP values of many rows at once, for pictures and for importance over time.

One forecast is explained in `levibot_core.models.explanation`; importance is kept version by version in
`levibot_core.monitoring.importance`.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from levibot_core.models.bundle import ModelBundle
from levibot_core.models.design import design_matrix
from levibot_core.models.predictors import matrix_columns

MAXIMUM_ROWS = 1000


@dataclass(frozen=True, slots=True)
class ShapSample:
    """Rows of a design matrix and what each of their values adds to the forecast.

    Attributes:
        columns: Names of the f + 1 columns of the design matrix.
        values: The rows, float64 (n, f + 1).
        contributions: SHAP values in log-odds before calibration, float64 (n, f + 1).
    """

    columns: tuple[str, ...]
    values: np.ndarray
    contributions: np.ndarray

    @property
    def mean_absolute(self) -> np.ndarray:
        """Mean absolute SHAP value of every column, float64 (f + 1,)."""
        return np.asarray(np.abs(self.contributions).mean(axis=0))

    @property
    def shares(self) -> np.ndarray:
        """`mean_absolute` as shares of its sum, float64 (f + 1,); all 0 for a model that no value moves."""
        means = self.mean_absolute
        return np.asarray(means / means.sum() if means.sum() > 0 else means)


def shap_sample(bundle: ModelBundle, rows: pl.DataFrame, sample: int = MAXIMUM_ROWS) -> ShapSample:
    """SHAP values of evenly spaced rows, so that the same rows always give the same figures.

    Args:
        bundle: The model.
        rows: Rows that nothing was fitted on: symbol and the model's features.
        sample: Rows to look at, at most.

    Raises:
        UnknownSymbolError: the model does not know a row's symbol.
        MissingFeatureError: a feature is absent, or NaN or infinite in some row.
    """
    places = np.unique(np.linspace(0, rows.height - 1, min(sample, rows.height)).round().astype(np.int64))
    manifest = bundle.manifest
    matrix = design_matrix(rows[places.tolist()], manifest.features, manifest.symbols)
    return ShapSample(matrix_columns(manifest.features), matrix, bundle.contributions(matrix))
