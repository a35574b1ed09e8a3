"""The totals of the newest parity report, for Prometheus. The report is written by the pipelines, not here."""

import json
import logging
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ParityTotals:
    """Values compared and found different, and when the last comparison was made (seconds since the Unix epoch)."""

    compared: int
    mismatches: int
    checked_at_s: float


class ParityFigures:
    """Reads the report when it changed, and remembers what it said."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read: tuple[int, int] | None = None
        self._totals: ParityTotals | None = None

    def totals(self) -> ParityTotals | None:
        """What the newest report says; None when there is none that can be understood."""
        try:
            found = self._path.stat()
        except OSError:
            self._read = self._totals = None
            return None
        state = (found.st_ino, found.st_mtime_ns)
        if state != self._read:
            self._read, self._totals = state, self._parsed()
        return self._totals

    def _parsed(self) -> ParityTotals | None:
        try:
            report = json.loads(self._path.read_bytes())
            return ParityTotals(
                compared=int(report["parity_compared_total"]),
                mismatches=int(report["parity_mismatches_total"]),
                checked_at_s=datetime.fromisoformat(report["replayed_at"]).timestamp(),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("The parity report %s cannot be understood: %s", self._path, error)
            return None
