"""Candles that a caller sent, checked before anything is computed from them, and laid out as the kernel takes them.

A row is what exchanges and ccxt give: open time (UTC milliseconds), open, high, low, close, volume. Nothing is
repaired: a row that is missing, not closed or impossible is named, and the caller decides.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import polars as pl

from levibot_core.errors import UnusableCandlesError
from levibot_core.features.sent_market import CandleRow
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY, Timeframe
from levibot_core.schemas import TIMESTAMP

CANDLE_COLUMNS = ("symbol", "ts", "open", "high", "low", "close", "volume", "known_at")
_NAMES = ("open", "high", "low", "close", "volume")
_SECONDS_BELOW_MS = 100_000_000_000
"""Times below this are seconds: as milliseconds they would lie in 1973 or before."""


def usable_candles(
    symbol: str, rows: Sequence[CandleRow], timeframe: Timeframe, needed: int, now_ms: int
) -> pl.DataFrame:
    """The last `needed` candles as `levibot_core.features.compute.compute_features` takes them.

    Args:
        symbol: Inside spelling.
        rows: Oldest first, the newest closed bar last; more than needed are welcome.
        timeframe: Length of a bar.
        needed: Successive bars that are needed.
        now_ms: UTC milliseconds; a bar that closes after it is not closed.

    Returns:
        Columns symbol, ts, open, high, low, close, volume and known_at, the close of each bar.

    Raises:
        UnusableCandlesError: the cause in one word, and in words which row, what was expected and what to do.
    """
    opens = np.array([row[0] for row in rows], dtype=np.int64)
    if (found := _time_problem(opens, timeframe, needed, now_ms)) is not None:
        raise _unusable(symbol, needed, *found)
    values = np.array([row[1:] for row in rows[-needed:]], dtype=np.float64).reshape(-1, len(_NAMES))
    opens = opens[-needed:]
    if (found := _gap(opens, timeframe) or _value_problem(opens, values)) is not None:
        raise _unusable(symbol, needed, *found)
    ts = pl.Series("ts", opens)
    return pl.DataFrame(
        [
            pl.Series("symbol", [symbol] * opens.size, dtype=pl.String()),
            ts.cast(TIMESTAMP),
            *(pl.Series(name, values[:, place]) for place, name in enumerate(_NAMES)),
            (ts + timeframe.milliseconds).cast(TIMESTAMP).alias("known_at"),
        ]
    )


def sent_funding(symbol: str, rows: Sequence[tuple[int, float]]) -> pl.DataFrame:
    """Settlements (UTC milliseconds, rate as a fraction) as `compute_features` takes them: known when they settle."""
    return pl.DataFrame(
        {"symbol": [symbol] * len(rows), "ts": [row[0] for row in rows], "rate": [row[1] for row in rows]},
        schema={"symbol": pl.String(), "ts": pl.Int64(), "rate": pl.Float64()},
    ).with_columns(pl.col("ts").cast(TIMESTAMP), known_at=pl.col("ts").cast(TIMESTAMP))


def sent_fear_greed(rows: Sequence[tuple[int, int]]) -> pl.DataFrame:
    """Days of the index (start in UTC milliseconds, 0 to 100) as `compute_features` takes them: known at their end."""
    return pl.DataFrame(
        {"ts": [row[0] for row in rows], "value": [row[1] for row in rows]},
        schema={"ts": pl.Int64(), "value": pl.Int32()},
    ).with_columns(pl.col("ts").cast(TIMESTAMP), known_at=(pl.col("ts") + MILLISECONDS_PER_DAY).cast(TIMESTAMP))


def _time_problem(opens: np.ndarray, timeframe: Timeframe, needed: int, now_ms: int) -> tuple[str, str] | None:
    if opens.size and opens.max() < _SECONDS_BELOW_MS:
        return "off_grid", f"open times in UTC milliseconds, was {opens[-1]}, as if in seconds. Multiply by 1000."
    if (off := opens[opens % timeframe.milliseconds != 0]).size:
        return "off_grid", f"open times on the {timeframe} grid, was {_iso(off[0])}. Send the open time of each bar."
    if (back := np.flatnonzero(np.diff(opens) <= 0)).size:
        later = _iso(opens[back[0] + 1])
        return "out_of_order", f"rising open times, each once, was {later} after {_iso(opens[back[0]])}. Sort them."
    if opens.size < needed:
        return (
            "too_few",
            f"at least {needed} successive closed bars of {timeframe}, was {opens.size}. Send more history.",
        )
    if (closes_ms := int(opens[-1]) + timeframe.milliseconds) > now_ms:
        return "unclosed", f"closed bars only, but that of {_iso(opens[-1])} closes at {_iso(closes_ms)}. Leave it out."
    return None


def _gap(opens: np.ndarray, timeframe: Timeframe) -> tuple[str, str] | None:
    if not (holes := np.flatnonzero(np.diff(opens) != timeframe.milliseconds)).size:
        return None
    missing = _iso(opens[holes[0]] + timeframe.milliseconds)
    return "gap", f"successive bars, but that of {missing} is missing. Fetch it; nothing is filled in."


def _value_problem(opens: np.ndarray, values: np.ndarray) -> tuple[str, str] | None:
    if (holes := np.argwhere(~np.isfinite(values))).size:
        row, column = holes[0]
        return (
            "not_finite",
            f"finite numbers, was {values[row, column]} as {_NAMES[column]} of {_iso(opens[row])}. Fetch it again.",
        )
    first, high, low, last, volume = values.T
    impossible = (low <= 0.0) | (volume < 0.0) | (high < np.maximum(first, last)) | (low > np.minimum(first, last))
    if not (found := np.flatnonzero(impossible)).size:
        return None
    shown = ", ".join(f"{name} {value:g}" for name, value in zip(_NAMES, values[found[0]].tolist(), strict=True))
    return (
        "impossible",
        f"prices above 0 with low <= open, close <= high, was {shown} at {_iso(opens[found[0]])}. Fetch it again.",
    )


def _unusable(symbol: str, needed: int, cause: str, problem: str) -> UnusableCandlesError:
    return UnusableCandlesError(f"Candles of {symbol}: expected {problem}", cause, needed)


def _iso(milliseconds: int | np.int64) -> str:
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC).isoformat(timespec="seconds")
