"""Apply a feature set to candles and funding: the one batch that the lake, snapshots and leak checks share.

Inputs are assembled in `inputs`, values computed in `kernels`; reading and writing tables is the stores' work.
"""

from collections.abc import Mapping

import numpy as np
import polars as pl

from levibot_core.features.elementary import FloatArray
from levibot_core.features.inputs import SERIES, Bars, IntArray, assemble
from levibot_core.features.kernels import FAMILIES, Kernel
from levibot_core.features.registry import FeatureSet, FeatureSpec
from levibot_core.market.timeframe import Timeframe
from levibot_core.schemas import TIMESTAMP

LEADER = "BTC/USDT"
"""The market whose returns every symbol sees."""


def compute_features(
    candles: pl.DataFrame,
    funding: pl.DataFrame,
    feature_set: FeatureSet,
    timeframe: Timeframe,
    leader: str = LEADER,
    start_ms: int | None = None,
    end_ms: int | None = None,
    kernels: Mapping[str, Kernel] = FAMILIES,
) -> pl.DataFrame:
    """Compute every feature at every existing bar with open time in `[start_ms, end_ms)`, for all symbols.

    All rows of `candles` are used as warm-up; `feature_set.warm_up` bars and 72 hours of funding before `start_ms`
    give the same bits as the whole history. A row's decision time is the close of its bar: a bar of its window that
    is missing, or became known only after that, makes the value NaN.

    Args:
        candles: One row per symbol and bar: symbol, ts, open, high, low, close, volume, known_at (other columns are
            ignored).
        funding: One row per symbol and settlement: symbol, ts, rate, known_at; may be empty. A settlement at the very
            close of the last bar counts, so give those with ts up to and including that close.
        feature_set: What to compute.
        timeframe: Length of a bar.
        leader: The leading market, inside spelling; without candles of it, the features that need it are NaN.
        start_ms: First open time to give, UTC milliseconds; None is the first there is.
        end_ms: Open time from which no row is given; None gives all.
        kernels: The families' kernels; another mapping than the platform's is for tests of the leak guard.

    Returns:
        The schema of `feature_set.table()`, sorted by symbol and ts. A value is finite or NaN.

    Raises:
        SchemaError: an input lacks a column or repeats a row.
        DataQualityError: an open time is off the timeframe's grid.
    """
    table = feature_set.table()
    parts = [table.empty()]
    for bars in assemble(candles, funding, timeframe, leader):
        rows = _rows(bars, start_ms, end_ms)
        if rows.size:
            parts.append(_features_of(bars, rows, feature_set, kernels))
    return table.enforce(pl.concat(parts))


def _rows(bars: Bars, start_ms: int | None, end_ms: int | None) -> IntArray:
    wanted = bars.exists("own")
    if start_ms is not None:
        wanted &= bars.open_ms >= start_ms
    if end_ms is not None:
        wanted &= bars.open_ms < end_ms
    return np.flatnonzero(wanted)


def _features_of(bars: Bars, rows: IntArray, feature_set: FeatureSet, kernels: Mapping[str, Kernel]) -> pl.DataFrame:
    with np.errstate(divide="ignore", invalid="ignore"):
        columns = {
            feature.name: _values(bars, feature, kernels[feature.family])[rows] for feature in feature_set.features
        }
    opens = pl.Series(bars.open_ms[rows])
    return pl.DataFrame(
        {
            "symbol": pl.repeat(bars.symbol, rows.size, eager=True),
            "ts": opens.cast(TIMESTAMP),
            "known_at": (opens + bars.step_ms).cast(TIMESTAMP),
            **columns,
        }
    )


def _values(bars: Bars, feature: FeatureSpec, kernel: Kernel) -> FloatArray:
    inputs = [bars.series(name) for name in feature.inputs]
    values = kernel.compute(inputs, feature.window, feature.parameters)
    valid = np.isfinite(values)
    for origin in {SERIES[name].origin for name in feature.inputs} & bars.known_from.keys():
        valid &= bars.whole_windows(origin, feature.warm_up)
    return np.where(valid, values, np.nan)  # a copy, with one bit pattern for every NaN
