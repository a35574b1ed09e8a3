"""Where everything lies inside a LEVIBOT_HOME, and how lake partitions are named. The one place that knows.

Nothing here reads or writes data; `levibot_core.stores.lake` and its neighbours do.
"""

import errno
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from levibot_core.errors import HomeNotWritableError
from levibot_core.market.symbols import path_symbol
from levibot_core.schemas import CANDLES, FEAR_GREED, FEATURES, FUNDING_RATES, Table

WORKING_SPACE_BYTES = 256 << 20
"""A lifecycle over 168 days of three symbols leaves 109 MB in a new home; temporary files come on top."""


@dataclass(frozen=True, slots=True)
class Home:
    """The folder that holds all state of one installation. Two homes never touch each other."""

    root: Path

    @classmethod
    def at(cls, root: Path) -> "Home":
        """A home at that folder, made absolute so that it survives a change of working directory."""
        return cls(root.expanduser().absolute())

    @property
    def lake(self) -> Path:
        """Hive-partitioned Parquet: the truth."""
        return self.root / "lake"

    @property
    def warehouse(self) -> Path:
        """The DuckDB file that dbt builds over the lake; derived, can be deleted."""
        return self.root / "warehouse.duckdb"

    @property
    def dbt_artifacts(self) -> Path:
        """What dbt's last build said and compiled, and what it understood of the project, to be reused by the next."""
        return self.root / "dbt"

    @property
    def snapshots(self) -> Path:
        """Training snapshots, one folder per id."""
        return self.root / "snapshots"

    @property
    def mlflow(self) -> Path:
        """MLflow's database and artifacts."""
        return self.root / "mlflow"

    @property
    def mlflow_database(self) -> Path:
        """The SQLite file of MLflow's runs and registry."""
        return self.mlflow / "mlflow.db"

    @property
    def tracking_uri(self) -> str:
        """MLflow's default tracking and registry address."""
        return f"sqlite:///{self.mlflow_database}"

    @property
    def dagster(self) -> Path:
        """DAGSTER_HOME."""
        return self.root / "dagster"

    @property
    def online_store(self) -> Path:
        """The SQLite file with the newest feature vector of every symbol."""
        return self.root / "online.sqlite"

    @property
    def trials(self) -> Path:
        """Optuna journals, one per study."""
        return self.root / "trials"

    @property
    def trial_ledger(self) -> Path:
        """Every trial that ever finished, in files that are only ever added to."""
        return self.trials / "ledger"

    @property
    def models(self) -> Path:
        """What a training left for its later stages, one folder per MLflow run."""
        return self.root / "models"

    @property
    def reports(self) -> Path:
        """Reports that people read: backtests, drift, data quality, model cards."""
        return self.root / "reports"

    @property
    def backtests(self) -> Path:
        """Reports of backtests: `<id>.json` and `<id>.html`."""
        return self.reports / "backtests"

    @property
    def logs(self) -> Path:
        """Logs and append-only audit files."""
        return self.root / "logs"

    @property
    def audit_log(self) -> Path:
        """Who changed what: every promotion and rollback, chained by hashes."""
        return self.logs / "audit.jsonl"

    @property
    def alerts(self) -> Path:
        """Every alert, one JSON line each, with what became of its delivery."""
        return self.logs / "alerts.jsonl"

    @property
    def alert_webhook(self) -> Path:
        """The address that alerts are posted to, a secret; without the file nobody is told."""
        return self.secrets / "alert_webhook"

    @property
    def served_vectors(self) -> Path:
        """Every feature vector that a forecast was made from, one file per UTC day."""
        return self.logs / "served"

    @property
    def predictions(self) -> Path:
        """Every forecast that said something new, one file per UTC day."""
        return self.logs / "predictions"

    @property
    def kill_switch(self) -> Path:
        """Whether forecasts may be acted on at all."""
        return self.root / "kill_switch.json"

    @property
    def comparisons(self) -> Path:
        """What pairs of models were worth on the same bars, block by block, in files that are only ever added to."""
        return self.logs / "comparisons"

    @property
    def alias_lock(self) -> Path:
        """Held while the API moves an alias; commands and nightly jobs do not wait for it, nor it for them."""
        return self.root / "aliases.lock"

    @property
    def parity_report(self) -> Path:
        """What replaying the served vectors found; read by Prometheus through the inference API."""
        return self.reports / "monitoring" / "parity.json"

    @property
    def secrets(self) -> Path:
        """Secrets, mode 700 with files of mode 600."""
        return self.root / "secrets"

    @property
    def users(self) -> Path:
        """Who may sign in, with password hashes."""
        return self.secrets / "users.json"

    @property
    def signing_keys(self) -> Path:
        """The keys that tokens are signed with."""
        return self.secrets / "signing_keys.json"

    @property
    def sessions(self) -> Path:
        """The SQLite file of who is signed in, with hashes of refresh tokens."""
        return self.secrets / "sessions.sqlite"

    @property
    def worker_metrics(self) -> Path:
        """What each worker of the inference API counted since it started, while there are several."""
        return self.root / "serving" / "metrics"

    @property
    def lock(self) -> Path:
        """Held by the one process that runs a lifecycle in this home."""
        return self.root / "lifecycle.lock"

    def create(self) -> "Home":
        """Make the folders that are missing and prove that the home can be written.

        Raises:
            HomeNotWritableError: the folder cannot be made, is read-only, or has no space left.
        """
        folders = (self.lake, self.snapshots, self.mlflow, self.dagster, self.trials, self.reports, self.logs)
        try:
            for folder in folders:
                folder.mkdir(parents=True, exist_ok=True)
            self.secrets.mkdir(mode=0o700, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root) as probe:
                probe.write(bytes(4096))
                probe.flush()
                os.fsync(probe.fileno())
        except OSError as error:
            raise not_writable(self.root, error) from error
        return self

    def require_free_space(self, needed_bytes: int = WORKING_SPACE_BYTES) -> None:
        """Refuse to begin work that would not fit: databases that other libraries write do not fail in clear words.

        Raises:
            HomeNotWritableError: less than that is free on the home's device.
        """
        free = shutil.disk_usage(self.root).free
        if free < needed_bytes:
            raise HomeNotWritableError(
                f"Expected {needed_bytes >> 20} MiB free on the device of {self.root}, was {free >> 20}; free some, or "
                "set LEVIBOT_HOME to a folder on another device, then run the command again."
            )


