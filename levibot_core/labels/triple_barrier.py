"""Which of three barriers the price touches first: a profit, a stop, or the end of the time.

Barriers stand a multiple of the average true range (ATR) away from the close of the decision. After M. Lopez de Prado,
"Advances in Financial Machine Learning" (2018), sections 3.3 and 3.4. The plain direction of a return is in
`levibot_core.labels.direction`; how much overlapping labels share, in `levibot_core.labels.uniqueness`.
"""

import numpy as np
import numpy.typing as npt
import polars as pl
from numba import njit

from levibot_core.labels.definition import TripleBarrierLabel
from levibot_core.market.timeframe import Timeframe
from levibot_core.schemas import TRAINING_ROWS

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_NONE = -1


_DEFAULT = TripleBarrierLabel()


def triple_barrier_labels(
    candles: pl.DataFrame, timeframe: Timeframe, definition: TripleBarrierLabel = _DEFAULT
) -> pl.DataFrame:
    """Label every bar whose outcome is known.

    The ATR is the plain mean of the true ranges max(high, close before) - min(low, close before) of the last
    `atr_bars` bars: those known at the decision, as the feature `atr_14` has it. From the next bar on:

    * label -1: the low is at or below the stop. The return is that of the stop, or of the bar's open where that is
      already below it. A bar that touches both barriers counts as stopped: what came first is not known.
    * label 1: the high is at or above the profit. The return is that of the profit.
    * label 0: neither within `max_bars` bars. The return is that of the last close.

    There is no label where the price did not move at all during the ATR, or where a bar of the ATR or up to the
    outcome is missing or not a finite number. An outcome counts as soon as it is known: just before a gap and at the
    end of the history only quick ones have a label, as purging by `label_end` also leaves the quick ones.

    Args:
        candles: One row per symbol and open time, with symbol, ts, open, high, low and close.
        timeframe: Length of a bar.
        definition: Barriers and time.

    Returns:
        Columns symbol, ts (open time), label (Int8), forward_return (fraction) and label_end (UTC: the close of the
        bar that decides), sorted by symbol and ts.
    """
    types = TRAINING_ROWS.polars_schema
    columns = ("symbol", "ts", "label", "forward_return", "label_end")
    parts = [pl.DataFrame(schema={name: types[name] for name in columns})]
    ordered = candles.sort("symbol", "ts")
    for (symbol,), bars in ordered.partition_by("symbol", as_dict=True, maintain_order=True).items():
        decided, labels, returns = _outcomes(bars, timeframe.milliseconds, definition)
        has = np.flatnonzero(decided != _NONE)
        bar = pl.duration(milliseconds=timeframe.milliseconds, time_unit="ms")
        parts.append(
            pl.DataFrame(
                {
                    "symbol": pl.repeat(symbol, has.size, dtype=pl.String, eager=True),
                    "ts": bars["ts"].gather(has),
                    "label": pl.Series(labels[has], dtype=pl.Int8),
                    "forward_return": pl.Series(returns[has], dtype=pl.Float64),
                    "label_end": bars["ts"].gather(decided[has]),
                }
            ).with_columns((pl.col("label_end") + bar).cast(types["label_end"]))
        )
    return pl.concat(parts)


def _outcomes(
    bars: pl.DataFrame, step_ms: int, definition: TripleBarrierLabel
) -> tuple[IntArray, npt.NDArray[np.int8], FloatArray]:
    """Place of the bar that decides each bar of one symbol, -1 without an outcome; label; return; each (n,)."""
    opened, high, low, close = (
        bars[name].cast(pl.Float64).fill_null(float("nan")).to_numpy() for name in ("open", "high", "low", "close")
    )
    # Whether a bar is whole and follows the bar before it, which is whole too.
    follows = np.zeros(close.size, dtype=np.bool_)
    whole = np.isfinite(opened + high + low + close)
    follows[1:] = whole[1:] & whole[:-1] & (np.diff(bars["ts"].dt.epoch("ms").to_numpy()) == step_ms)
    ranges = np.full(close.size, np.nan)
    ranges[1:] = np.maximum(high[1:], close[:-1]) - np.minimum(low[1:], close[:-1])
    ranges[~follows] = np.nan
    atr = np.full(close.size, np.nan)
    if close.size >= definition.atr_bars:
        windows = np.lib.stride_tricks.sliding_window_view(ranges, definition.atr_bars)
        # Added up one after the other, so that the bits do not depend on where a window stands.
        atr[definition.atr_bars - 1 :] = np.add.accumulate(windows, axis=1)[:, -1] / definition.atr_bars
    profit, stop = close + definition.profit_atr * atr, close - definition.stop_atr * atr
    return _first_touches(follows, opened, high, low, close, profit, stop, definition.max_bars)


@njit(cache=True, nogil=True)
def _first_touches(
    follows: npt.NDArray[np.bool_],
    opened: FloatArray,
    high: FloatArray,
    low: FloatArray,
    close: FloatArray,
    profit: FloatArray,
    stop: FloatArray,
    max_bars: int,
) -> tuple[IntArray, npt.NDArray[np.int8], FloatArray]:
    rows = close.size
    decided = np.full(rows, _NONE, np.int64)
    labels = np.zeros(rows, np.int8)
    returns = np.full(rows, np.nan)
    for row in range(rows):
        if not profit[row] > stop[row]:  # nor where they are NaN
            continue
        for later in range(row + 1, min(row + max_bars + 1, rows)):
            if not follows[later]:
                break
            if low[later] <= stop[row]:
                decided[row], labels[row] = later, -1
                returns[row] = min(stop[row], opened[later]) / close[row] - 1.0
                break
            if high[later] >= profit[row]:
                decided[row], labels[row] = later, 1
                returns[row] = profit[row] / close[row] - 1.0
                break
            if later == row + max_bars:
                decided[row] = later
                returns[row] = close[later] / close[row] - 1.0
    return decided, labels, returns
