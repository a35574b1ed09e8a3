"""Tells who a token belongs to, from the users, keys and sessions of the home, which are looked at once a second.

A token that was verified is remembered until it expires or anything behind it changes, so that the next request with
it costs a look into a dictionary. What was changed elsewhere (a removed user, another role, an ended session) holds
here a second later.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from levibot_core.errors import CredentialError
from levibot_core.security.roles import Principal
from levibot_core.security.sessions import Sessions
from levibot_core.security.signing_keys import SigningKey, SigningKeysFile
from levibot_core.security.users import User, UsersFile
from levibot_core.stores.paths import Home
from levibot_serving.security.tokens import TokenRefusedError, read_token

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
_MOST_REMEMBERED: Final = 4096

_SETTLED_NS: Final = 2_000_000_000

_FileState = tuple[int, int, int] | None
"""Inode, time of the last change in nanoseconds, bytes; None where there is no file."""


@dataclass(frozen=True, slots=True)
class Known:
    """What tokens are checked against."""

    keys: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    users: Mapping[str, User] = field(default_factory=dict)
    sessions: frozenset[str] = frozenset()


class Access:
    """Who is behind a token. For the one thread of the event loop."""

    def __init__(self, home: Home, environment_keys: tuple[SigningKey, ...] | None = None) -> None:
        self._users = UsersFile(home.users)
        self._keys = SigningKeysFile(home.signing_keys)
        self._sessions = Sessions(home.sessions)
        self._environment_keys = environment_keys
        self._files = (home.users, home.signing_keys, home.sessions)
        self._seen: tuple[_FileState, ...] | None = None
        self._next_key_end = float("inf")
        self._looked_at = float("-inf")
        self._known = Known()
        self._remembered: dict[str, tuple[Known, float, Principal]] = {}
        self._problem: str | None = None

    @property
    def problem(self) -> str | None:
        """Why what is known may be old: a file that cannot be read."""
        return self._problem

    @property
    def known(self) -> Known:
        """The users, keys and sessions, at most a second old."""
        if time.monotonic() - self._looked_at >= LOOK_SECONDS:
            self.look()
        return self._known

    def principal(self, token: str) -> Principal:
        """Whoever the token was issued to, in the role they have now.

        Raises:
            TokenRefusedError: it is none of ours, has expired, or its user, password or session is gone.
        """
        known = self.known
        remembered = self._remembered.get(token)
        if remembered is not None and remembered[0] is known and time.time() < remembered[1]:
            return remembered[2]
        try:
            return self._verified(token, known)
        except TokenRefusedError as refusal:
            if refusal.flaw not in ("unknown_key", "ended"):
                raise
        # Another worker may have made it since the last look.
        self.look()
        return self._verified(token, self._known)

    def look(self) -> None:
        """Read again what has changed. What cannot be read stays as it was known, and `problem` says so."""
        self._looked_at = time.monotonic()
        seen = tuple(_state(path) for path in self._files)
        if seen == self._seen and _settled(seen) and time.time() < self._next_key_end:
            return
        try:
            keys = self._environment_keys or self._keys.read()
            known = Known({key.id: key.content for key in keys}, self._users.read(), self._sessions.live())
        except CredentialError as error:
            if self._problem is None:
                logger.error("Users, keys and sessions stay as they were last read. %s", error)
            self._problem = str(error)
            return
        ends = [key.accepted_until.timestamp() for key in keys if key.accepted_until is not None]
        self._next_key_end = min(ends, default=float("inf"))
        self._seen, self._problem = seen, None
        if known != self._known:
            self._known = known
            self._remembered.clear()

    def _verified(self, token: str, known: Known) -> Principal:
        claims = read_token(token, known.keys)
        user = known.users.get(claims.user)
        if user is None or user.credential_id != claims.credential_id or claims.session_id not in known.sessions:
            raise TokenRefusedError("ended")
        principal = Principal(user.name, user.role, claims.session_id, claims.csrf_token)
        if len(self._remembered) >= _MOST_REMEMBERED:
            self._remembered.clear()
        self._remembered[token] = (known, claims.expires_at_s, principal)
        return principal


def _state(path: Path) -> _FileState:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _settled(files: tuple[_FileState, ...]) -> bool:
    """Whether the last changes are so long ago that another one would have another time: clocks of files are coarse."""
    before = time.time_ns() - _SETTLED_NS
    return all(file is None or file[1] < before for file in files)