def not_writable(path: Path, error: OSError) -> HomeNotWritableError:
    """Translate an operating-system error on writing `path` into words a person can act on."""
    causes = {
        errno.ENOSPC: "no space is left on its device; free some, then run the command again",
        errno.EROFS: "it lies on a read-only file system; set LEVIBOT_HOME to a folder that can be written",
        errno.EACCES: "permission is denied; change its owner or mode, or set LEVIBOT_HOME elsewhere",
        errno.ENOTDIR: "part of its path is a file; set LEVIBOT_HOME to a folder",
        errno.EEXIST: "a file stands where a folder has to be; move it away, or set LEVIBOT_HOME elsewhere",
    }
    cause = causes.get(error.errno or 0, error.strerror or str(error))
    return HomeNotWritableError(f"Expected to write below {path}, but {cause}.")


@dataclass(frozen=True, slots=True)
class Dataset:
    """One homogeneous part of a lake table: its fixed Hive keys, and whether it splits by pair and month.

    Hive keys never carry the name of a column in the files (`pair`, not `symbol`), so that engines which
    let the path win over the file read what was written.
    """

    table: Table
    keys: tuple[tuple[str, str], ...]
    by_pair_and_month: bool = True

    @property
    def folder(self) -> str:
        """Path below the lake, such as `candles/source=recorded/market=spot/timeframe=5m`."""
        return "/".join([self.table.name, *(f"{key}={value}" for key, value in self.keys)])

    def file(self, symbol: str | None = None, month: str | None = None) -> str:
        """Path of one partition file below the lake. `month` is `YYYY-MM` of the row's `ts` in UTC."""
        if not self.by_pair_and_month:
            return f"{self.folder}/part.parquet"
        if symbol is None or month is None:
            raise ValueError(f"{self.table.name} is partitioned: expected a symbol and a month")
        return f"{self.folder}/pair={path_symbol(symbol)}/month={month}/part.parquet"


def candles_dataset(source_key: str, market: str, timeframe: str) -> Dataset:
    """Candles of one source, market and timeframe."""
    return Dataset(CANDLES, (("source", source_key), ("market", market), ("timeframe", timeframe)))


def funding_dataset(source_key: str) -> Dataset:
    """Settled funding rates of one source."""
    return Dataset(FUNDING_RATES, (("source", source_key),))


def fear_greed_dataset(source_key: str) -> Dataset:
    """The fear and greed index of one source; small, so one file."""
    return Dataset(FEAR_GREED, (("source", source_key),), by_pair_and_month=False)


def features_dataset(
    source_key: str, market: str, timeframe: str, feature_set: str, table: Table = FEATURES
) -> Dataset:
    """Features of one feature set; `table` is `FEATURES` extended with that set's columns."""
    keys = (("source", source_key), ("market", market), ("timeframe", timeframe), ("feature_set", feature_set))
    return Dataset(table, keys)
