"""What kind of market it was, bar by bar, told from closes that were known when the bar opened.

The market is the mean of its symbols' log returns. Two things are said of a bar, both without looking at it or at
anything later: no quantile of the whole period is in them.

* its trend: the return of the seven days before, over the root of its bars times their deviation. Above 1 the market
  was rising, below -1 falling, else going sideways;
* its roughness: the root mean square return of the day before over that of all bars before that day. Above 1.25 it was
  wild, below 0.8 calm, else usual.

Bars without seven days before them are of no regime. What a regime was worth is told in `.breakdown`.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from levibot_core.market.timeframe import MILLISECONDS_PER_DAY, Timeframe

FloatArray = npt.NDArray[np.float64]

TRENDS: Final = ("rising", "sideways", "falling")
ROUGHNESSES: Final = ("calm", "usual", "wild")
_TREND_DAYS: Final = 7
_STEEP: Final = 1.0
_CALM, _WILD = 0.8, 1.25


def market_regimes(candles: pl.DataFrame, timeframe: Timeframe) -> pl.DataFrame:
    """The regime of every bar.

    Args:
        candles: `symbol`, `ts` (open time, UTC), `close`; with a week or more before the bars that matter.
        timeframe: Length of a bar.

    Returns:
        `ts` (open time), `trend` (of `TRENDS`) and `roughness` (of `ROUGHNESSES`), null where there is none; one row
        per open time, in order.
    """
    returns = (
        candles.sort("symbol", "ts")
        .select("symbol", "ts", change=pl.col("close").log().diff().over("symbol"))
        .group_by("ts")
        .agg(pl.col("change").mean().fill_null(0.0))
        .sort("ts")
    )
    per_day = MILLISECONDS_PER_DAY // timeframe.milliseconds
    changes = returns["change"].to_numpy()
    return returns.select(
        "ts",
        trend=_named(_trends(changes, per_day), (-_STEEP, _STEEP), TRENDS[::-1]),
        roughness=_named(_roughnesses(changes, per_day), (_CALM, _WILD), ROUGHNESSES),
    )


def _trends(returns: FloatArray, per_day: int) -> FloatArray:
    """Return of the bars before over its standard error, (bars,); NaN without seven days of them."""
    bars = _TREND_DAYS * per_day
    sums, squares = _sums_before(returns, bars), _sums_before(returns**2, bars)
    deviation = np.sqrt(np.maximum(squares / bars - (sums / bars) ** 2, 0.0))
    scores = np.where(np.isnan(sums), np.nan, 0.0)
    np.divide(sums, deviation * np.sqrt(bars), out=scores, where=deviation > 0.0)
    return scores


def _roughnesses(returns: FloatArray, per_day: int) -> FloatArray:
    """Size of the returns of the day before over that of all before it, (bars,); NaN without seven days of them."""
    day = _sums_before(returns**2, per_day)
    all_before = np.concatenate([[0.0], np.cumsum(returns**2)[:-1]])
    bars = np.arange(returns.size) - per_day
    earlier = np.maximum(all_before - day, 0.0) / np.maximum(bars, 1)
    ratios = np.where(bars >= (_TREND_DAYS - 1) * per_day, 1.0, np.nan)
    np.divide(np.sqrt(day / per_day), np.sqrt(earlier), out=ratios, where=~np.isnan(ratios) & (earlier > 0.0))
    return ratios


def _sums_before(values: FloatArray, bars: int) -> FloatArray:
    """Sums of so many values before each, itself not included, (n,); NaN where there are not as many."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    found = np.full(values.size, np.nan)
    found[bars:] = sums[bars:-1] - sums[: -bars - 1]
    return found


def _named(values: FloatArray, edges: tuple[float, float], names: Sequence[str]) -> pl.Series:
    places = np.digitize(values, edges)
    named = [None if np.isnan(value) else names[place] for value, place in zip(values, places, strict=True)]
    return pl.Series(named, dtype=pl.String)
