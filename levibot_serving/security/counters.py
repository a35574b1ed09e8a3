"""The counts of one process: the sliding window of the library `limits`, counted and read in one step.

The library's own storage takes locks and, under load, starts a thread a hundred times a second to forget what has
expired. One event loop needs neither, and a request asks for the count and for what is left of it at once.
"""

import math
import time
from dataclasses import dataclass
from typing import Final

_CLEAN_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a request to count.

    Attributes:
        allowed: Whether it was counted.
        remaining: What is left of the limit.
        reset_s: Seconds until some of it is free again.
    """

    allowed: bool
    remaining: int
    reset_s: float


class Counters:
    """Counts by key. For one event loop."""

    def __init__(self) -> None:
        # Of a key and a window: the count, and the time from which nobody asks for it.
        self._counts: dict[tuple[str, int], tuple[int, float]] = {}
        self._clean_at = time.time() + _CLEAN_SECONDS

    def __len__(self) -> int:
        return len(self._counts)

    def take(self, key: str, limit: int, seconds: int, cost: int = 1) -> Taken:
        """Count `cost` where the window allows it.

        Of the fixed window before, that share counts which the sliding one still covers: the sliding window counter of
        `limits` (SlidingWindowCounterRateLimiter), which counts in Redis as well.

        Args:
            key: Whose count.
            limit: Most that is allowed in a window.
            seconds: Length of a window.
            cost: How much to count.
        """
        now = time.time()
        if not self._clean_at - _CLEAN_SECONDS <= now < self._clean_at:  # Also after the clock was set back.
            self._clean(now)
        window = int(now / seconds)
        before, _ = self._counts.get((key, window - 1), (0, 0.0))
        count, _ = self._counts.get((key, window), (0, 0.0))
        left_s = (1 - (now / seconds) % 1) * seconds
        used = before * left_s / seconds + count
        allowed = math.floor(used) + cost <= limit
        if allowed:
            count, used = count + cost, used + cost
            self._counts[key, window] = (count, (window + 2) * seconds)
        free = [left_s % (seconds / before)] if before else []
        if count:
            free.append(left_s % seconds)
        return Taken(allowed, max(0, limit - math.floor(used)), min(free, default=0.0))

    def _clean(self, now: float) -> None:
        self._clean_at = now + _CLEAN_SECONDS
        self._counts = {key: count for key, count in self._counts.items() if count[1] > now}
