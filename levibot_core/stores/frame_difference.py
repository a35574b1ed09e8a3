"""What differs between two tables with the same key, to the bit.

Used to say how a snapshot differs from what it would be now; whether two tables are the same at all is told faster by
`levibot_core.stores.digest`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl


@dataclass(frozen=True, slots=True)
class FrameDifference:
    """How one table differs from another.

    Attributes:
        gone: Keys that only the first table has.
        added: Keys that only the second has.
        changed: Keys that both have with different values, and one Boolean column per column that differs anywhere:
            whether it differs in that row. In the order of the first table.
        other_columns: Columns that one of the two lacks, or has with another type.
    """

    gone: pl.DataFrame
    added: pl.DataFrame
    changed: pl.DataFrame
    other_columns: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that differ in at least one row that both tables have."""
        return tuple(name for name in self.changed.columns if name not in self.gone.columns)


def compare_frames(before: pl.DataFrame, after: pl.DataFrame, key: Sequence[str]) -> FrameDifference:
    """Compare two tables in which the key is unique; numbers are equal when their bits are."""
    names = [name for name in before.columns if name not in key and after.schema.get(name) == before.schema[name]]
    others = sorted((set(before.columns) ^ set(after.columns)) | (set(before.columns) - set(names) - set(key)))
    shared = before.select(key).with_row_index("_before")
    shared = shared.join(after.select(key).with_row_index("_after"), on=key, maintain_order="left")
    differing = {}
    for name in names:
        differs = _differs(before[name].gather(shared["_before"]), after[name].gather(shared["_after"]))
        if differs.any():
            differing[name] = differs
    changed = shared.select(key).with_columns(**differing)
    return FrameDifference(
        gone=before.select(key).join(after, on=key, how="anti", maintain_order="left"),
        added=after.select(key).join(before, on=key, how="anti", maintain_order="left"),
        changed=changed.filter(pl.any_horizontal(pl.col(*differing))) if differing else changed.clear(),
        other_columns=tuple(others),
    )


def _differs(before: pl.Series, after: pl.Series) -> pl.Series:
    if before.dtype == pl.Float64 and not before.null_count() and not after.null_count():
        return pl.Series(before.to_numpy().view("uint64") != after.to_numpy().view("uint64"))
    return before.ne_missing(after)
