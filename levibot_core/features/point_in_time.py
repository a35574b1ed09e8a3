"""Point-in-time join: to every question (symbol, instant), the newest feature row that was known at that instant.

Two clocks count: a row belongs to its event time `ts`, and may be used from `known_at` on. Where the rows come from is
`levibot_core.stores.feature_store`'s knowledge.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from levibot_core.errors import SchemaError
from levibot_core.schemas import TIMESTAMP

IntArray = npt.NDArray[np.int64]

FEATURE_TS, FEATURE_KNOWN_AT = "feature_ts", "feature_known_at"
"""Columns of a joined frame: event time and knowledge time of the feature row that was taken."""

_NOTHING = -1
_RADIX_SORTED = np.iinfo(np.uint16).max


def join_as_known(
    spine: pl.DataFrame,
    features: pl.DataFrame,
    names: Sequence[str],
    *,
    as_of_ms: int | None = None,
    max_age_ms: int | None = None,
) -> pl.DataFrame:
    """Join to every spine row the feature row that was the newest one known at its time.

    With T the time of a spine row and K = min(T, as-of), the rows of its symbol with `known_at <= K` count. Of those,
    the one with the newest `ts` is taken, in its newest revision; so a row of an old bar that arrives late never
    hides a newer bar, and a revision never changes an answer for an instant before it was known.

    A row that becomes known when a newer one (of a newer `ts`, or a newer revision) is known already can never be the
    answer. Without such rows `known_at` grows with `ts`, and one backward as-of join on `known_at` gives the answer
    exactly. It runs on integers alone; feature columns are copied once, into the result. Features sorted by symbol
    and ts, as the lake gives them, and a spine sorted by symbol and time cost least.

    Args:
        spine: symbol (String), time (Datetime ms, UTC) and any further columns, in any order; rows may repeat.
        features: symbol (String), ts, known_at (both Datetime ms, UTC), optionally revision (Int32), and the
            columns `names`; in any order. Without `revision`, of two rows with the same symbol and ts the one known
            later is the newer revision.
        names: Columns of `features` to give.
        as_of_ms: Instant of knowledge, UTC milliseconds: nothing known after it is used. None sets no limit but T.
        max_age_ms: Rows with `T - ts` above this are not given. None gives rows however old.

    Returns:
        The columns and the row order of `spine`, then `feature_ts`, `feature_known_at` and the columns `names`; all
        of them null where nothing was known, or nothing young enough.

    Raises:
        SchemaError: a column is missing, named twice, null or of another type; a feature row is known before its own
            event time; or two feature rows are the same revision of the same row.
    """
    _check(spine, features, names)
    known = _known_rows(features)
    times = spine["time"].to_physical().to_numpy()
    limits = times if as_of_ms is None else np.minimum(times, as_of_ms)
    taken = known.newest(_encode(spine["symbol"], known.symbols)[1], limits)
    if max_age_ms is not None and features.height:
        ages = times - features["ts"].to_physical().to_numpy()[taken]
        taken = np.where(ages > max_age_ms, _NOTHING, taken)
    columns = features.select(pl.col("ts").alias(FEATURE_TS), pl.col("known_at").alias(FEATURE_KNOWN_AT), *names)
    return spine.hstack(_rows_of(columns, taken))


@dataclass(frozen=True, slots=True)
class _KnownRows:
    """Feature rows that can be an answer, in order of symbol and ts, which is also the order of knowledge.

    Attributes:
        symbols: Distinct symbols, in the order of their codes, String.
        keys: Code and `known_at` in one growing integer, int64 (n,): `code * stride + known_at - origin_ms + 1`.
        rows: Position of each in the feature frame, int64 (n,); None where they are all rows in their order.
        origin_ms: Earliest `known_at`.
        stride: Distance between two symbols' keys; one more than the largest key within a symbol.
        starts: First position in `keys` of each symbol, int64 (number of symbols,).
    """

    symbols: pl.Series
    keys: IntArray
    rows: IntArray | None
    origin_ms: int
    stride: int
    starts: IntArray

    def newest(self, codes: IntArray, limits: IntArray) -> IntArray:
        """Position in the feature frame of the last row known at each limit; -1 where there is none. Shape (m,)."""
        if not self.keys.size:
            return np.full(codes.size, _NOTHING, dtype=np.int64)
        wanted = codes * self.stride + np.clip(limits - self.origin_ms, -1, self.stride - 2) + 1
        order = _order(wanted, codes, limits)
        if order is None:
            positions = _last_at_or_before(wanted, self.keys)
        else:
            positions = np.empty(wanted.size, dtype=np.int64)
            positions[order] = _last_at_or_before(wanted[order], self.keys)
        # The row before a symbol's first one is another symbol's. An unknown symbol, code -1, reaches no start.
        starts = np.append(self.starts, self.keys.size)[codes]
        taken = positions if self.rows is None else self.rows[positions]
        return np.where(positions >= starts, taken, _NOTHING)


def _known_rows(features: pl.DataFrame) -> _KnownRows:
    symbols, codes = _encode(features["symbol"])
    if not codes.size:
        return _KnownRows(symbols, codes, None, 0, 1, codes)
    known_at = features["known_at"].to_physical().to_numpy()
    events = features["ts"].to_physical().to_numpy()
    if early := int((known_at < events).sum()):
        raise SchemaError(
            f"Expected feature rows to be known at their own ts or later, was earlier in {early} rows. A bar is known "
            "from its close on."
        )
    # Without revisions, what became known later corrects what was known before.
    revisions = features["revision"].cast(pl.Int64).to_numpy() if "revision" in features.columns else known_at
    origin_ms = int(known_at.min())
    stride = int(known_at.max()) - origin_ms + 3
    keys = codes * stride + (known_at - origin_ms + 1)
    rows = _in_order_of_events(codes, events, revisions)
    if rows is not None:
        keys = keys[rows]
    if not bool((keys[1:] > keys[:-1]).all()):
        # Whatever stands after a row is newer. Known no later than the row itself, it hides the row for good.
        earliest_newer = np.minimum.accumulate(keys[:0:-1])[::-1]
        kept = np.append(np.flatnonzero(keys[:-1] < earliest_newer), keys.size - 1)
        keys = keys[kept]
        rows = kept if rows is None else rows[kept]
    starts = np.searchsorted(keys, np.arange(symbols.len()) * stride)
    return _KnownRows(symbols, keys, rows, origin_ms, stride, starts)


def _in_order_of_events(codes: IntArray, events: IntArray, revisions: IntArray) -> IntArray | None:
    """Positions that sort rows by symbol, ts and revision; None where they are sorted already.

    Raises:
        SchemaError: two rows are the same revision of the same row.
    """
    not_later = np.flatnonzero(events[1:] <= events[:-1])
    if _grows(codes) and bool((codes[not_later + 1] > codes[not_later]).all()):
        return None
    first, last = int(events.min()), int(events.max())
    key = codes * (last - first + 1) + (events - first)
    order = _order(key, codes, events)
    if order is not None:
        key, revisions = key[order], revisions[order]
    ties = np.flatnonzero(key[1:] == key[:-1])
    if not ties.size or bool((revisions[ties + 1] > revisions[ties]).all()):
        return order
    by_revision = np.lexsort((revisions, key))
    key, revisions = key[by_revision], revisions[by_revision]
    if repeated := int(((key[1:] == key[:-1]) & (revisions[1:] == revisions[:-1])).sum()):
        raise SchemaError(
            f"Expected one feature row per symbol, ts and revision, was {repeated} repeated. "
            "Give each correction a revision of its own, or a later known_at."
        )
    return by_revision if order is None else order[by_revision]


def _encode(symbols: pl.Series, known: pl.Series | None = None) -> tuple[pl.Series, IntArray]:
    """The known symbols (by default the distinct ones, sorted), and the position of every row's among them.

    A symbol that is not known has position -1. int64 (n,).
    """
    begins = (symbols != symbols.shift()).fill_null(value=True).arg_true()
    apart = 2 * begins.len() > symbols.len()
    # Where each symbol's rows lie together, a few comparisons of text are enough.
    texts = symbols if apart else symbols.gather(begins)
    known = texts.unique().sort() if known is None else known
    codes = texts.cast(pl.Enum(known), strict=False).to_physical().cast(pl.Int64).fill_null(_NOTHING).to_numpy()
    lengths = np.diff(begins.to_numpy().astype(np.int64), append=symbols.len())
    return known, codes if apart else np.repeat(codes, lengths)


def _rows_of(columns: pl.DataFrame, taken: IntArray) -> pl.DataFrame:
    """The rows at these positions, all null where nothing was taken."""
    found = taken != _NOTHING
    if not found.any():
        return columns.clear(taken.size)
    # Polars takes several times longer to pick rows by positions with nulls than to blank rows afterwards.
    rows = columns[pl.Series(np.where(found, taken, 0)).cast(pl.get_index_type())]
    return rows if found.all() else rows.select(pl.when(pl.lit(pl.Series(found))).then(pl.all()))


def _order(keys: IntArray, codes: IntArray, times: IntArray) -> IntArray | None:
    """Positions that sort rows by symbol and time, of which the keys are made; None where they are sorted already.

    Rows with the same key come in any order.
    """
    if _grows(keys):
        return None
    if _grows(times) and codes.max() < _RADIX_SORTED:
        # Numpy sorts short integers by radix: an order of magnitude faster, and it keeps the order of time.
        return np.argsort((codes + 1).astype(np.uint16), kind="stable")
    return np.argsort(keys)


def _grows(values: IntArray) -> bool:
    return bool((values[1:] >= values[:-1]).all())


def _last_at_or_before(wanted: IntArray, keys: IntArray) -> IntArray:
    """Position of the last key at or below each wanted one, both growing; -1 where there is none. int64 (m,)."""
    # A merge of two sorted columns; a binary search per row would cost twice as much.
    left = pl.DataFrame({"key": pl.Series(wanted).set_sorted()})
    right = pl.DataFrame({"key": pl.Series(keys).set_sorted(), "position": np.arange(keys.size)})
    return left.join_asof(right, on="key")["position"].fill_null(_NOTHING).to_numpy()


def _check(spine: pl.DataFrame, features: pl.DataFrame, names: Sequence[str]) -> None:
    problems = [f"column {name} would stand there twice" for name, count in Counter(names).items() if count > 1]
    problems += [
        f"column {name} is one that the result adds; rename it"
        for name in spine.columns
        if name in {FEATURE_TS, FEATURE_KNOWN_AT, *names}
    ]
    problems += _unfit(spine, {"symbol": pl.String(), "time": TIMESTAMP})
    if problems:
        raise SchemaError("Expected a spine with columns symbol and time, was one where " + "; ".join(problems) + ".")
    types = {"symbol": pl.String(), "ts": TIMESTAMP, "known_at": TIMESTAMP}
    problems = [f"column {name} is missing" for name in names if name not in features.columns]
    problems += _unfit(features, types | ({"revision": pl.Int32()} if "revision" in features.columns else {}))
    if problems:
        raise SchemaError("Expected features that can be joined, was a frame where " + "; ".join(problems) + ".")


def _unfit(frame: pl.DataFrame, types: Mapping[str, pl.DataType]) -> Iterator[str]:
    for name, dtype in types.items():
        if name not in frame.columns:
            yield f"column {name} is missing"
        elif frame[name].dtype != dtype:
            yield f"column {name} expected {dtype}, was {frame[name].dtype}; cast it"
        elif nulls := frame[name].null_count():
            yield f"column {name} has {nulls} nulls"
