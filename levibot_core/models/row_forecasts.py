"""Forecasts of training rows, for models that look at one bar and for those that look at a window of them.

A window is cut from the features of its row and of the rows before it; nothing later than the row is in it. A row
whose window is not whole has no forecast. How windows are cut is in `.tft.windows`; serving has them from the online
store.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl

from levibot_core.errors import UnknownSymbolError
from levibot_core.market.timeframe import Timeframe
from levibot_core.models.bundle import BundleIdentity, ModelBundle
from levibot_core.models.design import design_matrix
from levibot_core.models.tft.windows import ROWS_AT_ONCE, RowWindows
from levibot_core.validation.split import SplitResult

_KEY = ["symbol", "ts"]


def predict_rows(
    bundle: ModelBundle,
    rows: pl.DataFrame,
    history: pl.DataFrame | None = None,
    rows_at_once: int = ROWS_AT_ONCE,
) -> np.ndarray:
    """Calibrated probabilities, float64 (n,), of training rows; NaN where a row has no whole window.

    Args:
        bundle: The model.
        rows: symbol and the bundle's features, and ts where its window is longer than a bar.
        history: The rows that windows are cut from, `rows` among them; `rows` themselves when None.
        rows_at_once: Windows that are forecast together. It bounds the memory, and changes the last bits of a
            transformer's answer; with 1 they are those of a single request.

    Raises:
        UnknownSymbolError: a row's symbol is not among the model's.
        MissingFeatureError: a feature is absent, or NaN or infinite in some row.
    """
    return forecast_rows(bundle.predict, bundle.manifest, rows, history, rows_at_once)


def forecast_rows(
    forecast: Callable[[np.ndarray], np.ndarray],
    identity: BundleIdentity,
    rows: pl.DataFrame,
    history: pl.DataFrame | None = None,
    rows_at_once: int = ROWS_AT_ONCE,
) -> np.ndarray:
    """What any function of a model's inputs says of training rows, float64 (n,); otherwise as `predict_rows`.

    Args:
        forecast: Inputs as `ModelBundle.predict` takes them to one number each, such as `ModelBundle.predict_raw`.
        identity: Features, symbols, timeframe and window.
        rows: As `predict_rows`.
        history: As `predict_rows`.
        rows_at_once: As `predict_rows`; a model of a window of 1 is given all rows at once.
    """
    if identity.window == 1:
        return forecast(design_matrix(rows, identity.features, identity.symbols))
    windows, places = _windows(identity, rows, history)
    answers = np.full(rows.height, np.nan)
    found = np.flatnonzero(places >= 0)
    answers[found] = windows.apply(forecast, places[found], rows_at_once)
    return answers


def input_of_rows(identity: BundleIdentity, rows: pl.DataFrame, history: pl.DataFrame | None = None) -> np.ndarray:
    """The inputs of those rows that have a whole window, as `ModelBundle.predict` takes them: for a few rows.

    Raises:
        UnknownSymbolError, MissingFeatureError: as `predict_rows`.
    """
    if identity.window == 1:
        return design_matrix(rows, identity.features, identity.symbols)
    windows, places = _windows(identity, rows, history)
    found = places[places >= 0]
    return windows.at(found[windows.complete[found]])


def with_windows(identity: BundleIdentity, rows: pl.DataFrame, history: pl.DataFrame | None = None) -> pl.DataFrame:
    """Those of the rows that have a whole window, in their order: all of them for a model of one bar.

    Raises:
        UnknownSymbolError, MissingFeatureError: as `predict_rows`.
    """
    if identity.window == 1:
        return rows
    windows, places = _windows(identity, rows, history)
    whole = (places >= 0) & windows.complete[places]
    return rows if bool(whole.all()) else rows.filter(pl.Series(whole))


def split_with_windows(identity: BundleIdentity, split: SplitResult) -> SplitResult:
    """The split with those rows of its later parts that a model can forecast; the train part is as it was.

    Raises:
        UnknownSymbolError, MissingFeatureError: as `predict_rows`.
    """
    if identity.window == 1:
        return split
    history = split.history
    kept = {name: with_windows(identity, rows, history) for name, rows in split.parts.items() if name != "train"}
    return replace(split.with_parts(kept), source=history)


def _windows(
    identity: BundleIdentity, rows: pl.DataFrame, history: pl.DataFrame | None
) -> tuple[RowWindows, np.ndarray]:
    """The windows of the history, and which of its rows each row is, int64 (n,), -1 where it is none."""
    if unknown := sorted(set(rows["symbol"].unique()) - set(identity.symbols)):
        raise UnknownSymbolError(f"Expected a symbol of {', '.join(identity.symbols)}, was {', '.join(unknown)}.")
    bar_ms = Timeframe.parse(identity.timeframe).milliseconds
    bars = _bars_of(identity, rows, rows if history is None else history, bar_ms)
    matrix = design_matrix(bars, identity.features, identity.symbols)
    times = bars["ts"].dt.epoch("ms").to_numpy()
    windows = RowWindows.over(matrix, matrix[:, -1], times, identity.window, bar_ms)
    numbered = bars.select(_KEY).with_row_index("place")
    joined = rows.select(_KEY).join(numbered, on=_KEY, how="left", maintain_order="left", validate="m:1")
    return windows, joined["place"].cast(pl.Int64).fill_null(-1).to_numpy()


def _bars_of(identity: BundleIdentity, rows: pl.DataFrame, history: pl.DataFrame, bar_ms: int) -> pl.DataFrame:
    """The part of a history that windows of the rows may hold: of known symbols, and not long before the first."""
    if rows.is_empty():
        return history.clear()
    first, last = rows["ts"].min(), rows["ts"].max()
    reach = pl.duration(milliseconds=(identity.window - 1) * bar_ms)
    known = pl.col("symbol").is_in(list(identity.symbols))
    return history.filter(known, pl.col("ts") >= pl.lit(first) - reach, pl.col("ts") <= last)
