"""dbt as a resource, and the compiled description of its project that Dagster reads.

The models are in `dbt_project/`; which assets they become, in `levibot_pipelines.defs.warehouse`.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import duckdb
import polars as pl
from dagster_dbt import DbtCliResource
from filelock import FileLock

from levibot_core.errors import LevibotError, MarketDataUnavailableError
from levibot_core.stores.files import write_text_atomically
from levibot_core.stores.paths import Home

PROJECT = Path(__file__).resolve().parents[2] / "dbt_project"
_TARGET = PROJECT / "target"
# Beside the interpreter: the environment need not be activated.
_DBT = Path(sys.executable).parent / "dbt"
_PARSED = ("*.sql", "*.yml")


def dbt_resource() -> DbtCliResource:
    """The dbt command of this environment, on the platform's project."""
    return DbtCliResource(project_dir=str(PROJECT), profiles_dir=str(PROJECT), dbt_executable=str(_DBT))


def dbt_variables(home: Home) -> str:
    """Where a home's lake and warehouse are, as dbt's `--vars` takes it."""
    return json.dumps({"lake": home.lake.as_posix(), "warehouse": str(home.warehouse)})


@cache
def manifest_path() -> Path:
    """The project's `manifest.json`, made by `dbt parse` when the project changed since it was last made.

    Raises:
        LevibotError: dbt does not understand the project.
    """
    manifest, stamp = _TARGET / "manifest.json", _TARGET / "manifest.sha256"
    wanted = _project_hash()
    _TARGET.mkdir(exist_ok=True)
    with FileLock(_TARGET / "parse.lock"):
        if not (manifest.exists() and stamp.exists() and stamp.read_text("utf-8") == wanted):
            _parse(manifest)
            write_text_atomically(stamp, wanted)
    return manifest


def _parse(manifest: Path) -> None:
    with tempfile.TemporaryDirectory(dir=_TARGET) as folder:
        command = [str(_DBT), "--quiet", "parse", "--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT)]
        answer = subprocess.run(  # noqa: S603 - a command of this environment, from no outside text
            [*command, "--target-path", folder, "--log-path", folder], capture_output=True, text=True, check=False
        )
        if answer.returncode != 0:
            raise LevibotError(f"Expected dbt to parse {PROJECT}, but it said:\n{answer.stdout}{answer.stderr}")
        Path(folder, "manifest.json").replace(manifest)


def _project_hash() -> str:
    digest = hashlib.sha256(str(PROJECT).encode())
    files = (path for pattern in _PARSED for path in PROJECT.rglob(pattern) if _TARGET not in path.parents)
    for path in sorted(files):
        digest.update(path.relative_to(PROJECT).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def read_mart(home: Home, name: str) -> pl.DataFrame:
    """One table of the warehouse.

    Raises:
        MarketDataUnavailableError: the warehouse was never built, or has no such table.
    """
    if not home.warehouse.exists():
        raise MarketDataUnavailableError(
            f"Expected a warehouse at {home.warehouse}, but none was built. Run `levibot run`."
        )
    with _open_read_only(home.warehouse) as connection:
        try:
            table: pl.DataFrame = connection.table(name).pl()
        except duckdb.CatalogException as error:
            raise MarketDataUnavailableError(f"Expected a table {name!r} in {home.warehouse}: {error}") from error
        return table


@contextmanager
def _open_read_only(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    # Not dagster-duckdb's resource: it always opens for writing, and leaves the file locked after an exception.
    connection = duckdb.connect(str(path), read_only=True)
    try:
        # Polars calls the zone UTC, DuckDB by default what the machine calls it.
        connection.execute("set TimeZone = 'UTC'")
        yield connection
    finally:
        connection.close()
