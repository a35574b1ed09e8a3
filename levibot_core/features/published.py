"""Values that are published now and then, as they were known at each decision time: funding, fear and greed.

Bars are laid on their grid in `inputs`.
"""

from bisect import insort
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from levibot_core.errors import SchemaError
from levibot_core.features.elementary import MILLISECONDS_PER_HOUR
from levibot_core.features.folds import FloatArray
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY

SETTLEMENTS = 3
"""Newest settlements that a row can see."""
FEAR_GREED_DAYS = 8
"""Newest days of the index that a row can see."""

_Snapshot = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Publications:
    """Published values in the order in which they became known.

    Attributes:
        known_ms: UTC milliseconds, int64 (n,), rising.
        ts_ms: The time that each value describes, UTC milliseconds, int64 (n,).
        values: float64 (n,).
    """

    known_ms: npt.NDArray[np.int64]
    ts_ms: npt.NDArray[np.int64]
    values: FloatArray


NOTHING_PUBLISHED = Publications(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))


def settlements_by_symbol(funding: pl.DataFrame) -> dict[str, Publications]:
    """Settlements of every symbol, from all revisions: symbol, ts, rate, known_at.

    Raises:
        SchemaError: a column is missing.
    """
    events = _in_order_of_knowledge(funding, "rate", "symbol")
    return {symbol: _publications(rows) for (symbol,), rows in events.partition_by("symbol", as_dict=True).items()}


def funding_as_known(settlements: Publications, decision_ms: npt.NDArray[np.int64]) -> dict[str, FloatArray]:
    """Rate and age (hours) of the newest settlements among those known at each decision time; NaN where none is.

    Args:
        settlements: Of one symbol.
        decision_ms: UTC milliseconds, int64 (n,).

    Returns:
        `funding_rate_1`, `funding_age_1`, ... up to `SETTLEMENTS`, newest first, each float64 (n,).
    """

    def newest(known: list[int], rate_of: Mapping[int, float]) -> _Snapshot:
        return [(ts, rate_of[ts]) for ts in known[: -SETTLEMENTS - 1 : -1]]

    times, rates = _as_known(settlements, decision_ms, SETTLEMENTS, newest)
    series = {}
    for number in range(SETTLEMENTS):
        series[f"funding_rate_{number + 1}"] = rates[number]
        series[f"funding_age_{number + 1}"] = (decision_ms - times[number]) / MILLISECONDS_PER_HOUR
    return series


def fear_greed_as_known(days: pl.DataFrame | None, decision_ms: npt.NDArray[np.int64]) -> dict[str, FloatArray]:
    """The index (0 to 1) of the newest day known at each decision time and of the days before it; NaN where unknown.

    Args:
        days: All revisions: ts (start of the day), value (0 to 100), known_at; None is the same as no rows.
        decision_ms: UTC milliseconds, int64 (n,).

    Returns:
        `fear_greed_1`, the newest day's, to `fear_greed_8`, seven days before, and `fear_greed_age` in hours since the
        end of the newest day, each float64 (n,).

    Raises:
        SchemaError: a column is missing.
    """
    published = NOTHING_PUBLISHED if days is None else _publications(_in_order_of_knowledge(days, "value"))

    def newest(known: list[int], value_of: Mapping[int, float]) -> _Snapshot:
        latest = known[-1]
        starts = [latest - number * MILLISECONDS_PER_DAY for number in range(FEAR_GREED_DAYS)]
        return [(start, value_of.get(start, np.nan) / 100.0) for start in starts]

    times, values = _as_known(published, decision_ms, FEAR_GREED_DAYS, newest)
    series = {f"fear_greed_{number + 1}": values[number] for number in range(FEAR_GREED_DAYS)}
    series["fear_greed_age"] = (decision_ms - MILLISECONDS_PER_DAY - times[0]) / MILLISECONDS_PER_HOUR
    return series


def _in_order_of_knowledge(rows: pl.DataFrame, column: str, *keys: str) -> pl.DataFrame:
    """The keys, `known_ms`, `ts_ms` and `value`, oldest knowledge first; later revisions of one instant come last."""
    needed = [*keys, "ts", column, "known_at"]
    missing = [name for name in needed if name not in rows.columns]
    if missing:
        raise SchemaError(f"Expected published values with {', '.join(needed)}, was without {', '.join(missing)}.")
    order = ["known_at", "ts", *(["revision"] if "revision" in rows.columns else [])]
    return rows.sort(order).select(
        *keys,
        known_ms=pl.col("known_at").dt.epoch("ms"),
        ts_ms=pl.col("ts").dt.epoch("ms"),
        value=pl.col(column).cast(pl.Float64),
    )


def _publications(rows: pl.DataFrame) -> Publications:
    return Publications(rows["known_ms"].to_numpy(), rows["ts_ms"].to_numpy(), rows["value"].to_numpy())


def _as_known(
    events: Publications,
    decision_ms: npt.NDArray[np.int64],
    count: int,
    newest: Callable[[list[int], Mapping[int, float]], _Snapshot],
) -> tuple[FloatArray, FloatArray]:
    """Times and values of what `newest` picks among what was known at each decision time; each (count, n)."""
    held = np.searchsorted(events.known_ms, decision_ms, side="right")
    first_held, last_held = int(held[0]), int(held[-1])
    # One column per state of knowledge that a row sees, of those before the first publication and after each.
    states = np.full((2, count, last_held - first_held + 1), np.nan)
    known: list[int] = []
    value_of: dict[int, float] = {}
    for number, (ts, value) in enumerate(zip(events.ts_ms.tolist(), events.values.tolist(), strict=True), start=1):
        if number > last_held:
            break
        if ts not in value_of:
            insort(known, ts)
        value_of[ts] = value
        if number < first_held:
            continue
        for place, state in enumerate(newest(known, value_of)):
            states[:, place, number - first_held] = state
    seen = held - first_held
    return states[0][:, seen], states[1][:, seen]
