"""How much of its label a row has to itself: weights for labels that overlap.

Neighbouring labels look at the same future. Counting each as a whole observation makes a training, and every test on
it, too sure of itself. What labels are is in `direction` and `triple_barrier`; rows that overlap between train and
test are removed in `levibot_core.validation.purged`.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from levibot_core.errors import DataQualityError
from levibot_core.labels.definition import SampleWeights


def sample_weights(rows: pl.DataFrame, kind: SampleWeights) -> npt.NDArray[np.float64] | None:
    """How much each row counts in a training, float64 (n,); None where all count the same.

    Args:
        rows: The rows of the train part alone: symbol, known_at and label_end.
        kind: `uniqueness` gives each row its `average_uniqueness`, divided by the mean of all, so that what a
            booster asks of the rows of a leaf means the same as without weights.
    """
    if kind == "none":
        return None
    known, ends = (rows[name].dt.epoch("ms").to_numpy() for name in ("known_at", "label_end"))
    uniqueness = average_uniqueness(rows["symbol"].to_numpy(), known, ends)
    return uniqueness / uniqueness.mean() if uniqueness.size else uniqueness


def average_uniqueness(
    symbols: Sequence[str] | np.ndarray, known_at_ms: np.ndarray, label_end_ms: np.ndarray
) -> npt.NDArray[np.float64]:
    """Average uniqueness of each label among those of its symbol.

    At an instant inside c labels of a symbol, each has 1 / c of it; a label's uniqueness is the mean of that over its
    span (known_at, label_end]. M. Lopez de Prado, "Advances in Financial Machine Learning" (2018), section 4.4, in
    continuous time: on a regular grid it is the mean over the label's bars.

    Args:
        symbols: Symbol of each row, (n,).
        known_at_ms: Decision time of each row, UTC milliseconds, (n,), any order.
        label_end_ms: Instant at which the row's label is known, (n,), later than the decision.

    Returns:
        float64 (n,), above 0 and up to 1. The sum per symbol is the number of labels that could be had without any
        overlap, about.

    Raises:
        DataQualityError: the arrays are of different lengths, or a label has no span.
    """
    known, ends = np.asarray(known_at_ms, dtype=np.int64), np.asarray(label_end_ms, dtype=np.int64)
    names, places = np.unique(np.asarray(symbols), return_inverse=True)
    if not known.shape == ends.shape == places.shape:
        raise DataQualityError(
            f"Expected symbol, decision and label end of each row, was {places.shape}, {known.shape} and {ends.shape}. "
            "Give columns of the same rows."
        )
    if spanless := int((ends <= known).sum()):
        raise DataQualityError(
            f"Expected labels that end after their decision, was {spanless} that do not. Label the rows again."
        )
    uniqueness = np.empty(known.size)
    for place in range(names.size):
        rows = places == place
        uniqueness[rows] = _of_one_symbol(known[rows], ends[rows])
    return uniqueness


def _of_one_symbol(known: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Linear in the rows but for sorting: what all labels share is summed once, and each takes a difference."""
    instants, corners = np.unique(np.concatenate([known, ends]), return_inverse=True)
    begin, end = corners[: known.size], corners[known.size :]
    started = np.bincount(begin, minlength=instants.size) - np.bincount(end, minlength=instants.size)
    alive = np.cumsum(started)[:-1]
    shares = np.divide(np.diff(instants), alive, out=np.zeros(alive.size), where=alive > 0)
    until = np.concatenate([[0.0], np.cumsum(shares)])
    # Rounding of the running sum could lift a label that nobody shares a little above 1.
    return np.asarray(np.minimum((until[end] - until[begin]) / (ends - known), 1.0))
