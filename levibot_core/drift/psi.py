"""The population stability index: how far today's values of a feature lie from those a model was trained on.

Plain numpy, cheap enough for every run. The report for people is in `levibot_core.drift.evidently_report`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
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
_NO_VALUES = "Expected values on both sides to measure drift, was 0 {side}. Compute features for the period first."


@dataclass(frozen=True, slots=True)
class ReferenceBins:
    """The values a model was trained on, cut into bins once, to compare any number of samples with them.

    Attributes:
        edges: Where bins end, ascending.
        per_value: Whether each edge has a bin of its own, beside those between two edges.
        shares: Share of the reference in each bin, the last one being for NaN.
    """

    edges: np.ndarray
    per_value: bool
    shares: np.ndarray

    @classmethod
    def of(cls, reference: np.ndarray, bins: int = BINS) -> "ReferenceBins":
        """Cut at quantiles of the reference; see `population_stability_index`.

        Raises:
            DataQualityError: the reference has no values.
        """
        values = np.asarray(reference, dtype=np.float64)
        if not values.size:
            raise DataQualityError(_NO_VALUES.format(side="in the reference"))
        known = np.sort(values[~np.isnan(values)])
        distinct = known[np.append(True, known[1:] != known[:-1])] if known.size else known
        per_value = distinct.size <= bins
        # The inverted empirical distribution: quantiles that are values of the reference.
        places = -(-np.arange(1, bins) * known.size // bins) - 1
        edges = distinct if per_value else np.unique(known[places])
        return cls(edges, per_value, _shares(_cells(values, edges, per_value), edges))

    def index(self, current: np.ndarray) -> float:
        """The population stability index of a sample against the reference.

        Raises:
            DataQualityError: the sample has no values.
        """
        values = np.asarray(current, dtype=np.float64)
        if not values.size:
            raise DataQualityError(_NO_VALUES.format(side="now"))
        now = _shares(_cells(values, self.edges, self.per_value), self.edges)
        return float(np.sum((now - self.shares) * np.log(now / self.shares)))


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
    return ReferenceBins.of(reference, bins).index(current)


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


def _cells(values: np.ndarray, edges: np.ndarray, per_value: bool) -> np.ndarray:
    """Number of the bin of each value: half-open bins (edge, next edge], or one for each edge and each gap beside it.

    NaN gets a number after all others.
    """
    places = np.searchsorted(edges, values, side="left")
    if per_value:
        places = places + np.searchsorted(edges, values, side="right")
    return np.asarray(np.where(np.isnan(values), 2 * edges.size + 1, places))


def _shares(cells: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.maximum(np.bincount(cells, minlength=2 * edges.size + 2) / cells.size, _EMPTY_SHARE)
