"""Inductive Venn-Abers calibration: two probabilities per score that bracket the truth, and the one that is served.

After V. Vovk, I. Petej, V. Fedorova, "Large-scale probabilistic predictors with and without guarantees of validity"
(2015), sections 2 and 4. Isotonic regression is fitted on the calibration rows and the row to forecast twice, once with
each label it may have; its fits at that row are p0 <= p1, and one of them is calibrated in the long run. Both depend on
the score alone, so they are worked out once per score of the calibration rows. numpy alone is needed here.
"""

import json
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from levibot_core.errors import BundleError

MOST_STEPS = 256
"""Scores are pooled to at most so many levels before the fit: enough for any curve that a calibration part can show."""


@dataclass(frozen=True, slots=True)
class VennAbersCalibrator:
    """A step function with two values per level of the score.

    Level j holds the scores in (edges[j - 1], edges[j]]; the first and the last reach on without end, so a score beyond
    all calibration scores is answered like the outermost of them.

    Attributes:
        edges: Highest score of every level but the last, strictly increasing.
        lower: p0 per level, never decreasing, in [0, 1).
        upper: p1 per level, never decreasing, in (0, 1], at least `lower`.
    """

    edges: tuple[float, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    _steps: tuple[np.ndarray, np.ndarray, np.ndarray] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        edges, lower, upper = (np.asarray(steps, dtype=np.float64) for steps in (self.edges, self.lower, self.upper))
        sound = (
            edges.ndim == 1
            and edges.size + 1 == lower.size == upper.size
            and bool(np.isfinite(edges).all() and (np.diff(edges) > 0).all())
            and bool((np.diff(lower) >= 0).all() and (np.diff(upper) >= 0).all())
            and bool(((lower >= 0) & (lower <= upper) & (upper <= 1) & (lower < 1) & (upper > 0)).all())
        )
        if not sound:
            raise BundleError(
                "Expected Venn-Abers steps of rising edges and never falling probabilities, lower below upper, "
                "was something else. Calibrate the model again."
            )
        object.__setattr__(self, "_steps", (edges, lower, upper))

    @property
    def method(self) -> Literal["venn_abers"]:
        """See `Calibrator.method`."""
        return "venn_abers"

    def apply(self, raw: np.ndarray) -> np.ndarray:
        """See `Calibrator.apply`: p1 / (1 - p0 + p1), which loses least in log loss whichever of both is right.

        Section 4 of the paper. It is strictly between 0 and 1, as p0 < 1 and p1 > 0.
        """
        lower, upper = self.interval(raw)
        return np.asarray(upper / (1.0 - lower + upper))

    def interval(self, raw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """p0 and p1 per raw score: float64 (n,) in, two of float64 (n,) out, both never decreasing in the score."""
        edges, lower, upper = self._steps
        levels = np.searchsorted(edges, np.asarray(raw, dtype=np.float64), side="left")
        return lower[levels], upper[levels]

    def to_json(self) -> str:
        """See `Calibrator.to_json`."""
        content = {"method": self.method, "edges": self.edges, "lower": self.lower, "upper": self.upper}
        return json.dumps(content, indent=2) + "\n"


def fit_venn_abers(scores: np.ndarray, labels: np.ndarray) -> VennAbersCalibrator:
    """Work out p0 and p1 for every level of the score, in O(n log n).

    With more than `MOST_STEPS` distinct scores, neighbours are pooled to levels of about equally many rows first. That
    only makes the score coarser: the fit on the levels is the exact one, and its curve has at most that many steps.

    Args:
        scores: Raw scores of the calibration rows, float64 (n,), n at least 1.
        labels: Their labels, 1 for a rise, else 0; (n,).
    """
    highest = np.unique(scores)
    if highest.size > MOST_STEPS:
        shares = np.arange(1, MOST_STEPS + 1) / MOST_STEPS
        highest = np.unique(np.quantile(scores, shares, method="inverted_cdf"))
    levels = np.searchsorted(highest, scores, side="left")
    rows = np.bincount(levels, minlength=highest.size)
    rises = np.bincount(levels, weights=labels, minlength=highest.size)
    # A fall of a low score is to p0 what a rise of a high one is to p1: turn the scale round, and the labels.
    lower = 1.0 - _fits_of_one_more_rise(rows[::-1], (rows - rises)[::-1])[::-1]
    upper = _fits_of_one_more_rise(rows, rises)
    # Equal fits of neighbouring levels may differ in their last digit, in either direction.
    lower, upper = np.maximum.accumulate(lower), np.maximum.accumulate(upper)
    return VennAbersCalibrator(tuple(highest[:-1].tolist()), tuple(lower.tolist()), tuple(upper.tolist()))


def _fits_of_one_more_rise(rows: np.ndarray, rises: np.ndarray) -> np.ndarray:
    """Per level, the isotonic fit there when one more row of that level is a rise. O(levels).

    Isotonic regression is the slope of the greatest convex minorant of the points (rows so far, rises so far). One more
    rise at level i moves every point before it by (-1, -1), if the points from i on stay where they are. So i runs
    upwards, and one point after the other is moved. The edge that spans level i goes from a moved point to one that was
    not; its left end never runs back: a moved point below the edge is the left end for every later level.
    """
    points = [(float(x), float(y)) for x, y in zip(np.cumsum(rows), np.cumsum(rises), strict=True)]
    hull: list[tuple[float, float]] = []
    for point in reversed(points):
        _push(hull, point)
    _push(hull, (-1.0, -1.0))
    fits = np.empty(len(points))
    for level, point in enumerate(points):
        left, right = hull[-1], hull[-2]
        fits[level] = (right[1] - left[1]) / (right[0] - left[0])
        moved = (point[0] - 1.0, point[1] - 1.0)
        if point is right:
            del hull[-2:]
        elif _turn(left, right, moved) < 0.0:
            hull.pop()
        else:
            continue
        if hull:
            _push(hull, moved)
    return fits


def _push(hull: list[tuple[float, float]], point: tuple[float, float]) -> None:
    """Put a point to the left of a convex chain, whose leftmost point is last, and drop what it makes superfluous."""
    while len(hull) >= 2 and _turn(point, hull[-2], hull[-1]) >= 0.0:
        hull.pop()
    hull.append(point)


def _turn(left: tuple[float, float], right: tuple[float, float], point: tuple[float, float]) -> float:
    """Above 0 if the point lies above the line from left to right, below 0 if below."""
    return (right[0] - left[0]) * (point[1] - left[1]) - (right[1] - left[1]) * (point[0] - left[0])
