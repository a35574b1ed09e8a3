"""Signing in, staying signed in, signing out. Everything here may wait: hashes and files; threads call it."""

from dataclasses import dataclass, field
from typing import Final

from levibot_core.security.passwords import PasswordHashes
from levibot_core.security.sessions import RefreshRefusedError, Session, Sessions
from levibot_core.security.signing_keys import SigningKey, SigningKeysFile
from levibot_core.security.users import User, UsersFile
from levibot_core.stores.paths import Home
from levibot_serving.errors import ApiError
from levibot_serving.security.audit_trail import NOBODY, AuditTrail
from levibot_serving.security.settings import SecuritySettings
from levibot_serving.security.tokens import issue_token

_DAY_SECONDS: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class SignedIn:
    """What somebody who signed in gets."""

    user: User
    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_in_s: float
    refresh_expires_in_s: float


class SignIn:
    """Checks passwords and refresh tokens, and issues tokens."""

    def __init__(self, home: Home, settings: SecuritySettings, audit: AuditTrail) -> None:
        self._users = UsersFile(home.users)
        self._keys = SigningKeysFile(home.signing_keys)
        self._sessions = Sessions(home.sessions)
        self._environment_keys = settings.environment_keys()
        self._passwords = PasswordHashes()
        self._audit = audit
        self._access_seconds = settings.access_token_seconds
        self._console_seconds = settings.console_session_hours * 3600
        self._refresh_seconds = settings.refresh_token_days * _DAY_SECONDS

    def sign_in(self, name: str, password: str, address: str, *, console: bool = False) -> SignedIn:
        """Begin a session of whoever knows the password.

        Args:
            name: Of the user.
            password: As it was typed.
            address: Where the attempt is from, for the audit log.
            console: Whether the session is a browser's: its one token works longer, and there is none to refresh it.

        Raises:
            ApiError: 401, nobody has that name and that password; which of the two is wrong is not said, and takes
                the same time to find out.
            CredentialError, HomeNotWritableError: the files behind it cannot be read or written.
        """
        user = self._users.read().get(name)
        if not self._passwords.matches(user.password_hash if user else None, password) or user is None:
            # A name that nobody has may be a password that was typed into the wrong field.
            self._audit.record("login_failed", user.name if user else NOBODY, {"address": address})
            raise ApiError(401, "sign_in_refused", "Expected the name of a user and their password; one is wrong.")
        lifetime_s = self._console_seconds if console else self._refresh_seconds
        session = self._sessions.begin(user.name, user.credential_id, lifetime_s)
        signed_in = self._signed_in(user, session, console=console)
        self._audit.record("login", user.name, {"address": address, "role": user.role, "session": session.id})
        return signed_in

    def refresh(self, refresh_token: str, address: str) -> SignedIn:
        """Exchange a refresh token, which then does not work any more, for new tokens.

        Raises:
            ApiError: 401, it was used before, has expired, or its user or password is gone.
            CredentialError, HomeNotWritableError: the files behind it cannot be read or written.
        """
        try:
            session = self._sessions.renew(refresh_token, self._refresh_seconds)
        except RefreshRefusedError as error:
            self._audit.record("refresh_refused", error.user or NOBODY, {"address": address, "reason": error.problem})
            raise ApiError(401, "refresh_refused", str(error)) from None
        user = self._users.read().get(session.user)
        if user is None or user.credential_id != session.credential_id:
            self._sessions.end(session.id)
            self._audit.record("refresh_refused", session.user, {"address": address, "reason": "ended"})
            raise ApiError(401, "refresh_refused", str(RefreshRefusedError("ended")))
        return self._signed_in(user, session, console=False)

    def sign_out(self, name: str, session_id: str, address: str) -> None:
        """End a session: its tokens are refused from now on, in other processes within a second.

        Raises:
            CredentialError, HomeNotWritableError: the file of sessions cannot be written.
        """
        self._sessions.end(session_id)
        self._audit.record("logout", name, {"address": address, "session": session_id})

    def _signed_in(self, user: User, session: Session, *, console: bool) -> SignedIn:
        lifetime_s = self._console_seconds if console else self._access_seconds
        token = issue_token(self._signing_key(), user, session.id, lifetime_s)
        return SignedIn(user, token, session.refresh_token, lifetime_s, self._refresh_seconds)

    def _signing_key(self) -> SigningKey:
        return self._environment_keys[-1] if self._environment_keys else self._keys.ensure()
