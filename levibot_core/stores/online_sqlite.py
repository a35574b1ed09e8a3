"""The embedded backend of the online store: one SQLite file in WAL mode, readable while another process writes.

What every backend promises is written at `levibot_core.stores.online.OnlineStore`.
"""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tenacity import retry, retry_if_exception, stop_after_delay, wait_random

from levibot_core.errors import HomeNotWritableError, LakeCorruptionError, LevibotError
from levibot_core.stores.online_vector import (
    DEFAULT_TTL_S,
    EncodedVector,
    FeatureNames,
    FeatureVector,
    check_symbol,
    check_ttl,
    encode,
    now_ms,
)

BUSY_TIMEOUT_S = 10.0

# Raised with every change of the tables. The file holds nothing but copies, so an older one is emptied, not migrated.
_LAYOUT = 2
_CREATE = (
    "DROP TABLE IF EXISTS vectors",
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
)
_PUT_NAMES = """
INSERT INTO feature_names VALUES (?, ?)
ON CONFLICT (identity) DO UPDATE SET names = excluded.names WHERE excluded.names <> feature_names.names
"""
# A home that changes its source starts anew: the clock of a simulated market says nothing about a recorded one.
_PUT = """
INSERT INTO vectors VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (symbol) DO UPDATE SET
    ts_ms = excluded.ts_ms, known_at_ms = excluded.known_at_ms, feature_set = excluded.feature_set,
    feature_names = excluded.feature_names, source_kind = excluded.source_kind, close = excluded.close,
    feature_values = excluded.feature_values, written_at_ms = excluded.written_at_ms,
    expires_at_ms = excluded.expires_at_ms
WHERE excluded.source_kind <> vectors.source_kind
   OR (excluded.ts_ms, excluded.known_at_ms) >= (vectors.ts_ms, vectors.known_at_ms)
   OR vectors.expires_at_ms <= excluded.written_at_ms
"""
_GET_MANY = """
SELECT symbol, ts_ms, known_at_ms, feature_set, feature_names, source_kind, close, feature_values
FROM vectors WHERE symbol IN (SELECT value FROM json_each(?)) AND (expires_at_ms IS NULL OR expires_at_ms > ?)
"""
_GET_NAMES = "SELECT names FROM feature_names WHERE identity = ?"
_LAST_KNOWN_AT = "SELECT symbol, known_at_ms FROM vectors WHERE symbol IN (SELECT value FROM json_each(?))"
_REFUSALS = {
    sqlite3.SQLITE_FULL: "no space is left on its device; free some, then run the command again",
    sqlite3.SQLITE_READONLY: "it is read-only; set LEVIBOT_HOME to a folder that can be written",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; make sure that its folder exists and can be written",
    sqlite3.SQLITE_BUSY: f"another process held it for more than {BUSY_TIMEOUT_S:.0f} s; run the command again",
}

_FileIdentity = tuple[int, int] | None
_Row = tuple[str, int, int, str, str, str, float, bytes]


class SqliteOnlineStore:
    """See `OnlineStore`. A connection serves one call at a time and is then kept for the next.

    Reading a store that nobody has written yet finds nothing and creates nothing.
    """

    def __init__(self, path: Path, ttl_s: float | None = DEFAULT_TTL_S) -> None:
        self._path = path
        self._ttl_s = check_ttl(ttl_s)
        self._names: dict[str, FeatureNames] = {}
        self._idle: list[tuple[_FileIdentity, sqlite3.Connection]] = []

    @property
    def place(self) -> str:
        """See `OnlineStore.place`."""
        return str(self._path)

    def put(self, vectors: Sequence[FeatureVector]) -> None:
        """See `OnlineStore.put`."""
        encoded = [encode(vector, self._ttl_s) for vector in vectors]
        if not encoded:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HomeNotWritableError(f"Expected to write {self._path}, but {error.strerror}.") from error
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            names = {item.names.identity: item.names.to_json() for item in encoded}
            connection.executemany(_PUT_NAMES, names.items())
            connection.executemany(_PUT, [_to_row(item) for item in encoded])
            connection.execute("COMMIT")

    def get(self, symbol: str) -> FeatureVector | None:
        """See `OnlineStore.get`."""
        return self.get_many([symbol]).get(symbol)

    def get_many(self, symbols: Sequence[str]) -> dict[str, FeatureVector]:
        """See `OnlineStore.get_many`."""
        rows: list[_Row] = self._read(_GET_MANY, symbols, now_ms())
        return {row[0]: self._from_row(row) for row in rows}

    def last_known_at_ms(self, symbols: Sequence[str]) -> dict[str, int]:
        """See `OnlineStore.last_known_at_ms`."""
        return dict(self._read(_LAST_KNOWN_AT, symbols))

    def close(self) -> None:
        """See `OnlineStore.close`."""
        while self._idle:
            self._idle.pop()[1].close()

    def _read(self, query: str, symbols: Sequence[str], *parameters: object) -> list[Any]:
        for symbol in symbols:
            check_symbol(symbol)
        if not self._path.exists():
            return []
        with self._connection() as connection:
            rows = connection.execute(query, (json.dumps(list(symbols)), *parameters)).fetchall()
        return rows

    def _from_row(self, row: _Row) -> FeatureVector:
        symbol, ts_ms, known_at_ms, feature_set, identity, source_kind, close, packed = row
        values = self._names_of(identity).unpack(packed, symbol, self.place)
        return FeatureVector(symbol, ts_ms, known_at_ms, feature_set, source_kind, close, values)

    def _names_of(self, identity: str) -> FeatureNames:
        """The names of a feature set, looked up once in the life of this object."""
        if identity not in self._names:
            with self._connection() as connection:
                row = connection.execute(_GET_NAMES, (identity,)).fetchone()
            self._names[identity] = FeatureNames.from_json(identity, row[0] if row else None, self.place)
        return self._names[identity]

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """Lend an idle connection, or a new one; one that failed is closed, which rolls its transaction back."""
        try:
            connection = self._idle_connection() or self._open()
            file = _identity(self._path)
            try:
                yield connection
            except BaseException:
                connection.close()
                raise
        except sqlite3.DatabaseError as error:
            raise self._in_words(error) from error
        self._idle.append((file, connection))

    def _idle_connection(self) -> sqlite3.Connection | None:
        """A connection to the file that stands at the path now; those to a file that was replaced are closed."""
        current = _identity(self._path)
        while True:
            try:
                file, connection = self._idle.pop()
            except IndexError:
                return None
            if file == current:
                return connection
            connection.close()

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA synchronous = NORMAL")
            _switch_to_wal(connection)
            _create_tables(connection)
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _in_words(self, error: sqlite3.DatabaseError) -> LevibotError:
        primary_code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if primary_code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            return LakeCorruptionError(
                f"Expected {self._path} to be the SQLite file of the online store, was unreadable ({error}). "
                "It holds nothing but copies: delete it, then compute the features again."
            )
        cause = _REFUSALS.get(primary_code, f"SQLite says: {error}")
        return HomeNotWritableError(f"Expected to use the online store {self._path}, but {cause}.")


def _identity(path: Path) -> _FileIdentity:
    """Which file stands at the path; a connection outlives the deletion of its file and would read old vectors."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


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


def _to_row(item: EncodedVector) -> tuple[object, ...]:
    vector = item.vector
    return (
        vector.symbol,
        vector.ts_ms,
        vector.known_at_ms,
        vector.feature_set,
        item.names.identity,
        vector.source_kind,
        float(vector.close),
        item.packed,
        item.written_at_ms,
        None if item.lifetime_ms is None else item.written_at_ms + item.lifetime_ms,
    )
