"""The direction of the close-to-close return over a horizon.

A bar without a bar at its horizon has no label: nothing is clamped, filled or set to 0. Features are computed in
`levibot_core.features`; both meet in `levibot_core.stores.snapshots`.
"""

import polars as pl

from levibot_core.labels.definition import DirectionLabel
from levibot_core.market.timeframe import Timeframe
from levibot_core.schemas import TRAINING_ROWS


def direction_labels(candles: pl.DataFrame, timeframe: Timeframe, horizon_bars: int) -> pl.DataFrame:
    """Label every bar whose close `horizon_bars` later exists.

    With h the horizon: label = 1 if close(t + h) > close(t) else 0, forward_return = close(t + h) / close(t) - 1,
    label_end = ts + (h + 1) bars, which is the close time of the bar t + h.

    Args:
        candles: One row per symbol and open time, with symbol, ts and close.
        timeframe: Length of a bar.
        horizon_bars: The horizon h, at least 1.

    Returns:
        Columns symbol, ts (open time), label (Int8), forward_return (fraction) and label_end (UTC), sorted by symbol
        and ts.
    """
    DirectionLabel(horizon_bars=horizon_bars)
    ahead = pl.duration(milliseconds=horizon_bars * timeframe.milliseconds, time_unit="ms")
    bar = pl.duration(milliseconds=timeframe.milliseconds, time_unit="ms")
    later = candles.select("symbol", ts=pl.col("ts") - ahead, close_later="close")
    types = TRAINING_ROWS.polars_schema
    return (
        candles.select("symbol", "ts", "close")
        .join(later, on=["symbol", "ts"], validate="1:1")
        .filter(pl.col("close").is_finite() & pl.col("close_later").is_finite())
        .select(
            "symbol",
            "ts",
            label=(pl.col("close_later") > pl.col("close")).cast(types["label"]),
            forward_return=pl.col("close_later") / pl.col("close") - 1.0,
            label_end=(pl.col("ts") + ahead + bar).cast(types["label_end"]),
        )
        .sort("symbol", "ts")
    )
