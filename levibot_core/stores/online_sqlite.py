"""The embedded backend of the online store: one SQLite file in WAL mode, readable while another process writes.

What every backend promises is written at `levibot_core.stores.online.OnlineStore`.
"""

import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from levibot_core.errors import HomeNotWritableError, LakeCorruptionError, LevibotError
from levibot_core.stores.online_history import DEFAULT_HISTORY_BARS, FeatureHistory, check_history_bars
from levibot_core.stores.online_sqlite_file import BUSY_TIMEOUT_S, open_file
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
# What the newest vector does not follow: bars after it, of another source or with other names.
_FORGET = """
DELETE FROM history WHERE symbol = ?1 AND (ts_ms > ?2 OR feature_names <> ?3 OR source_kind <> ?4)
"""
_REMEMBER = """
INSERT INTO history
SELECT ?1, ?2, ?5, ?3, ?4, ?6, ?7 FROM vectors WHERE symbol = ?1 AND feature_names = ?3 AND source_kind = ?4
ON CONFLICT (symbol, ts_ms) DO UPDATE SET
    known_at_ms = excluded.known_at_ms, close = excluded.close, feature_values = excluded.feature_values
WHERE excluded.known_at_ms >= history.known_at_ms
"""
_TRIM = """
DELETE FROM history WHERE symbol = ?1
    AND ts_ms < (SELECT ts_ms FROM history WHERE symbol = ?1 ORDER BY ts_ms DESC LIMIT 1 OFFSET ?2 - 1)
"""
_GET_HISTORY = """
SELECT vectors.feature_set, vectors.feature_names, vectors.source_kind,
    history.ts_ms, history.known_at_ms, history.close, history.feature_values
FROM vectors JOIN history USING (symbol)
WHERE symbol = ? AND (expires_at_ms IS NULL OR expires_at_ms > ?) ORDER BY history.ts_ms DESC LIMIT ?
"""
_GET_MANY = """
SELECT symbol, ts_ms, known_at_ms, feature_set, feature_names, source_kind, close, feature_values
FROM vectors WHERE symbol IN (SELECT value FROM json_each(?)) AND (expires_at_ms IS NULL OR expires_at_ms > ?)
"""
_GET_NAMES = "SELECT names FROM feature_names WHERE identity = ?"
_EXPIRES_AT = "SELECT symbol, expires_at_ms FROM vectors WHERE symbol IN (SELECT value FROM json_each(?))"
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

    def __init__(
        self, path: Path, ttl_s: float | None = DEFAULT_TTL_S, history_bars: int = DEFAULT_HISTORY_BARS
    ) -> None:
        self._path = path
        self._ttl_s = check_ttl(ttl_s)
        self._history_bars = check_history_bars(history_bars)
        self._names: dict[str, FeatureNames] = {}
        self._idle: list[tuple[_FileIdentity, sqlite3.Connection]] = []
        self._watched: tuple[_FileIdentity, sqlite3.Connection] | None = None
        self._watches = 0
        self._watching = threading.Lock()

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
            for item in encoded:
                self._put_one(connection, item)
            connection.executemany(_TRIM, {(item.vector.symbol, self._history_bars) for item in encoded})
            connection.execute("COMMIT")

    @staticmethod
    def _put_one(connection: sqlite3.Connection, item: EncodedVector) -> None:
        vector = item.vector
        belongs = (vector.symbol, vector.ts_ms, item.names.identity, vector.source_kind)
        if connection.execute(_PUT, _to_row(item)).rowcount:
            connection.execute(_FORGET, belongs)
        connection.execute(_REMEMBER, (*belongs, vector.known_at_ms, float(vector.close), item.packed))

    def get(self, symbol: str) -> FeatureVector | None:
        """See `OnlineStore.get`."""
        return self.get_many([symbol]).get(symbol)

    def get_many(self, symbols: Sequence[str]) -> dict[str, FeatureVector]:
        """See `OnlineStore.get_many`."""
        rows: list[_Row] = self._read(_GET_MANY, symbols, now_ms())
        return {row[0]: self._from_row(row) for row in rows}

    def history(self, symbol: str, bars: int) -> FeatureHistory | None:
        """See `OnlineStore.history`."""
        check_symbol(symbol)
        if not self._path.exists():
            return None
        with self._connection() as connection:
            rows = connection.execute(_GET_HISTORY, (symbol, now_ms(), bars)).fetchall()
        if not rows:
            return None
        feature_set, identity, source_kind = rows[0][:3]
        kept = [row[3:] for row in reversed(rows)]
        return FeatureHistory.of(symbol, feature_set, source_kind, self._names_of(identity), kept, self.place)

    def last_known_at_ms(self, symbols: Sequence[str]) -> dict[str, int]:
        """See `OnlineStore.last_known_at_ms`."""
        return dict(self._read(_LAST_KNOWN_AT, symbols))

    def change_token(self) -> tuple[int, int] | None:
        """A token that is another one after anything was put, by whatever process; None while there is no file.

        A reader that took a token, then read, may go on with what it read for as long as the token stays the same:
        that costs a tenth of reading. A vector may expire meanwhile, see `expires_at_ms`. SQLite's `data_version` is
        the counter behind it; it can only be compared on one connection, which is kept for that.

        Raises:
            HomeNotWritableError, LakeCorruptionError: the store cannot be used.
        """
        with self._watching:
            current = _identity(self._path)
            if self._watched is None or self._watched[0] != current:
                self._stop_watching()
                if current is None:
                    return None
            try:
                if self._watched is None:
                    self._watched = (current, open_file(self._path))
                    self._watches += 1
                return self._watches, int(self._watched[1].execute("PRAGMA data_version").fetchone()[0])
            except sqlite3.DatabaseError as error:
                self._stop_watching()
                raise self._in_words(error) from error

    def expires_at_ms(self, symbol: str) -> int | None:
        """When the newest vector of the symbol expires, UTC milliseconds; None for one that does not, or for none."""
        return dict(self._read(_EXPIRES_AT, [symbol])).get(symbol)

    def close(self) -> None:
        """See `OnlineStore.close`."""
        with self._watching:
            self._stop_watching()
        while self._idle:
            self._idle.pop()[1].close()

    def _stop_watching(self) -> None:
        if self._watched is not None:
            self._watched[1].close()
            self._watched = None

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
            connection = self._idle_connection() or open_file(self._path)
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
