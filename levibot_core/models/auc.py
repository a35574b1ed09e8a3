"""The area under the ROC curve with the uncertainty it has when labels overlap.

The area alone is one of `levibot_core.models.metrics`' scores.
"""

from dataclasses import dataclass

import numpy as np

from levibot_core.errors import DataQualityError
from levibot_core.models.metrics import BANDWIDTH_PER_OVERLAP, mean_with_interval


@dataclass(frozen=True, slots=True)
class AreaUnderCurve:
    """The area and its 95 % interval, cut to [0, 1]; 0.5 is a ranking without information."""

    value: float
    standard_error: float
    lower_95: float
    upper_95: float


def area_under_curve(
    probabilities: np.ndarray, labels: np.ndarray, label_overlap_bars: int, groups: np.ndarray
) -> AreaUnderCurve:
    """Probability that a row that rose was forecast higher than one that fell, ties counting half.

    Its uncertainty is that of the mean of each row's part in it (E. R. DeLong, D. M. DeLong, D. L. Clarke-Pearson,
    "Comparing the areas under two or more correlated receiver operating characteristic curves", 1988), with rows of
    one time and of neighbouring times allowed to depend on each other as in `mean_with_interval`.

    Args:
        probabilities: Forecast probability of a rise, (n,).
        labels: 1 for a rise, else 0; (n,). Both classes.
        label_overlap_bars: Bars a label looks ahead.
        groups: Time of each row, (n,), any sortable type.

    Raises:
        DataQualityError: there is one class only, or fewer than two times.
    """
    p, rose = np.asarray(probabilities, dtype=np.float64), np.asarray(labels) == 1
    rises, falls = int(rose.sum()), int((~rose).sum())
    if not rises or not falls:
        raise DataQualityError(
            f"Expected rows of both classes, was {p.size} rows with {rises} rises. Use a longer history."
        )
    # Share of the other class that each row stands on the right side of.
    placed = np.where(rose, _share_below(p, p[~rose]), 1.0 - _share_below(p, p[rose]))
    area = float(placed[rose].mean())
    parts = (placed - area) * np.where(rose, p.size / rises, p.size / falls)
    interval = mean_with_interval(parts, groups, BANDWIDTH_PER_OVERLAP * label_overlap_bars)
    return AreaUnderCurve(
        area, interval.standard_error, max(area + interval.lower_95, 0.0), min(area + interval.upper_95, 1.0)
    )


def _share_below(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Share of the others below each value, those equal to it counted half."""
    ordered = np.sort(others)
    both = np.searchsorted(ordered, values, side="left") + np.searchsorted(ordered, values, side="right")
    return np.asarray(both / (2.0 * ordered.size))
