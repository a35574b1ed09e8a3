"""Which revision of a bar each row sees: the newest one known at the row's decision time.

A correction that arrives later never changes a row that was decided before it. Bars that became known late without
a correction are `inputs`' matter: a window that needs one is not whole until then.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import polars as pl

from levibot_core.schemas import TIMESTAMP


@dataclass(frozen=True, slots=True)
class View:
    """Candles as rows decided in [from_ms, until_ms) see them, one revision per bar; None is without bound."""

    candles: pl.DataFrame
    from_ms: int | None = None
    until_ms: int | None = None


def views(candles: pl.DataFrame, window_ms: int) -> Iterator[View]:
    """Split the decision times where a correction becomes known, and give each part the candles it knows.

    Args:
        candles: Symbol, ts, known_at and, where there are corrections, revision: any number of revisions per bar.
        window_ms: Longest time from a bar's open to the close of a row that looks at it. Corrections that became
            known after that change no row and are left out.
    """
    if "revision" not in candles.columns or (ordered := _ordered(candles)) is None:
        yield View(candles)
        return
    first = ordered.unique(["symbol", "ts"], keep="first", maintain_order=True)
    corrections = ordered.join(first, on=["symbol", "ts", "revision"], how="anti")
    in_time = corrections.filter(
        pl.col("known_at") < pl.col("ts") + pl.duration(milliseconds=window_ms, time_unit="ms")
    )
    instants = in_time["known_at"].dt.epoch("ms").unique().sort().to_list()
    bounds = [None, *instants, None]
    for from_ms, until_ms in pairwise(bounds):
        yield View(first if from_ms is None else _known_by(first, corrections, from_ms), from_ms, until_ms)


def _ordered(candles: pl.DataFrame) -> pl.DataFrame | None:
    """The candles by revision, or None where no bar has more than one."""
    if candles["revision"].max() == 0:
        return None
    return candles.sort("symbol", "ts", "revision")


def _known_by(first: pl.DataFrame, corrections: pl.DataFrame, instant_ms: int) -> pl.DataFrame:
    known = corrections.filter(pl.col("known_at") <= pl.lit(instant_ms, dtype=pl.Int64).cast(TIMESTAMP))
    newest = known.unique(["symbol", "ts"], keep="last", maintain_order=True)
    return pl.concat([first.join(newest, on=["symbol", "ts"], how="anti"), newest])
