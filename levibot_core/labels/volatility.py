"""The realised volatility over a horizon: how far prices moved within it, whichever way.

A bar without every bar up to its horizon has no label. The direction of the move is labelled in `.direction`.
"""

import numpy as np
import polars as pl

from levibot_core.errors import ConfigurationError
from levibot_core.market.timeframe import Timeframe
from levibot_core.schemas import TIMESTAMP


def realized_volatility(candles: pl.DataFrame, timeframe: Timeframe, horizon_bars: int) -> pl.DataFrame:
    """Label every bar t whose next h bars all exist with the root of the sum of their squared log returns.

    With h the horizon: realized_volatility = sqrt(sum over k = 1 … h of ln(close(t + k) / close(t + k - 1))^2), as
    T. Andersen, T. Bollerslev, F. Diebold, P. Labys, "Modeling and forecasting realized volatility" (2003);
    label_end = ts + (h + 1) bars, the close of the bar t + h. It is 0 where nothing was traded.

    Args:
        candles: One row per symbol and open time, with symbol, ts and close.
        timeframe: Length of a bar.
        horizon_bars: The horizon h, at least 1.

    Returns:
        Columns symbol, ts (open time), realized_volatility (log ratio over the whole horizon, Float64) and label_end
        (UTC), sorted by symbol and ts.

    Raises:
        ConfigurationError: the horizon is below 1.
    """
    if horizon_bars < 1:
        raise ConfigurationError(f"Expected a horizon of at least 1 bar, was {horizon_bars}.")
    step = timeframe.milliseconds
    ordered = candles.select("symbol", "ts", "close").sort("symbol", "ts")
    labelled = [_label(part, step, horizon_bars) for part in ordered.partition_by("symbol", maintain_order=True)]
    ends = (pl.col("ts") + pl.duration(milliseconds=(horizon_bars + 1) * step, time_unit="ms")).cast(TIMESTAMP)
    frame = pl.concat(labelled) if labelled else ordered.select("symbol", "ts", realized_volatility="close")
    return frame.filter(pl.col("realized_volatility").is_finite()).with_columns(label_end=ends)


def _label(bars: pl.DataFrame, step: int, horizon_bars: int) -> pl.DataFrame:
    opens = bars["ts"].dt.epoch("ms").to_numpy()
    places = (opens - opens[0]) // step
    closes = np.full(int(places[-1]) + 1, np.nan)
    closes[places] = bars["close"].cast(pl.Float64).to_numpy()
    squares = np.diff(np.log(closes)) ** 2
    ahead = np.full(closes.size, np.nan)
    if squares.size >= horizon_bars:
        # One window at a time: a running sum would carry the rounding of its past along.
        windows = np.lib.stride_tricks.sliding_window_view(squares, horizon_bars)
        ahead[: len(windows)] = np.sqrt(windows.sum(axis=1))
    return bars.select("symbol", "ts", realized_volatility=pl.Series(ahead[places]))
