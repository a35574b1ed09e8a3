"""The real application, whose wall clock jumps an hour ahead on SIGUSR1, an hour back on SIGUSR2, and back again.

The system's clock is not for a benchmark to set. What the platform reads is `time.time_ns`, which is replaced before
anything of it is imported; a second signal of the same kind brings the right time back.
"""

import signal
import time

HOUR_NS = 3_600_000_000_000
_offset_ns = 0
_right_time_ns = time.time_ns


def _moved_time_ns() -> int:
    return _right_time_ns() + _offset_ns


def _jump(number: int, _frame: object) -> None:
    global _offset_ns
    asked = HOUR_NS if number == signal.SIGUSR1 else -HOUR_NS
    _offset_ns = 0 if _offset_ns == asked else asked


time.time_ns = _moved_time_ns
signal.signal(signal.SIGUSR1, _jump)
signal.signal(signal.SIGUSR2, _jump)

from levibot_serving.main import create_app  # noqa: E402 - after the clock was replaced

__all__ = ["create_app"]
