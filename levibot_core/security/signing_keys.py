"""The keys that tokens are signed with: one private JSON file of the home, newest key last.

After a rotation the old key verifies until the last token it signed has expired, and is then forgotten. A key from the
environment is made by `key_from_secret` and is rotated where it comes from.
"""

import base64
import hashlib
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal

from filelock import FileLock
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from levibot_core.errors import CredentialError
from levibot_core.security.secret_files import PRIVATE_FILE, make_private_folder, read_secret_file, write_secret_file
from levibot_core.stores.paths import not_writable

_KEY_BYTES: Final = 32


class SigningKey(BaseModel):
    """A key for HMAC with SHA-256."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(description="What the header of a token names it by")
    secret: str = Field(repr=False, description="The key, as text")
    created_at: AwareDatetime
    accepted_until: AwareDatetime | None = Field(None, description="When its last token expires; null for the newest")

    @property
    def content(self) -> bytes:
        """The bytes to sign with."""
        return self.secret.encode()


class _Content(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = 1
    keys: tuple[SigningKey, ...] = ()


class SigningKeysFile:
    """The keys of one home. Processes take turns in changing them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, now: datetime | None = None) -> tuple[SigningKey, ...]:
        """The keys that are accepted, the one to sign with last; none where there is no file.

        Raises:
            CredentialError: the file cannot be read, or by others too, or is not what was written.
        """
        content = read_secret_file(self.path)
        if content is None:
            return ()
        try:
            return _accepted(_Content.model_validate_json(content).keys, now or datetime.now(UTC))
        except ValidationError as error:
            raise CredentialError(
                f"Expected {self.path} to hold signing keys as `levibot keys` writes them, but {error.error_count()} "
                "fields do not fit. Restore it from a copy, or delete it: everybody has to sign in again."
            ) from None  # The cause would repeat the file.

    def ensure(self) -> SigningKey:
        """The key to sign with, made now where there is none.

        Raises:
            CredentialError: the file cannot be read.
            HomeNotWritableError: it cannot be written.
        """
        keys = self.read()
        return keys[-1] if keys else self._add(timedelta(0), only_first=True)

    def rotate(self, overlap: timedelta) -> SigningKey:
        """Sign with a new key from now on.

        Args:
            overlap: How long the key before goes on verifying: as long as its tokens live. Zero forgets all older keys.

        Raises:
            CredentialError: the file cannot be read.
            HomeNotWritableError: it cannot be written.
        """
        return self._add(overlap, only_first=False)

    def _add(self, overlap: timedelta, *, only_first: bool) -> SigningKey:
        make_private_folder(self.path.parent)
        try:
            with FileLock(self.path.with_suffix(".lock"), mode=PRIVATE_FILE):
                now = datetime.now(UTC)
                keys = self.read(now)
                if keys and only_first:
                    return keys[-1]
                ending = [key.model_copy(update={"accepted_until": now + overlap}) for key in keys[-1:]]
                kept = (*keys[:-1], *ending) if overlap else ()
                content = _Content(keys=(*kept, key_from_secret(_new_secret(), now)))
                write_secret_file(self.path, content.model_dump_json(indent=2).encode() + b"\n")
                return content.keys[-1]
        except OSError as error:
            raise not_writable(self.path, error) from error


def key_from_secret(secret: str, created_at: datetime) -> SigningKey:
    """A key whose id is made of the secret, so that every process that has it names it the same."""
    digest = hashlib.sha256(b"levibot signing key id\n" + secret.encode()).hexdigest()
    return SigningKey(id=digest[:12], secret=secret, created_at=created_at)


def _accepted(keys: Iterable[SigningKey], now: datetime) -> tuple[SigningKey, ...]:
    return tuple(key for key in keys if key.accepted_until is None or key.accepted_until > now)


def _new_secret() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(_KEY_BYTES)).decode()
