"""The lake: Hive-partitioned Parquet files, written atomically, verified when read, read as of an instant.

Where a partition lies is `levibot_core.stores.paths`' knowledge; which of two revisions counts is
`levibot_core.market.revisions`'. The lake holds no lock: one process at a time writes a dataset (a lifecycle holds
the home's lock), any number may read meanwhile.
"""

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from levibot_core.errors import LakeCorruptionError, MarketDataUnavailableError
from levibot_core.market.revisions import latest_as_of, merge_revisions
from levibot_core.market.sources.base import SourceIdentity
from levibot_core.market.symbols import path_symbol
from levibot_core.schemas import TIMESTAMP
from levibot_core.stores.digest import frame_digest
from levibot_core.stores.files import write_atomically, write_json_atomically
from levibot_core.stores.paths import Dataset

_MONTH = pl.col("ts").dt.strftime("%Y-%m")
# Parquet as Polars writes it has no checksum: four of five flipped bits would pass as data.
_DIGEST = "levibot.sha256"
_CURRENT_SOURCE = "current_source.json"


@dataclass(frozen=True, slots=True)
class WriteReport:
    """What a write did, in rows; `files` are the partition files that changed, relative to the lake.

    `rows_total` is what the partitions that the write touched on hold afterwards, all revisions counted.
    """

    rows_new: int = 0
    rows_revised: int = 0
    rows_unchanged: int = 0
    rows_total: int = 0
    files: tuple[str, ...] = ()

    def plus(self, other: "WriteReport") -> "WriteReport":
        """Both reports as one."""
        return WriteReport(
            self.rows_new + other.rows_new,
            self.rows_revised + other.rows_revised,
            self.rows_unchanged + other.rows_unchanged,
            self.rows_total + other.rows_total,
            self.files + other.files,
        )


