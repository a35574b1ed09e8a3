"""Which instants to attack: some by chance, and some where look-ahead would show.

A settlement used an hour early can only be seen in the hour before it is known, a value filled from behind a gap only
inside the gap. So beside random decision times, one is chosen just before an event of each kind.
"""

from collections.abc import Iterator

import numpy as np
import polars as pl

from levibot_core.features.inputs import IntArray
from levibot_core.market.timeframe import Timeframe
from levibot_core.validation.perturbation import MarketTables

# Soon after a gap, windows still reach into it.
_BARS_AFTER_GAP = 10


def attacked_instants(
    market: MarketTables, decisions: pl.Series, timeframe: Timeframe, count: int, random: np.random.Generator
) -> list[int]:
    """Decision times to attack, UTC milliseconds, rising.

    Args:
        market: Its events (gaps, corrections, settlements, index values) are aimed at.
        decisions: Decision times (Datetime) of the rows that are compared; both ends are left out.
        timeframe: Length of a bar.
        count: How many instants, where there are that many; those aimed at events come first.
        random: Chooses.
    """
    times = decisions.dt.epoch("ms").unique().sort().to_numpy()
    inner = times[times.size // 10 : times.size - times.size // 10]
    aimed = [
        int(random.choice(chosen))
        for chosen in (found[np.isin(found, inner)] for found in _before_events(market, times, timeframe))
        if chosen.size
    ][: max(count - 1, 0)]
    others = np.setdiff1d(inner, aimed)
    by_chance = random.choice(others, size=min(count - len(set(aimed)), others.size), replace=False).tolist()
    return sorted({*aimed, *by_chance})


def _before_events(market: MarketTables, times: IntArray, timeframe: Timeframe) -> Iterator[IntArray]:
    """For each kind of event, the last decision times before one of them was known."""
    opened, known = (market.candles[name].dt.epoch("ms").to_numpy() for name in ("ts", "known_at"))
    yield _last_before(times, known[known > opened + timeframe.milliseconds])
    gaps = _ends_of_gaps(market.candles, timeframe)
    yield gaps
    yield np.unique(np.add.outer(np.arange(1, _BARS_AFTER_GAP) * timeframe.milliseconds, gaps))
    yield _last_before(times, market.funding["known_at"].dt.epoch("ms").to_numpy())
    if market.fear_greed is not None:
        yield _last_before(times, market.fear_greed["known_at"].dt.epoch("ms").to_numpy())


def _last_before(times: IntArray, events: IntArray) -> IntArray:
    places = np.searchsorted(times, np.unique(events)) - 1
    return np.unique(times[places[places >= 0]])


def _ends_of_gaps(candles: pl.DataFrame, timeframe: Timeframe) -> IntArray:
    """The instants at which the first bar after a gap of its symbol opens."""
    times = candles.select("symbol", pl.col("ts").dt.epoch("ms")).unique().sort("symbol", "ts")
    after_gap = times.filter(pl.col("ts").diff().over("symbol") > timeframe.milliseconds)
    return after_gap["ts"].unique().sort().to_numpy()


def inner_instants(rows: pl.DataFrame, count: int, random: np.random.Generator) -> list[int]:
    """Decision times of the rows (`known_at`), UTC milliseconds, rising, from their middle half."""
    times = rows["known_at"].dt.epoch("ms").unique().sort().to_numpy()
    inner = times[times.size // 4 : times.size - times.size // 4]
    return sorted(random.choice(inner, size=min(count, inner.size), replace=False).tolist())
