"""The online store: the newest feature vector of every symbol, for an inference that may not wait.

A vector is stored and returned whole or not at all; there is no default value for a feature. What computes vectors
is `levibot_core.features`; what predicts from them is the serving layer, which imports this module, so it stays free
of data-frame libraries.
"""

import json
import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tenacity import retry, retry_if_exception, stop_after_delay, wait_random

from levibot_core.errors import HomeNotWritableError, LakeCorruptionError, LevibotError, MissingFeatureError

BUSY_TIMEOUT_S = 10.0

_CREATE = """
CREATE TABLE IF NOT EXISTS vectors (
    symbol TEXT PRIMARY KEY,
    ts_ms INTEGER NOT NULL,
    known_at_ms INTEGER NOT NULL,
    feature_set TEXT NOT NULL,
    source_kind TEXT NOT NULL,
    close REAL NOT NULL,
    feature_values TEXT NOT NULL
) WITHOUT ROWID
"""
# A home that changes its source starts anew: the clock of a simulated market says nothing about a recorded one.
_PUT = """
INSERT INTO vectors VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (symbol) DO UPDATE SET
    ts_ms = excluded.ts_ms, known_at_ms = excluded.known_at_ms, feature_set = excluded.feature_set,
    source_kind = excluded.source_kind, close = excluded.close, feature_values = excluded.feature_values
WHERE excluded.source_kind <> vectors.source_kind
   OR (excluded.ts_ms, excluded.known_at_ms) >= (vectors.ts_ms, vectors.known_at_ms)
"""
_GET_MANY = """
SELECT symbol, ts_ms, known_at_ms, feature_set, source_kind, close, feature_values
FROM vectors WHERE symbol IN (SELECT value FROM json_each(?))
"""
_REFUSALS = {
    sqlite3.SQLITE_FULL: "no space is left on its device; free some, then run the command again",
    sqlite3.SQLITE_READONLY: "it is read-only; set LEVIBOT_HOME to a folder that can be written",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; make sure that its folder exists and can be written",
    sqlite3.SQLITE_BUSY: f"another process held it for more than {BUSY_TIMEOUT_S:.0f} s; run the command again",
}


@dataclass(frozen=True, slots=True)
class FeatureVector:
    """Every feature of one symbol at one bar.

    Attributes:
        symbol: Inside spelling, BTC/USDT.
        ts_ms: Open time of the bar, UTC milliseconds.
        known_at_ms: Decision time (close of the bar), UTC milliseconds.
        feature_set: Version of the registry the values follow, such as `v1`.
        source_kind: `exchange`, `recorded` or `simulated`.
        close: Close of the bar, quote currency.
        values: Feature name to value; all finite.
    """

    symbol: str
    ts_ms: int
    known_at_ms: int
    feature_set: str
    source_kind: str
    close: float
    values: Mapping[str, float]


class OnlineStore(Protocol):
    """What every backend of the online store does."""

    def put(self, vectors: Sequence[FeatureVector]) -> None:
        """Store the vectors in one transaction; of one source, an older vector never overwrites a newer one.

        Raises:
            MissingFeatureError: a vector has no features, or one that is NaN or infinite; nothing is stored.
            HomeNotWritableError: the store cannot be written.
        """
        ...

    def get(self, symbol: str) -> FeatureVector | None:
        """The newest vector of the symbol (inside spelling), or None."""
        ...

    def get_many(self, symbols: Sequence[str]) -> dict[str, FeatureVector]:
        """The newest vectors of these symbols in one round trip; a symbol without one is absent."""
        ...

    def close(self) -> None:
        """Let go of all connections. The store can be used again afterwards."""
        ...


_FileIdentity = tuple[int, int] | None


class SqliteOnlineStore:
    """The embedded backend: one SQLite file in WAL mode, readable while another process writes.

    Safe to share between threads: a connection serves one call at a time and is then kept for the next. Reading a
    store that nobody has written yet finds nothing and creates nothing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: list[tuple[_FileIdentity, sqlite3.Connection]] = []

    def put(self, vectors: Sequence[FeatureVector]) -> None:
        """See `OnlineStore.put`."""
        rows = [_to_row(vector) for vector in vectors]
        if not rows:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HomeNotWritableError(f"Expected to write {self._path}, but {error.strerror}.") from error
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_PUT, rows)
            connection.execute("COMMIT")

    def get(self, symbol: str) -> FeatureVector | None:
        """See `OnlineStore.get`."""
        return self.get_many([symbol]).get(symbol)

    def get_many(self, symbols: Sequence[str]) -> dict[str, FeatureVector]:
        """See `OnlineStore.get_many`."""
        if not self._path.exists():
            return {}
        with self._connection() as connection:
            rows = connection.execute(_GET_MANY, (json.dumps(list(symbols)),)).fetchall()
        return {row[0]: _from_row(row) for row in rows}

    def close(self) -> None:
        """See `OnlineStore.close`."""
        while self._idle:
            self._idle.pop()[1].close()

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
            connection.execute(_CREATE)
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


_Row = tuple[str, int, int, str, str, float, str]


def _from_row(row: _Row) -> FeatureVector:
    symbol, ts_ms, known_at_ms, feature_set, source_kind, close, values = row
    return FeatureVector(symbol, ts_ms, known_at_ms, feature_set, source_kind, close, json.loads(values))


def _to_row(vector: FeatureVector) -> _Row:
    values = {name: float(value) for name, value in vector.values.items()}
    missing = [name for name, value in {**values, "close": vector.close}.items() if not math.isfinite(value)]
    if missing or not values:
        raise MissingFeatureError(
            f"Expected a whole feature vector of {vector.symbol} at {vector.ts_ms}, "
            f"was without {', '.join(missing) if missing else 'any feature'}. A vector is stored whole or not at all."
        )
    return (
        vector.symbol,
        vector.ts_ms,
        vector.known_at_ms,
        vector.feature_set,
        vector.source_kind,
        float(vector.close),
        json.dumps(values, allow_nan=False),
    )