class Lake:
    """A lake below `root`. Two lakes never touch each other; the folder is made by the first write."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def append(self, dataset: Dataset, frame: pl.DataFrame, observed_at_ms: int) -> WriteReport:
        """Merge rows into a bitemporal dataset, partition by partition; the same call again changes no file.

        Rows that equal the newest revision known are dropped, changed ones become a new revision.

        Args:
            dataset: A dataset whose table has `known_at` and `revision`.
            frame: Rows in the schema of the dataset's table, in any order.
            observed_at_ms: Instant at which a changed value was seen, UTC milliseconds; its `known_at`.

        Raises:
            SchemaError: the frame does not fit the catalogue; nothing is written.
            LakeCorruptionError: a partition's file cannot be read; partitions before it are already written.
            HomeNotWritableError: the lake cannot be written; the partition's old file is as it was.
        """
        report = WriteReport()
        for file, incoming in self._partitions(dataset, dataset.table.enforce(frame)):
            path = self.root / file
            existing = self._read_file(path, dataset) if path.exists() else dataset.table.empty()
            merged = merge_revisions(existing, incoming, dataset.table, observed_at_ms)
            changed = merged.rows_new + merged.rows_revised > 0
            if changed:
                _write(path, merged.frame)
            report = report.plus(
                WriteReport(
                    merged.rows_new,
                    merged.rows_revised,
                    merged.rows_unchanged,
                    merged.frame.height,
                    (file,) if changed else (),
                )
            )
        return report

    def upsert(self, dataset: Dataset, frame: pl.DataFrame) -> WriteReport:
        """Put rows into a dataset without revisions: a row with the key of one that is there takes its place.

        A partition that would get the same bytes is left alone.

        Raises:
            SchemaError: the frame does not fit the catalogue; nothing is written.
            LakeCorruptionError: a partition's file cannot be read; partitions before it are already written.
            HomeNotWritableError: the lake cannot be written; the partition's old file is as it was.
        """
        report = WriteReport()
        for file, rows in self._partitions(dataset, dataset.table.enforce(frame)):
            path = self.root / file
            kept = dataset.table.empty()
            if path.exists():
                kept = self._read_file(path, dataset).join(rows, on=dataset.table.key, how="anti")
            merged = pl.concat([kept, rows]).sort(dataset.table.key)
            changed = _write(path, merged)
            counted = WriteReport(rows_new=rows.height, files=(file,)) if changed else WriteReport(0, 0, rows.height)
            report = report.plus(counted).plus(WriteReport(rows_total=merged.height))
        return report

    def read(
        self,
        dataset: Dataset,
        symbols: Sequence[str] | None = None,
        start_ms: int | None = None,
        end_ms: int | None = None,
        as_of_ms: int | None = None,
    ) -> pl.DataFrame:
        """Rows with `ts` in `[start_ms, end_ms)`, as they were known at `as_of_ms` (UTC milliseconds).

        Of a bitemporal table the newest revision with `known_at <= as_of_ms` is returned, of every other table the
        rows with `known_at <= as_of_ms`; None is the newest of all. What is not there is not an error.

        Returns:
            The dataset's columns, sorted by its key without `revision`, on which rows are unique.

        Raises:
            LakeCorruptionError: a file cannot be read; the message names it and the remedy.
        """
        frame = self._read_revisions(dataset, symbols, start_ms, end_ms)
        key = [name for name in dataset.table.key if name != "revision"]
        if "revision" in dataset.table.key:
            return latest_as_of(frame, dataset.table, as_of_ms).sort(key)
        if as_of_ms is not None:
            frame = frame.filter(pl.col("known_at") <= _instant(as_of_ms))
        return frame.sort(key)

    def read_all_revisions(
        self,
        dataset: Dataset,
        symbols: Sequence[str] | None = None,
        start_ms: int | None = None,
        end_ms: int | None = None,
        columns: Sequence[str] | None = None,
    ) -> pl.DataFrame:
        """Every row with `ts` in `[start_ms, end_ms)`, corrections and what they corrected, sorted by the key.

        Args:
            dataset: What to read.
            symbols: Inside spelling; None is all there are.
            start_ms: First `ts`, UTC milliseconds; None is the first there is.
            end_ms: `ts` from which no row is given; None gives all.
            columns: Columns to give beside the key's, to spare memory; None gives all.

        Raises:
            LakeCorruptionError: a file cannot be read.
        """
        names = None if columns is None else [*dict.fromkeys([*dataset.table.key, *columns])]
        return self._read_revisions(dataset, symbols, start_ms, end_ms, names).sort(dataset.table.key)

    def latest_known_at_ms(self, dataset: Dataset, symbol: str, before_ms: int | None = None) -> int:
        """When the symbol's newest row (by `ts`) became known, UTC milliseconds; of a candle, its close time.

        Later corrections do not count: the row's first revision does.

        Args:
            dataset: A dataset that splits by pair and month.
            symbol: Inside spelling.
            before_ms: Look only at rows known at this instant or before.

        Raises:
            MarketDataUnavailableError: there is no such row.
            LakeCorruptionError: a file cannot be read.
        """
        for path in reversed(self._files(dataset, [symbol], None, None)):
            rows = self._read_file(path, dataset)
            if before_ms is not None:
                rows = rows.filter(pl.col("known_at") <= _instant(before_ms))
            if rows.height:
                newest = rows.filter(pl.col("ts") == pl.col("ts").max())
                return int(newest["known_at"].dt.epoch("ms").min())  # type: ignore[arg-type]
        until = f" known by {_iso(before_ms)}" if before_ms is not None else ""
        raise MarketDataUnavailableError(
            f"Expected rows of {symbol}{until} in {self.root / dataset.folder}, but there are none. "
            "Ingest this symbol for that time first."
        )

    def set_current_source(self, identity: SourceIdentity) -> None:
        """Remember which source the lake was last filled from.

        Raises:
            HomeNotWritableError: the lake cannot be written.
        """
        write_json_atomically(self.root / _CURRENT_SOURCE, asdict(identity))

    def current_source(self) -> SourceIdentity | None:
        """The source the lake was last filled from; None when it never was.

        Raises:
            LakeCorruptionError: the file that says so cannot be understood.
        """
        path = self.root / _CURRENT_SOURCE
        if not path.exists():
            return None
        try:
            return SourceIdentity(**json.loads(path.read_text("utf-8")))
        except (ValueError, TypeError) as error:
            raise LakeCorruptionError(
                f"Expected {path} to name a market source, was unreadable ({error}). "
                "Delete it, then ingest again; no market data is lost."
            ) from error

    def _partitions(self, dataset: Dataset, frame: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
        """The partition files that the (sorted) rows belong to, relative to the lake, each with its rows."""
        if frame.is_empty():
            return
        if not dataset.by_pair_and_month:
            yield dataset.file(), frame
            return
        parts = frame.with_columns(_month=_MONTH).partition_by("symbol", "_month", maintain_order=True, as_dict=True)
        for (symbol, month), rows in parts.items():
            yield dataset.file(symbol, month), rows.drop("_month")

    def _files(
        self, dataset: Dataset, symbols: Sequence[str] | None, start_ms: int | None, end_ms: int | None
    ) -> list[Path]:
        """Existing partition files that may hold such rows, sorted; temporary files never match."""
        folder = self.root / dataset.folder
        if not dataset.by_pair_and_month:
            return sorted(folder.glob("part.parquet"))
        pairs = None if symbols is None else {f"pair={path_symbol(symbol)}" for symbol in symbols}
        first = "" if start_ms is None else f"month={_iso(start_ms)[:7]}"
        last = "month=~" if end_ms is None else f"month={_iso(end_ms)[:7]}"
        return sorted(
            path
            for path in folder.glob("pair=*/month=*/part.parquet")
            if (pairs is None or path.parent.parent.name in pairs) and first <= path.parent.name <= last
        )

    def _read_revisions(
        self,
        dataset: Dataset,
        symbols: Sequence[str] | None,
        start_ms: int | None,
        end_ms: int | None,
        names: Sequence[str] | None = None,
    ) -> pl.DataFrame:
        columns = dataset.table.polars_schema.names() if names is None else names
        files = self._files(dataset, symbols, start_ms, end_ms)
        parts = (self._read_file(path, dataset).select(columns) for path in files)
        frame = pl.concat([dataset.table.empty().select(columns), *parts])
        if start_ms is not None:
            frame = frame.filter(pl.col("ts") >= _instant(start_ms))
        if end_ms is not None:
            frame = frame.filter(pl.col("ts") < _instant(end_ms))
        return frame

    def _read_file(self, path: Path, dataset: Dataset) -> pl.DataFrame:
        content = path.read_bytes()  # not memory-mapped: a file that shrinks under a map would kill the process
        try:
            frame = pl.read_parquet(io.BytesIO(content), hive_partitioning=False)
            written = pl.read_parquet_metadata(io.BytesIO(content)).get(_DIGEST)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            raise self._corrupt(path, f"was unreadable ({str(error).splitlines()[0]})") from error
        if frame.schema != dataset.table.polars_schema:
            raise self._corrupt(path, "was written with other columns or types than the catalogue declares")
        if written != frame_digest(frame):
            raise self._corrupt(path, "was altered after it was written: its content is not what its digest says")
        return frame

    def _corrupt(self, path: Path, was: str) -> LakeCorruptionError:
        return LakeCorruptionError(
            f"Expected {path} to be a Parquet file of the lake, {was}. Move the file away and run again: its "
            "partition is fetched or computed anew; older revisions that only this file held are lost."
        )


def _write(path: Path, frame: pl.DataFrame) -> bool:
    """Write the frame unless the file already has these bytes; says whether it wrote."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", metadata={_DIGEST: frame_digest(frame)})
    content = buffer.getvalue()
    if path.exists() and path.read_bytes() == content:
        return False
    write_atomically(path, lambda temporary: _fill(temporary, content))
    return True


def _fill(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _instant(milliseconds: int) -> pl.Expr:
    return pl.lit(milliseconds, dtype=pl.Int64).cast(TIMESTAMP)


def _iso(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat()
