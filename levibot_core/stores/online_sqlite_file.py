"""The file of the SQLite backend: its tables, and how it is opened.

What is read and written is in `online_sqlite`.
"""

import sqlite3
from pathlib import Path

from tenacity import retry, retry_if_exception, stop_after_delay, wait_random

BUSY_TIMEOUT_S = 10.0

# Raised with every change of the tables. The file holds nothing but copies, so an older one is emptied, not migrated.
_LAYOUT = 3
_CREATE = (
    "DROP TABLE IF EXISTS vectors",
    "DROP TABLE IF EXISTS feature_names",
    "CREATE TABLE feature_names (identity TEXT PRIMARY KEY, names TEXT NOT NULL) WITHOUT ROWID",
    """
CREATE TABLE vectors (
    symbol TEXT PRIMARY KEY,
    ts_ms INTEGER NOT NULL,
    known_at_ms INTEGER NOT NULL,
    feature_set TEXT NOT NULL,
    feature_names TEXT NOT NULL REFERENCES feature_names (identity),
    source_kind TEXT NOT NULL,
    close REAL NOT NULL,
    feature_values BLOB NOT NULL,
    written_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER
)
""",
    """
CREATE TABLE history (
    symbol TEXT NOT NULL,
    ts_ms INTEGER NOT NULL,
    known_at_ms INTEGER NOT NULL,
    feature_names TEXT NOT NULL REFERENCES feature_names (identity),
    source_kind TEXT NOT NULL,
    close REAL NOT NULL,
    feature_values BLOB NOT NULL,
    PRIMARY KEY (symbol, ts_ms)
)
""",
)


def open_file(path: Path) -> sqlite3.Connection:
    """A connection to the file in WAL mode, with the tables of this version; any thread may use it.

    Raises:
        sqlite3.Error: it cannot be opened, or is no such file.
    """
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA synchronous = NORMAL")
        _switch_to_wal(connection)
        _create_tables(connection)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _is_busy(error: BaseException) -> bool:
    return isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY


# SQLite's own busy timeout does not cover this one switch, which two processes may try on a new file at once.
@retry(
    retry=retry_if_exception(_is_busy),
    stop=stop_after_delay(BUSY_TIMEOUT_S),
    wait=wait_random(0.001, 0.02),
    reraise=True,
)
def _switch_to_wal(connection: sqlite3.Connection) -> None:
    if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        connection.execute("PRAGMA journal_mode = WAL")


def _create_tables(connection: sqlite3.Connection) -> None:
    """Make the tables of this version, in one transaction, unless they are there."""
    if _layout(connection) == _LAYOUT:
        return
    connection.execute("BEGIN IMMEDIATE")
    # Another process may have been faster.
    if _layout(connection) != _LAYOUT:
        for statement in _CREATE:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {_LAYOUT}")
    connection.execute("COMMIT")


def _layout(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
