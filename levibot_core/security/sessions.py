"""The sessions of a home: a private SQLite file that knows the one refresh token of each, by its hash.

A refresh token works once and is answered with the next. One that comes back was copied: the session ends, for whoever
holds it (RFC 9700, section 4.14.2). Access tokens name their session, and work only while it is among the `live`.
"""

import hashlib
import hmac
import os
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from levibot_core.errors import CredentialError
from levibot_core.security.secret_files import PRIVATE_FILE, make_private_folder
from levibot_core.stores.paths import not_writable

RefreshProblem = Literal["unknown", "expired", "ended", "reused"]

RETRY_SECONDS: Final = 10.0
"""A token that comes again within this time is refused as ever, but its session goes on: two tabs asked at once."""
_BUSY_SECONDS: Final = 5.0
_BUSY_SECONDS_OF_READER: Final = 0.2
_CREATE: Final = """
CREATE TABLE IF NOT EXISTS sessions (
    id TEXT PRIMARY KEY,
    user TEXT NOT NULL,
    credential_id TEXT NOT NULL,
    refresh_hash BLOB NOT NULL,
    renewed_at REAL NOT NULL,
    expires_at REAL NOT NULL,
    ended_at REAL
)
"""


@dataclass(frozen=True, slots=True)
class Session:
    """A session after it began or was renewed, with the only copy of its refresh token."""

    id: str
    user: str
    credential_id: str
    refresh_token: str = field(repr=False)


class RefreshRefusedError(CredentialError):
    """A refresh token that does not work."""

    def __init__(self, problem: RefreshProblem, user: str | None = None) -> None:
        super().__init__("Expected a refresh token that was not used yet and has not expired. Sign in again.")
        self.problem = problem
        self.user = user


class Sessions:
    """The file of one home. Any thread and any process may use it; nothing is made before the first session."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, user: str, credential_id: str, lifetime_s: float) -> Session:
        """A new session of somebody who proved who they are.

        Raises:
            HomeNotWritableError: the file cannot be written.
        """
        now = time.time()
        session_id = secrets.token_urlsafe(12)
        token, digest = _new_token(session_id)
        with self._writing() as connection:
            connection.execute("DELETE FROM sessions WHERE expires_at < ?", (now,))
            connection.execute(
                "INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, NULL)",
                (session_id, user, credential_id, digest, now, now + lifetime_s),
            )
        return Session(session_id, user, credential_id, token)

    def renew(self, refresh_token: str, lifetime_s: float) -> Session:
        """Exchange a refresh token for the next one of its session.

        Raises:
            RefreshRefusedError: it is none, was used before, or its session is over.
            HomeNotWritableError: the file cannot be written.
        """
        session_id, _, _ = refresh_token.partition(".")
        if not refresh_token.isascii() or not self.path.exists():
            raise RefreshRefusedError("unknown")
        now = time.time()
        token, digest = _new_token(session_id)
        with self._writing() as connection:
            row = connection.execute(
                "SELECT user, credential_id, refresh_hash, renewed_at, expires_at, ended_at FROM sessions WHERE id = ?",
                (session_id,),
            ).fetchone()
            problem = _problem(row, refresh_token, now)
            if problem is None:
                connection.execute(
                    "UPDATE sessions SET refresh_hash = ?, renewed_at = ?, expires_at = ? WHERE id = ?",
                    (digest, now, now + lifetime_s, session_id),
                )
            elif problem == "reused" and now - row[3] > RETRY_SECONDS:
                connection.execute("UPDATE sessions SET ended_at = ? WHERE id = ?", (now, session_id))
        if problem is not None:
            raise RefreshRefusedError(problem, None if row is None else row[0])
        return Session(session_id, row[0], row[1], token)

    def end(self, session_id: str) -> None:
        """End a session: its refresh token does not work any more, and its access tokens are refused.

        Raises:
            HomeNotWritableError: the file cannot be written.
        """
        with self._writing() as connection:
            connection.execute(
                "UPDATE sessions SET ended_at = ? WHERE id = ? AND ended_at IS NULL", (time.time(), session_id)
            )

    def live(self) -> frozenset[str]:
        """Sessions that were not ended and have not expired.

        Raises:
            CredentialError: the file cannot be read.
        """
        if not self.path.exists():
            return frozenset()
        try:
            address, wait_s = f"{self.path.as_uri()}?mode=ro", _BUSY_SECONDS_OF_READER
            with closing(sqlite3.connect(address, timeout=wait_s, uri=True)) as file:
                rows = file.execute("SELECT id FROM sessions WHERE ended_at IS NULL AND expires_at > ?", (time.time(),))
                return frozenset(row[0] for row in rows)
        except sqlite3.Error as error:
            raise CredentialError(
                f"Expected {self.path} to hold the sessions, but {error}. Delete it: everybody has to sign in again."
            ) from error

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that nobody else's comes between."""
        make_private_folder(self.path.parent)
        try:
            # SQLite gives the files beside it the mode of this one.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, PRIVATE_FILE))
            with closing(sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)) as connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute(_CREATE)
                yield connection
                connection.execute("COMMIT")
        except OSError as error:
            raise not_writable(self.path, error) from error
        except sqlite3.Error as error:
            raise CredentialError(
                f"Expected to write {self.path}, but {error}. Free the disk, or delete the file: everybody has to "
                "sign in again."
            ) from error


_Row = tuple[str, str, bytes, float, float, float | None]


def _problem(row: _Row | None, token: str, now: float) -> RefreshProblem | None:
    if row is None:
        return "unknown"
    _, _, digest, _, expires_at, ended_at = row
    if ended_at is not None:
        return "ended"
    if expires_at <= now:
        return "expired"
    return None if hmac.compare_digest(digest, _hash(token)) else "reused"


def _new_token(session_id: str) -> tuple[str, bytes]:
    token = f"{session_id}.{secrets.token_urlsafe(32)}"
    return token, _hash(token)


def _hash(token: str) -> bytes:
    # Not a password: 256 random bits cannot be searched for, so a fast hash is enough.
    return hashlib.sha256(token.encode()).digest()
