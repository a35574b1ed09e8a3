"""Compare a candidate's forecasts with a reference's on the same rows.

The statistics are in `levibot_core.models.metrics`, what a comparison must show in `levibot_core.validation.gates`.
"""

import numpy as np
import polars as pl

from levibot_core.errors import BundleError
from levibot_core.models.bundle import ModelBundle
from levibot_core.models.metrics import paired_log_loss_difference
from levibot_core.models.row_forecasts import predict_rows
from levibot_core.validation.gates import LossComparison


def compare_with_model(
    candidate: ModelBundle,
    reference: ModelBundle,
    rows: pl.DataFrame,
    name: str,
    history: pl.DataFrame | None = None,
) -> LossComparison:
    """Difference of log loss on the rows that both models can forecast; below 0 the candidate is better.

    Those are the rows whose symbol both know and, for a model that looks at a window of bars, whose window is whole.

    Args:
        candidate: The model that wants to be promoted.
        reference: The model it has to beat.
        rows: Untouched rows: features of both models, `symbol`, `ts`, `label`.
        name: The reference in words.
        history: The rows that windows are cut from, `rows` among them; `rows` themselves when None.

    Raises:
        BundleError: the two models share no symbol, forecast different events, or there is no row that both can
            forecast.
    """
    if candidate.manifest.label != reference.manifest.label:
        raise BundleError(
            f"Expected {name} to forecast what the candidate does, but the one's labels are "
            f"{reference.manifest.label!r} and the other's {candidate.manifest.label!r}. Compare models of one name."
        )
    shared = rows.filter(pl.col("symbol").is_in(list(reference.manifest.symbols)))
    if shared.is_empty():
        raise BundleError(
            f"Expected {name} to know one of the candidate's symbols ({', '.join(candidate.manifest.symbols)}), "
            f"but it knows {', '.join(reference.manifest.symbols)}. Train on a symbol of the champion's too."
        )
    new, old = (predict_rows(model, shared, history) for model in (candidate, reference))
    both = np.isfinite(new) & np.isfinite(old)
    if not both.any():
        raise BundleError(
            f"Expected rows that the candidate and {name} can both forecast, was none of {shared.height}: windows of "
            f"{candidate.manifest.window} and {reference.manifest.window} bars are not whole. Take more days."
        )
    overlap = candidate.manifest.horizon_bars
    return _compare(new[both], old[both], shared.filter(pl.Series(both)), overlap, name)


def compare_with_base_rate(
    candidate: ModelBundle, base_rate: float, rows: pl.DataFrame, history: pl.DataFrame | None = None
) -> LossComparison:
    """Difference of log loss to the better of two constant forecasts; see `compare_with_constants`.

    Rows without a whole window in `history` (`rows` themselves when None) are left out.
    """
    probabilities = predict_rows(candidate, rows, history)
    known = np.isfinite(probabilities)
    times, labels = rows["ts"].dt.epoch("ms").to_numpy()[known], rows["label"].to_numpy()[known]
    return compare_with_constants(probabilities[known], labels, times, candidate.manifest.horizon_bars, base_rate)


def compare_with_constants(
    probabilities: np.ndarray, labels: np.ndarray, times: np.ndarray, overlap_bars: int, base_rate: float
) -> LossComparison:
    """Difference of log loss to the training rows' base rate, and to a half: the comparison that is harder to pass.

    The base rate is a guess of a few weeks: where it is off, forecasts that know nothing beat it by being nearer to a
    half.

    Args:
        probabilities: Of the candidate, (n,).
        labels: 1 for a rise, else 0; (n,).
        times: Of each row, any sortable type, (n,).
        overlap_bars: Bars that a label looks ahead.
        base_rate: Share of rises in the training rows.
    """
    comparisons = (
        _difference(probabilities, np.full(labels.size, constant), labels, times, overlap_bars, name)
        for constant, name in ((base_rate, f"the base rate {base_rate:.4f}"), (0.5, "always saying a half"))
    )
    return max(comparisons, key=lambda comparison: comparison.upper_999)


def _compare(new: np.ndarray, old: np.ndarray, rows: pl.DataFrame, overlap_bars: int, name: str) -> LossComparison:
    times = rows["ts"].dt.epoch("ms").to_numpy()
    return _difference(new, old, rows["label"].to_numpy(), times, overlap_bars, name)


def _difference(
    new: np.ndarray, old: np.ndarray, labels: np.ndarray, times: np.ndarray, overlap_bars: int, name: str
) -> LossComparison:
    found = paired_log_loss_difference(new, old, labels, overlap_bars, times)
    return LossComparison(
        reference=name, mean=found.mean, lower_95=found.lower_95, upper_95=found.upper_95, upper_999=found.upper_999
    )
