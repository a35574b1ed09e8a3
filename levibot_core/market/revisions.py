"""Bitemporal rows: how a correction is appended as a revision, and how a table is read as of an instant.

Pure functions on frames. Which files hold them is decided in `levibot_core.stores.lake`.
"""

from dataclasses import dataclass

import polars as pl

from levibot_core.errors import SchemaError
from levibot_core.schemas import TIMESTAMP, Table

_REVISION = "revision"
_KNOWN_AT = "known_at"


@dataclass(frozen=True, slots=True)
class MergeResult:
    """A merged table, all revisions, sorted by its key; and what became of the incoming rows."""

    frame: pl.DataFrame
    rows_new: int
    rows_revised: int
    rows_unchanged: int


def merge_revisions(existing: pl.DataFrame, incoming: pl.DataFrame, table: Table, observed_at_ms: int) -> MergeResult:
    """Append to `existing` what `incoming` says anew. Rows of `existing` are never altered or removed.

    A row is compared with the newest revision of its key in every column but `known_at` and `revision`. Equal rows
    are dropped; a new key is appended as it is; a changed row is appended with the next revision, known from
    `observed_at_ms` on, or from when it can be known, or 1 ms after the revision it replaces, whichever is latest.
    So reading as of any instant before the observation gives what it gave before.

    Args:
        existing: Any number of revisions per key, schema of `table`; may be empty.
        incoming: One row per key, all with revision 0, schema of `table`.
        table: A table whose key ends with `revision`.
        observed_at_ms: When the incoming rows were seen, UTC milliseconds.

    Raises:
        SchemaError: a frame does not fit the table, or an incoming row is not revision 0.
    """
    existing, incoming = table.enforce(existing), table.enforce(incoming)
    if revisions := [revision for revision in incoming[_REVISION].unique().to_list() if revision != 0]:
        raise SchemaError(f"Table {table.name!r}: incoming rows expected revision 0, was {revisions}.")
    key = _bare_key(table)
    values = [column.name for column in table.columns if column.name not in (*table.key, _KNOWN_AT)]
    newest = existing.group_by(key, maintain_order=True).last()
    joined = incoming.join(newest, on=key, how="left", suffix="_before", maintain_order="left")
    known = pl.col(f"{_REVISION}_before").is_not_null()
    equal = pl.all_horizontal([pl.col(name).eq_missing(pl.col(f"{name}_before")) for name in values])
    observed_at = pl.lit(observed_at_ms, pl.Int64).cast(TIMESTAMP)
    replaced_at = pl.col(f"{_KNOWN_AT}_before") + pl.duration(milliseconds=1, time_unit="ms")
    revised = joined.filter(known & ~equal).with_columns(
        (pl.col(f"{_REVISION}_before") + 1).cast(pl.Int32).alias(_REVISION),
        pl.max_horizontal(observed_at, pl.col(_KNOWN_AT), replaced_at).alias(_KNOWN_AT),
    )
    new = joined.filter(~known)
    names = table.polars_schema.names()
    merged = pl.concat([existing, new.select(names), revised.select(names)]).sort(table.key)
    return MergeResult(merged, new.height, revised.height, incoming.height - new.height - revised.height)


def latest_as_of(frame: pl.DataFrame, table: Table, as_of_ms: int | None) -> pl.DataFrame:
    """The newest revision of every key among the rows known at `as_of_ms` (UTC ms); None stands for all rows.

    Returns:
        The table's columns, at most one row per key without revision, sorted by key.
    """
    if as_of_ms is not None:
        frame = frame.filter(pl.col(_KNOWN_AT) <= pl.lit(as_of_ms, pl.Int64).cast(TIMESTAMP))
    return frame.sort(table.key).unique(_bare_key(table), keep="last", maintain_order=True)


def _bare_key(table: Table) -> list[str]:
    if _REVISION not in table.key:
        raise SchemaError(f"Table {table.name!r} expected a key that ends with revision, was {table.key}.")
    return [name for name in table.key if name != _REVISION]
