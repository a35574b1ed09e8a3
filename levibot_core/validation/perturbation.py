"""Ways to change everything that became known after an instant, and nothing before it.

Pure functions on market tables. What must not notice the change is checked in `levibot_core.validation.attack`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from levibot_core.features.folds import FloatArray
from levibot_core.schemas import TIMESTAMP
from levibot_core.stores.training_rows import newest_revisions

Perturbation = Callable[[pl.DataFrame, int, np.random.Generator], pl.DataFrame]
"""From rows with ts and known_at, an instant (UTC milliseconds) and randomness to rows that differ after it."""

_EXTRA_ROWS = 24
_NOT_VALUES = ("revision",)


@dataclass(frozen=True, slots=True)
class MarketTables:
    """What features are computed from: tables of the catalogue, any number of revisions per row.

    Attributes:
        candles: symbol, ts, open, high, low, close, volume, known_at.
        funding: symbol, ts, rate, known_at; may be empty.
        fear_greed: ts, value, known_at; None or empty where there is no index.
    """

    candles: pl.DataFrame
    funding: pl.DataFrame
    fear_greed: pl.DataFrame | None = None

    def map(self, change: Callable[[pl.DataFrame], pl.DataFrame]) -> "MarketTables":
        """The tables after the same change to each."""
        fear_greed = None if self.fear_greed is None else change(self.fear_greed)
        return MarketTables(change(self.candles), change(self.funding), fear_greed)

    def perturbed(self, perturb: Perturbation, instant_ms: int, random: np.random.Generator) -> "MarketTables":
        """The tables with everything changed that became known after the instant."""
        return self.map(lambda table: perturb(table, instant_ms, random))


def remove(rows: pl.DataFrame, instant_ms: int, _: np.random.Generator) -> pl.DataFrame:
    """Cut the future off."""
    return rows.filter(~_is_later(instant_ms))


def blank(rows: pl.DataFrame, instant_ms: int, _: np.random.Generator) -> pl.DataFrame:
    """Replace the values of the future by NaN, whole numbers by 0."""
    return _replace_later(rows, instant_ms, lambda values: np.full_like(values, np.nan))


def noise(rows: pl.DataFrame, instant_ms: int, random: np.random.Generator) -> pl.DataFrame:
    """Multiply the values of the future by log-normal noise, and halve or double their level."""
    level = random.choice([0.5, 2.0])
    return _replace_later(rows, instant_ms, lambda values: values * level * random.lognormal(0.0, 0.05, values.shape))


def shuffle(rows: pl.DataFrame, instant_ms: int, random: np.random.Generator) -> pl.DataFrame:
    """Deal the rows of the future out anew, among times and symbols."""
    return _replace_later(rows, instant_ms, lambda values: random.permutation(values, axis=1))


def extend(rows: pl.DataFrame, instant_ms: int, random: np.random.Generator) -> pl.DataFrame:
    """Append invented rows after the last one of every symbol."""
    if rows.is_empty():
        return rows
    return pl.concat([rows, *(_invented(group, instant_ms, random) for group in _series(rows))])


def correct(rows: pl.DataFrame, instant_ms: int, random: np.random.Generator) -> pl.DataFrame:
    """Publish a correction of every known row after the instant; a table without revisions stays as it is."""
    if "revision" not in rows.columns or rows.is_empty():
        return rows
    known = newest_revisions(rows.filter(~_is_later(instant_ms)))
    published = pl.lit(instant_ms + 1, dtype=pl.Int64).cast(TIMESTAMP)
    corrected = known.with_columns(published.alias("known_at"), pl.col("revision") + 1)
    return pl.concat([rows, noise(corrected, instant_ms, random)])


PERTURBATIONS: Mapping[str, Perturbation] = {
    "cut off": remove,
    "replaced by NaN": blank,
    "replaced by noise": noise,
    "shuffled": shuffle,
    "extended by invented rows": extend,
    "a correction of everything before": correct,
}


def _series(rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """The rows of each symbol, or all of them where there is no symbol, by time."""
    if "symbol" not in rows.columns:
        yield rows.sort("ts")
        return
    yield from rows.sort("symbol", "ts").partition_by("symbol", maintain_order=True)


def _invented(group: pl.DataFrame, instant_ms: int, random: np.random.Generator) -> pl.DataFrame:
    times = group["ts"].dt.epoch("ms").unique().sort()
    step = int(times.diff().min()) if times.len() > 1 else 1  # type: ignore[arg-type]
    last = group.tail(1)
    ahead = pl.Series(range(1, _EXTRA_ROWS + 1), dtype=pl.Int64) * step
    beyond = max(instant_ms - last["known_at"].dt.epoch("ms").item(), 0) // step * step
    more = pl.concat([last] * _EXTRA_ROWS).with_columns(
        (last["ts"].dt.epoch("ms").item() + beyond + ahead).cast(TIMESTAMP).alias("ts"),
        (last["known_at"].dt.epoch("ms").item() + beyond + ahead).cast(TIMESTAMP).alias("known_at"),
    )
    return noise(more, instant_ms, random)


def _is_later(instant_ms: int) -> pl.Expr:
    return pl.col("known_at") > pl.lit(instant_ms, dtype=pl.Int64).cast(TIMESTAMP)


def _replace_later(
    rows: pl.DataFrame,
    instant_ms: int,
    change: Callable[[FloatArray], FloatArray],
) -> pl.DataFrame:
    """Change the number columns of the rows known after the instant; `change` sees them as (columns, rows)."""
    names = [name for name, dtype in rows.schema.items() if dtype.is_numeric() and name not in _NOT_VALUES]
    later = rows.select(_is_later(instant_ms)).to_series().to_numpy()
    values = np.stack([rows[name].cast(pl.Float64).to_numpy() for name in names]).copy()
    values[:, later] = change(values[:, later])
    return rows.with_columns(
        [_as(rows.schema[name], pl.Series(name, column)) for name, column in zip(names, values, strict=True)]
    )


def _as(dtype: pl.DataType, column: pl.Series) -> pl.Series:
    return column.fill_nan(0.0).round().cast(dtype) if dtype.is_integer() else column.cast(dtype)
