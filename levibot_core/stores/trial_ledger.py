"""The lifetime ledger: every trial that ever finished, and what acting on it would have earned day by day.

Gates that judge a model by how many were tried before it read it here. It is only ever added to: one Parquet file per
run of a study, written whole, never rewritten and never removed. What a trial is, is told by `levibot_core.models`.
"""

import fcntl
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl

from levibot_core.errors import LakeCorruptionError, SchemaError
from levibot_core.stores.files import write_atomically
from levibot_core.stores.paths import not_writable

LEDGER_SCHEMA = pl.Schema(
    {
        "model_name": pl.String(),
        "family": pl.String(),
        "study": pl.String(),
        "trial": pl.Int64(),  # Number within the study; with its name the key.
        "state": pl.String(),  # complete or pruned
        "parameters": pl.String(),  # JSON
        "log_loss": pl.Float64(),  # Validation rows, nats, before calibration; as far as a pruned trial came.
        "profit_weighted_log_loss": pl.Float64(),
        "sharpe_per_day": pl.Float64(),  # After costs, not annualised.
        "returns": pl.List(pl.Float64()),  # After costs, one per day of `days`, fractions.
        "days": pl.List(pl.Date()),  # UTC
        "seconds": pl.Float64(),
        "snapshot_id": pl.String(),
        "seed": pl.Int64(),
        "finished_at": pl.Datetime("ms", "UTC"),
    }
)
_KEY = ["study", "trial"]


class TrialLedger:
    """All trials ever, below one folder. Several processes may add to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def append(self, trials: pl.DataFrame) -> int:
        """Add those trials of one study that are not there yet, as one new file; return how many they were.

        So a trial is there exactly once, however often a study is interrupted, resumed and appended.

        Args:
            trials: Columns of `LEDGER_SCHEMA`, of one study.

        Raises:
            SchemaError: columns are missing or of another type, a trial is there twice, or not all are of one study.
            LakeCorruptionError: a file of the ledger cannot be read; nothing is written.
            HomeNotWritableError: the operating system refused; nothing is written.
        """
        if trials.is_empty():
            return 0
        rows = _enforced(trials)
        study = str(rows["study"][0])
        with self._alone():
            known = self._files_of(study)
            there = pl.concat([_read(path) for path in known]) if known else LEDGER_SCHEMA.to_frame()
            new = rows.join(there.select(_KEY), on=_KEY, how="anti", maintain_order="left")
            if not new.is_empty():
                path = self.folder / f"{study}.{len(known):04d}.parquet"
                write_atomically(path, lambda temporary: new.write_parquet(temporary, compression="zstd"))
        return new.height

    def read(self, model_name: str | None = None) -> pl.DataFrame:
        """Every trial ever, of one model or of all; columns of `LEDGER_SCHEMA`, sorted by study and trial.

        Raises:
            LakeCorruptionError: a file cannot be read: a count that leaves trials out would flatter.
        """
        files = sorted(self.folder.glob("[!.]*.parquet"))
        everything = pl.concat([_read(path) for path in files]) if files else LEDGER_SCHEMA.to_frame()
        if model_name is not None:
            everything = everything.filter(pl.col("model_name") == model_name)
        return everything.sort(_KEY)

    def returns_matrix(self, model_name: str) -> tuple[list[date], np.ndarray]:
        """The daily returns of every trial of a model beside each other, in the order in which trials finished.

        Returns:
            The days on which any trial has a return, in order, and float64 (days, trials), NaN where one has none.

        Raises:
            LakeCorruptionError: as `read`.
        """
        trials = self.read(model_name).sort("finished_at", *_KEY)
        long = (
            trials.with_row_index("column").select("column", "days", "returns").explode("days", "returns").drop_nulls()
        )
        days = long["days"].unique().sort()
        matrix = np.full((days.len(), trials.height), np.nan)
        matrix[days.search_sorted(long["days"]).to_numpy(), long["column"].to_numpy()] = long["returns"].to_numpy()
        return days.to_list(), matrix

    def recorded_until(self, study: str) -> float:
        """When trials of that study were last added, seconds since 1970; 0 where none ever were."""
        return max((path.stat().st_mtime for path in self._files_of(study)), default=0.0)

    def _files_of(self, study: str) -> list[Path]:
        return sorted(path for path in self.folder.glob("[!.]*.parquet") if path.name.rsplit(".", 2)[0] == study)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.folder / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
        except OSError as error:
            raise not_writable(self.folder, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _enforced(trials: pl.DataFrame) -> pl.DataFrame:
    try:
        rows = trials.select(LEDGER_SCHEMA.names())
    except pl.exceptions.PolarsError as error:
        raise SchemaError(
            f"Expected trials with the columns of the ledger, but {str(error).splitlines()[0]}. Give each of "
            f"{', '.join(LEDGER_SCHEMA)}."
        ) from error
    if rows.schema != LEDGER_SCHEMA:
        found = {name: kind for name, kind in rows.schema.items() if kind != LEDGER_SCHEMA[name]}
        raise SchemaError(f"Expected the column types of the ledger, was {found}. Cast them as LEDGER_SCHEMA says.")
    if rows["study"].n_unique() != 1 or not rows.select(_KEY).is_unique().all():
        raise SchemaError("Expected each trial of one study once, was several studies or a trial twice. Split them.")
    uneven = rows.filter(pl.col("returns").list.len() != pl.col("days").list.len())
    if not uneven.is_empty():
        raise SchemaError(f"Expected one return per day, was not so for {uneven.height} trials. Give as many of both.")
    return rows


def _read(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(io.BytesIO(path.read_bytes())).select(LEDGER_SCHEMA.names()).cast(LEDGER_SCHEMA)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise LakeCorruptionError(
            f"Expected {path} to hold trials, was unreadable ({str(error).splitlines()[0]}). Restore it from a backup: "
            "without it, models are judged as if those trials had never been run."
        ) from error
