"""The counts of one process, for the library `limits`."""

import time
from typing import Final

from limits.storage import MemoryStorage

_CLEAN_SECONDS: Final = 60.0


class Counters(MemoryStorage):
    """Counts of one event loop, which need no locks.

    The library's own storage starts a thread a hundred times a second under load to forget what has expired, which
    costs more than counting. Here expired counts are forgotten once a minute, by whoever counts next.
    """

    STORAGE_SCHEME = ["levibot+process"]  # noqa: RUF012 - as the library declares it

    def __init__(self) -> None:
        super().__init__()
        self._clean_at = time.time() + _CLEAN_SECONDS

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Add to a count, which expires `expiry` seconds after it began."""
        now = time.time()
        if now >= self._clean_at:
            self._clean(now)
        count = self.get(key) + amount
        self.storage[key] = count
        if count == amount:
            self.expirations[key] = now + expiry
        return count

    def _clean(self, now: float) -> None:
        self._clean_at = now + _CLEAN_SECONDS
        for key in [key for key, expires_at in self.expirations.items() if expires_at <= now]:
            self.clear(key)
