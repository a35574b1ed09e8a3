"""What two models' forecasts were worth, block by block: kept for ever, in files that are only ever added to.

    <folder>/<comparison>/000000.parquet

Every night adds at most one file per comparison, written whole. The evidence in them is computed anew from all of them
each time, by `levibot_core.validation.sequential_verdict`: there is no state that could disagree with its figures.
"""

import fcntl
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import polars as pl

from levibot_core.errors import LakeCorruptionError
from levibot_core.schemas import TIMESTAMP, Column, Table
from levibot_core.stores.files import write_atomically
from levibot_core.stores.paths import not_writable

PAIRED_BLOCKS: Final = Table(
    "paired_blocks",
    "Two models on the same bars: one row per block of one horizon, averaged over the symbols that both forecast.",
    (
        Column("decided_at", TIMESTAMP, "The close at which both forecast", "UTC"),
        Column("settled_at", TIMESTAMP, "When the last label of the block was known", "UTC"),
        Column("symbols", pl.Int64(), "How many were averaged"),
        Column("contender_log_loss", pl.Float64(), "Of the model that wants to be champion, or is", "nats"),
        Column("reference_log_loss", pl.Float64(), "Of the model it is compared with", "nats"),
        Column("contender_pnl", pl.Float64(), "Return of acting on its forecast, after costs", "fraction"),
        Column("reference_pnl", pl.Float64(), "The same of the model it is compared with", "fraction"),
    ),
    ("decided_at",),
)
_SUFFIX = ".parquet"


class ComparisonLog:
    """The comparisons below one folder. Several processes may add to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def append(self, comparison: str, blocks: pl.DataFrame) -> int:
        """Add the blocks that come after all that are there, as one new file; return how many they were.

        So a block counts once, whoever scores it again, and what was scored is never scored differently afterwards:
        neither by a corrected candle, nor by a bar that arrives late inside the time that was looked at already.

        Args:
            comparison: Name of the comparison.
            blocks: Columns of `PAIRED_BLOCKS`.

        Raises:
            SchemaError: columns are missing or of another type, or a block is there twice; nothing is written.
            LakeCorruptionError: a file of the comparison cannot be read; nothing is written.
            HomeNotWritableError: the operating system refused; nothing is written.
        """
        rows = PAIRED_BLOCKS.enforce(blocks)
        folder = self.folder / comparison
        with _alone(folder):
            there = self.read(comparison)
            new = rows if there.is_empty() else rows.filter(pl.col("decided_at") > there["decided_at"].max())
            if not new.is_empty():
                path = folder / f"{len(_files(folder)):06d}{_SUFFIX}"
                write_atomically(path, lambda temporary: new.write_parquet(temporary, compression="zstd"))
        return new.height

    def read(self, comparison: str) -> pl.DataFrame:
        """Every block of a comparison in order of time, columns of `PAIRED_BLOCKS`; none where there never was one.

        Raises:
            LakeCorruptionError: a file cannot be read: evidence without it would be about other bars.
        """
        parts = [_read(path) for path in _files(self.folder / comparison)]
        return pl.concat([PAIRED_BLOCKS.empty(), *parts]).sort("decided_at")

    @property
    def names(self) -> list[str]:
        """The comparisons there are."""
        return sorted(path.name for path in self.folder.glob("*") if path.is_dir())


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"[!.]*{_SUFFIX}"))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        raise not_writable(folder, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _read(path: Path) -> pl.DataFrame:
    try:
        frame = pl.read_parquet(io.BytesIO(path.read_bytes()), hive_partitioning=False)
        return frame.select(PAIRED_BLOCKS.polars_schema.names()).cast(PAIRED_BLOCKS.polars_schema)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise LakeCorruptionError(
            f"Expected {path} to hold the blocks of a comparison, was unreadable ({str(error).splitlines()[0]}). "
            "Restore it from a backup, or move the comparison's folder away: it then begins anew."
        ) from error
