"""Writes to the home's audit log what happens at the door, without keeping a request waiting for the disk.

A refusal that repeats itself (the same caller, the same reason, the same route) is written once and then counted: one
more record a minute says how often, so that nobody can fill the disk by knocking.
"""

import logging
import queue
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from levibot_core.errors import LevibotError
from levibot_core.stores.audit_log import AuditLog

logger = logging.getLogger(__name__)

NOBODY: Final = "anonymous"
"""The actor of what nobody who is signed in did."""
_REPEAT_SECONDS: Final = 60.0
_MOST_KINDS: Final = 1000
_MOST_WAITING: Final = 10_000
_JOIN_SECONDS: Final = 10.0

_Kind = tuple[str, str, tuple[tuple[str, Any], ...]]


@dataclass(frozen=True, slots=True)
class _Event:
    event: str
    actor: str
    details: Mapping[str, Any]


@dataclass(slots=True)
class _Repeated:
    first: _Event
    since: float
    further: int = 0


class AuditTrail:
    """The audit log of one home, written by a thread of its own. Any thread may use it."""

    def __init__(self, path: Path) -> None:
        self._log = AuditLog(path)
        self._waiting: queue.Queue[_Event | None] = queue.Queue(_MOST_WAITING)
        self._repeated: dict[_Kind, _Repeated] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """Events that are not in the log: it cannot be written, or too many waited."""
        return self._dropped

    def record(self, event: str, actor: str, details: Mapping[str, Any]) -> None:
        """Write an event before going on, for threads that may wait.

        An event that cannot be written is logged and counted, and no reason to fail: a full disk must not keep an
        admin from the kill switch.

        Args:
            event: What kind of thing happened, such as `login`.
            actor: Who did it.
            details: JSON values; no secret belongs here.
        """
        self._write(_Event(event, actor, details))

    def note(self, event: str, actor: str, details: Mapping[str, Any]) -> None:
        """Hand an event over to be written, and count it where the same was handed over within the last minute."""
        found = _Event(event, actor, details)
        kind = (event, actor, tuple(sorted(details.items())))
        now = time.monotonic()
        with self._lock:
            repeated = self._repeated.get(kind)
            if repeated is not None and now - repeated.since < _REPEAT_SECONDS:
                repeated.further += 1
                return
            self._end_repeats(now)
            if len(self._repeated) < _MOST_KINDS:
                self._repeated[kind] = _Repeated(found, now)
            self._hand_over(found)

    def flush(self) -> None:
        """Wait until everything that was handed over is written, counts of repeats included."""
        with self._lock:
            self._end_repeats(float("inf"))
        self._waiting.join()

    def stop(self) -> None:
        """Write what waits and end the thread."""
        self.flush()
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._waiting.put(None)
            thread.join(_JOIN_SECONDS)

    def _end_repeats(self, now: float) -> None:
        ended = [kind for kind, each in self._repeated.items() if now - each.since >= _REPEAT_SECONDS]
        for kind in ended:
            each = self._repeated.pop(kind)
            if each.further:
                details = {**each.first.details, "repeated": each.further}
                self._hand_over(_Event(each.first.event, each.first.actor, details))

    def _hand_over(self, event: _Event) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_until_stopped, name="audit-trail", daemon=True)
            self._thread.start()
        try:
            self._waiting.put_nowait(event)
        except queue.Full:
            self._dropped += 1

    def _write_until_stopped(self) -> None:
        while True:
            event = self._waiting.get()
            try:
                if event is None:
                    return
                self._write(event)
            finally:
                self._waiting.task_done()

    def _write(self, event: _Event) -> None:
        try:
            self._log.append(event.event, event.actor, event.details)
        except (LevibotError, ValueError):
            self._dropped += 1
            logger.exception("The audit log lacks an event of the kind %s", event.event)
