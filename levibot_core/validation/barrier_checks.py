"""Triple-barrier labels held against their definition, by other means than the code that made them.

All bars that a label may look at are laid side by side, and barriers are looked for in the whole table at once. The
direction is held against its definition in `.definition_checks`.
"""

from collections.abc import Iterator

import numpy as np
import polars as pl

from levibot_core.labels.definition import TripleBarrierLabel
from levibot_core.market.timeframe import Timeframe
from levibot_core.validation.leak_report import LeakCheck, verdict

_ROWS_AT_ONCE = 20_000


def check_barriers(
    candles: pl.DataFrame, timeframe: Timeframe, definition: TripleBarrierLabel, rows: pl.DataFrame
) -> LeakCheck:
    """Every label is 1 where the profit is touched before the stop, else 0, and ends with the bar that decides.

    Args:
        candles: One revision per symbol and bar.
        timeframe: Length of a bar.
        definition: The barriers.
        rows: symbol, ts, label (0 or 1), forward_return and label_end.
    """
    found: list[str] = []
    for (symbol,), part in rows.partition_by("symbol", as_dict=True).items():
        bars = candles.filter(pl.col("symbol") == symbol).sort("ts")
        wrong = np.zeros(4, dtype=np.int64)
        for some in part.iter_slices(_ROWS_AT_ONCE):
            wrong += _wrong(some, bars, timeframe.milliseconds, definition)
        found += (f"{symbol}: {problem}" for problem in _in_words(wrong))
    return verdict(
        "labels_match_the_barriers",
        found,
        f"{rows.height:,} labels say whether {definition.profit_atr:g} average true ranges up are touched before "
        f"{definition.stop_atr:g} down, within {definition.max_bars} bars, and end with the bar that decides",
    )


def _in_words(wrong: np.ndarray) -> Iterator[str]:
    unknown, labels, returns, ends = wrong.tolist()
    if unknown:
        yield f"{unknown} labels without every bar from the average true range to the end"
    if labels:
        yield f"{labels} labels are not what was touched first"
    if returns:
        yield f"{returns} forward returns are not those of what was touched first"
    if ends:
        yield f"{ends} labels do not end with the close of the bar that decides them"


def _wrong(rows: pl.DataFrame, bars: pl.DataFrame, step_ms: int, definition: TripleBarrierLabel) -> np.ndarray:
    """How many rows have an unknown outcome, another label, another return and another end, int64 (4,)."""
    times = rows["ts"].dt.epoch("ms").to_numpy()
    before, after = definition.atr_bars, definition.max_bars
    opens = bars["ts"].dt.epoch("ms").to_numpy()
    wanted = times[:, None] + step_ms * np.arange(-before, after + 1)
    places = np.minimum(np.searchsorted(opens, wanted), opens.size - 1)
    there = opens[places] == wanted
    opened, high, low, close = (
        np.where(there, bars[name].cast(pl.Float64).to_numpy()[places], np.nan)
        for name in ("open", "high", "low", "close")
    )
    now = close[:, before]
    ranges = np.maximum(high[:, 1 : before + 1], close[:, :before]) - np.minimum(
        low[:, 1 : before + 1], close[:, :before]
    )
    total = np.zeros(times.size)
    for column in ranges.T:  # in the order of time, or the last bit would differ
        total += column
    atr = total / before
    profit, stop = now + definition.profit_atr * atr, now - definition.stop_atr * atr
    stopped, gained = low[:, before + 1 :] <= stop[:, None], high[:, before + 1 :] >= profit[:, None]
    touched = stopped | gained
    first = np.where(touched.any(axis=1), touched.argmax(axis=1), after - 1)
    each = np.arange(times.size)
    known = np.isfinite(profit) & (there[:, before + 1 :].cumprod(axis=1)[each, first] == 1)
    decides = first + before + 1
    expected = gained[each, first] & ~stopped[each, first]
    left_at = np.where(expected, profit, close[each, decides])
    left_at = np.where(stopped[each, first], np.minimum(stop, opened[each, decides]), left_at)
    ends = times + (first + 2) * step_ms
    return np.array(
        [
            (~known).sum(),
            (known & (expected != (rows["label"].to_numpy() == 1))).sum(),
            (known & (left_at / now - 1.0 != rows["forward_return"].to_numpy())).sum(),
            (known & (ends != rows["label_end"].dt.epoch("ms").to_numpy())).sum(),
        ]
    )
