"""The population stability index: how far today's values of a feature lie from those a model was trained on.

Plain numpy, cheap enough for every run. The report for people is in `levibot_core.drift.evidently_report`.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import polars as pl

from levibot_core.errors import DataQualityError, MissingFeatureError

BINS = 10
WARNING_LEVEL = 0.2
CRITICAL_LEVEL = 0.3
DriftLevel = Literal["ok", "warning", "critical"]

# An empty bin counts as this share, as in Evidently, so that the index stays finite: a feature that moved
# altogether has an index of about 17.
_EMPTY_SHARE = 1e-4


def population_stability_index(reference: np.ndarray, current: np.ndarray, bins: int = BINS) -> float:
    """Sum over bins of (current share - reference share) * ln(current share / reference share).

    The index of N. Siddiqi, "Credit Risk Scorecards" (2006): a symmetrised Kullback-Leibler divergence, never
    negative, 0 for equal shares. Bins are cut at quantiles of the reference that are values of the reference, so that
    a strictly increasing transformation of both samples changes nothing. A feature with no more values than `bins`
    gets one bin per value and one between each two, so that a constant that moves is seen. NaN is a bin of its own.

    Args:
        reference: Values the model was trained on, (n,).
        current: Values of today, (m,).
        bins: Number of quantile bins.

    Raises:
        DataQualityError: a side has no values.
    """
    before, now = np.asarray(reference, dtype=np.float64), np.asarray(current, dtype=np.float64)
    if not before.size or not now.size:
        raise DataQualityError(
            f"Expected values on both sides to measure drift, was {before.size} in the reference and {now.size} now. "
            "Compute features for the period first."
        )
    known = before[~np.isnan(before)]
    values = np.unique(known)
    if values.size <= bins:
        edges, cells = values, _cells_of_values
    else:
        edges, cells = np.unique(np.quantile(known, np.arange(1, bins) / bins, method="inverted_cdf")), _cells_between
    count = 2 * edges.size + 2
    before_shares = _shares(cells(before, edges), count)
    now_shares = _shares(cells(now, edges), count)
    return float(np.sum((now_shares - before_shares) * np.log(now_shares / before_shares)))


def drift_level(psi: float) -> DriftLevel:
    """`ok` below 0.2, `warning` from there, `critical` from 0.3: the levels the trading engines know."""
    if psi >= CRITICAL_LEVEL:
        return "critical"
    return "warning" if psi >= WARNING_LEVEL else "ok"


def psi_table(reference: pl.DataFrame, current: pl.DataFrame, features: Sequence[str]) -> pl.DataFrame:
    """The index of every feature, highest first.

    Args:
        reference: Rows the model was trained on, with the feature columns.
        current: Rows of today, with the feature columns.
        features: Columns to compare.

    Returns:
        `feature` (String), `psi` (Float64) and `level` (String: ok, warning or critical).

    Raises:
        MissingFeatureError: a side lacks a feature column.
        DataQualityError: a side has no rows.
    """
    absent = [name for name in features if name not in reference.columns or name not in current.columns]
    if absent:
        raise MissingFeatureError(
            f"Expected the columns {', '.join(absent)} on both sides of the drift comparison, was without. "
            "Compare features of the champion's own feature set."
        )
    scores = [population_stability_index(_values(reference, name), _values(current, name)) for name in features]
    return pl.DataFrame(
        {"feature": list(features), "psi": scores, "level": [drift_level(psi) for psi in scores]},
        schema={"feature": pl.String, "psi": pl.Float64, "level": pl.String},
    ).sort("psi", "feature", descending=[True, False])


def _values(rows: pl.DataFrame, feature: str) -> np.ndarray:
    return rows[feature].cast(pl.Float64).fill_null(np.nan).to_numpy()


def _cells_between(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Number of the half-open bin (edge, next edge] of each value; NaN gets the number after the last."""
    places = np.searchsorted(edges, values, side="left")
    return np.asarray(np.where(np.isnan(values), edges.size + 1, places))


def _cells_of_values(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """As `_cells_between`, with a bin for each edge itself and one for each gap beside it."""
    places = np.searchsorted(edges, values, side="left") + np.searchsorted(edges, values, side="right")
    return np.asarray(np.where(np.isnan(values), 2 * edges.size + 1, places))


def _shares(cells: np.ndarray, count: int) -> np.ndarray:
    return np.maximum(np.bincount(cells, minlength=count) / cells.size, _EMPTY_SHARE)
