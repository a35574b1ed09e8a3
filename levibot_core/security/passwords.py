"""How passwords are kept: as Argon2id hashes (RFC 9106). Which are too weak is in `strength`."""

import base64
import secrets
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

_HASH_BYTES: Final = 32
_SALT_BYTES: Final = 16


class PasswordHashes:
    """Makes and checks hashes.

    The defaults are the second recommended choice of RFC 9106, section 4: 3 passes over 64 MiB in 4 lanes, which take
    about a tenth of a second.
    """

    def __init__(self, time_cost: int = 3, memory_kib: int = 64 << 10, parallelism: int = 4) -> None:
        self._hasher = PasswordHasher(time_cost, memory_kib, parallelism, _HASH_BYTES, _SALT_BYTES)
        salt, digest = (_encoded(secrets.token_bytes(count)) for count in (_SALT_BYTES, _HASH_BYTES))
        # Of no password: its bytes are random, and checking it takes as long as checking a real one.
        self._nobody = f"$argon2id$v=19$m={memory_kib},t={time_cost},p={parallelism}${salt}${digest}"

    def hash(self, password: str) -> str:
        """A new hash, with its salt and its parameters."""
        return self._hasher.hash(_bytes(password))

    def matches(self, password_hash: str | None, password: str) -> bool:
        """Whether the password is the one that was hashed. Without a hash it is not, after the same time."""
        try:
            return self._hasher.verify(password_hash or self._nobody, _bytes(password))
        except (VerificationError, InvalidHashError):
            return False


def _bytes(password: str) -> bytes:
    # JSON may hold half of a surrogate pair; that is a password like any other, and no reason to fail.
    return password.encode("utf-8", "surrogatepass")


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).rstrip(b"=").decode()
