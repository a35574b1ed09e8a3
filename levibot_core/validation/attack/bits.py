"""Comparing results bit by bit, and saying in words what differs."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import polars as pl

Fingerprints = Mapping[str, bytes]
"""Name of a fitted thing to its exact bytes."""


def known_by(rows: pl.DataFrame, instant_ms: int) -> pl.DataFrame:
    """The rows whose decision time is not after the instant (UTC milliseconds)."""
    return rows.filter(pl.col("known_at").dt.epoch("ms") <= instant_ms)


def differences(
    before: pl.DataFrame, after: pl.DataFrame, key: Sequence[str], names: Sequence[str], when: str
) -> Iterator[str]:
    """Columns whose bits differ between two tables that should be the same, with the number of rows."""
    if not before.select(key).equals(after.select(key)):
        yield f"{before.height} rows become {after.height}, or others, {when}"
        return
    for name in names:
        one, other = (bits(frame[name]) for frame in (before, after))
        if changed := int((one != other).sum()):
            yield f"{name} changes in {changed} of {before.height} rows {when}"


def changed(before: Fingerprints, after: Fingerprints, when: str) -> Iterator[str]:
    """Fitted things whose bytes differ, or that are no longer there."""
    for name, value in before.items():
        if after.get(name) != value:
            yield f"{name} changes {when}"


def bits(column: pl.Series) -> npt.NDArray[np.int64]:
    """The 64 bits of every value as a whole number, int64 (n,); a null counts as NaN, in whole numbers as 0."""
    numbers = column if column.dtype == pl.Float64 else column.to_physical().cast(pl.Int64).fill_null(0)
    return np.ascontiguousarray(numbers.to_numpy()).view(np.int64)


def utc(instant_ms: int) -> str:
    """An instant as people read it."""
    return datetime.fromtimestamp(instant_ms / 1000, UTC).isoformat(timespec="minutes")
