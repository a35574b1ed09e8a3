"""A thread that does something again and again, off the event loop, until it is stopped."""

import logging
import threading
from collections.abc import Callable

logger = logging.getLogger(__name__)

_JOIN_TIMEOUT_S = 5.0


class PeriodicThread:
    """Calls `work` every so many seconds, and once more when it is stopped; an exception is logged and forgotten."""

    def __init__(self, name: str, seconds: float, work: Callable[[], None]) -> None:
        self._name = name
        self._seconds = seconds
        self._work = work
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Work a last time, and end."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_JOIN_TIMEOUT_S)

    def _run(self) -> None:
        stopping = False
        while not stopping:
            stopping = self._stop.wait(self._seconds)
            try:
                self._work()
            except Exception:
                logger.exception("The thread %s failed in an unforeseen way, and goes on", self._name)
