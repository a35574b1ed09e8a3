"""Ways to change everything that became known after an instant, and nothing before it.

Pure functions on candles and funding. What must not notice the change is checked in `levibot_core.validation.leakage`.
"""

from collections.abc import Callable, Mapping

import numpy as np
import polars as pl

from levibot_core.features.folds import FloatArray
from levibot_core.schemas import TIMESTAMP

Perturbation = Callable[[pl.DataFrame, int, np.random.Generator], pl.DataFrame]
"""From rows with symbol, ts and known_at, an instant (UTC milliseconds) and randomness to rows that differ after it."""

_EXTRA_ROWS = 24


def remove(rows: pl.DataFrame, instant_ms: int, _: np.random.Generator) -> pl.DataFrame:
    """Cut the future off."""
    return rows.filter(~_is_later(instant_ms))


def blank(rows: pl.DataFrame, instant_ms: int, _: np.random.Generator) -> pl.DataFrame:
    """Replace the values of the future by NaN."""
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
    parts = [rows]
    for group in rows.sort("symbol", "ts").partition_by("symbol", maintain_order=True):
        times = group["ts"].dt.epoch("ms")
        step = int(times.diff().min() or 1) if group.height > 1 else 1  # type: ignore[arg-type]
        last = group.tail(1)
        ahead = pl.Series(range(1, _EXTRA_ROWS + 1), dtype=pl.Int64) * step
        beyond = max(instant_ms - last["known_at"].dt.epoch("ms").item(), 0) // step * step
        more = pl.concat([last] * _EXTRA_ROWS).with_columns(
            (last["ts"].dt.epoch("ms").item() + beyond + ahead).cast(TIMESTAMP).alias("ts"),
            (last["known_at"].dt.epoch("ms").item() + beyond + ahead).cast(TIMESTAMP).alias("known_at"),
        )
        parts.append(noise(more, instant_ms, random))
    return pl.concat(parts)


PERTURBATIONS: Mapping[str, Perturbation] = {
    "cut off": remove,
    "replaced by NaN": blank,
    "replaced by noise": noise,
    "shuffled": shuffle,
    "extended by invented rows": extend,
}


def _is_later(instant_ms: int) -> pl.Expr:
    return pl.col("known_at") > pl.lit(instant_ms, dtype=pl.Int64).cast(TIMESTAMP)


def _replace_later(
    rows: pl.DataFrame,
    instant_ms: int,
    change: Callable[[FloatArray], FloatArray],
) -> pl.DataFrame:
    """Change the float columns of the rows known after the instant; `change` sees them as (columns, rows)."""
    names = [name for name, dtype in rows.schema.items() if dtype == pl.Float64]
    later = rows.select(_is_later(instant_ms)).to_series().to_numpy()
    values = np.stack([rows[name].to_numpy() for name in names]).copy()
    values[:, later] = change(values[:, later])
    return rows.with_columns([pl.Series(name, column) for name, column in zip(names, values, strict=True)])
