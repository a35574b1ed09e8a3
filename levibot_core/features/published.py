"""Values that are published now and then, as they were known at each decision time: funding, fear and greed.

Bars are laid on their grid in `inputs`.
"""

from bisect import insort
from collections.abc import Callable, Mapping

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


def funding_as_known(settlements: pl.DataFrame, decision_ms: npt.NDArray[np.int64]) -> dict[str, FloatArray]:
    """Rate and age (hours) of the newest settlements among those known at each decision time; NaN where none is.

    Args:
        settlements: Of one symbol, all revisions: ts, rate, known_at.
        decision_ms: UTC milliseconds, int64 (n,).

    Returns:
        `funding_rate_1`, `funding_age_1`, ... up to `SETTLEMENTS`, newest first, each float64 (n,).
    """

    def newest(known: list[int], rate_of: Mapping[int, float]) -> _Snapshot:
        return [(ts, rate_of[ts]) for ts in known[: -SETTLEMENTS - 1 : -1]]

    times, rates = _as_known(settlements, "rate", decision_ms, SETTLEMENTS, newest)
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
    """
    if days is None:
        days = pl.DataFrame(
            schema={"ts": pl.Datetime("ms", "UTC"), "value": pl.Int32, "known_at": pl.Datetime("ms", "UTC")}
        )

    def newest(known: list[int], value_of: Mapping[int, float]) -> _Snapshot:
        latest = known[-1]
        starts = [latest - number * MILLISECONDS_PER_DAY for number in range(FEAR_GREED_DAYS)]
        return [(start, value_of.get(start, np.nan) / 100.0) for start in starts]

    times, values = _as_known(days, "value", decision_ms, FEAR_GREED_DAYS, newest)
    series = {f"fear_greed_{number + 1}": values[number] for number in range(FEAR_GREED_DAYS)}
    series["fear_greed_age"] = (decision_ms - MILLISECONDS_PER_DAY - times[0]) / MILLISECONDS_PER_HOUR
    return series


def _as_known(
    rows: pl.DataFrame,
    column: str,
    decision_ms: npt.NDArray[np.int64],
    count: int,
    newest: Callable[[list[int], Mapping[int, float]], _Snapshot],
) -> tuple[FloatArray, FloatArray]:
    """Times and values of what `newest` picks among the rows known at each decision time; each (count, n)."""
    missing = [name for name in ("ts", column, "known_at") if name not in rows.columns]
    if missing:
        raise SchemaError(
            f"Expected published values with ts, {column} and known_at, was without {', '.join(missing)}."
        )
    order = ["known_at", "ts", *(["revision"] if "revision" in rows.columns else [])]
    events = rows.sort(order).select(
        pl.col("known_at").dt.epoch("ms"), pl.col("ts").dt.epoch("ms"), pl.col(column).cast(pl.Float64)
    )
    held = np.searchsorted(events["known_at"].to_numpy(), decision_ms, side="right")
    first_held = int(held.min())
    # One column per state of knowledge: before the first publication, and after each. Those no row sees stay empty.
    states = np.full((2, count, events.height + 1), np.nan)
    known: list[int] = []
    value_of: dict[int, float] = {}
    for number, (_, ts, value) in enumerate(events.iter_rows(), start=1):
        if ts not in value_of:
            insort(known, ts)
        value_of[ts] = value
        if number < first_held:
            continue
        for place, state in enumerate(newest(known, value_of)):
            states[:, place, number] = state
    return states[0][:, held], states[1][:, held]
