"""The parity report: what replaying the log found per day, and totals that outlive the log's own days.

Comparing is `levibot_core.monitoring.parity`'s work. The totals are what Prometheus and alerts look at.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from levibot_core.errors import LakeCorruptionError
from levibot_core.monitoring.parity import LISTED, DayParity
from levibot_core.stores.files import write_json_atomically

KEPT_DAYS = 400
"""Days whose figures stay in the report after their log is gone."""

_COUNTS = ("vectors", "servings", "compared", "mismatches", "unreadable_lines")


@dataclass(frozen=True, slots=True)
class ParityReport:
    """One replay of everything in the log, and what earlier replays found on days that the log no longer holds."""

    replayed_at: datetime
    days: Sequence[DayParity]
    earlier: Sequence[Mapping[str, Any]] = ()

    def count(self, what: str) -> int:
        """Sum over the days of the log of `vectors`, `servings`, `compared`, `mismatches` or `unreadable_lines`."""
        return sum(getattr(day, what) for day in self.days)

    @property
    def not_comparable(self) -> dict[str, int]:
        """Vectors of the log that could not be replayed, by reason."""
        found: dict[str, int] = {}
        for day in self.days:
            for reason, vectors in day.not_comparable.items():
                found[reason] = found.get(reason, 0) + vectors
        return found

    @property
    def differences(self) -> pl.DataFrame:
        """The newest `LISTED` differences, newest first; columns as `DayParity.differences`."""
        listed = [day.differences for day in reversed(self.days) if not day.differences.is_empty()]
        return pl.concat(listed).sort("served_at", "ts", descending=True).head(LISTED) if listed else pl.DataFrame()

    @property
    def by_day(self) -> list[dict[str, Any]]:
        """`day` (ISO), the counts and `not_comparable` (vectors) of every day, oldest first."""
        ours = [
            {
                "day": f"{day.day:%Y-%m-%d}",
                **{name: getattr(day, name) for name in _COUNTS},
                "not_comparable": sum(day.not_comparable.values()),
            }
            for day in self.days
        ]
        return sorted([*(dict(day) for day in self.earlier), *ours], key=lambda day: str(day["day"]))

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON. `compared` and `mismatches` are of the log as it is; the totals include days gone by."""
        by_day = self.by_day
        return {
            "replayed_at": self.replayed_at.isoformat(timespec="seconds"),
            **{name: self.count(name) for name in _COUNTS},
            "not_comparable": self.not_comparable,
            "parity_compared_total": sum(day["compared"] for day in by_day),
            "parity_mismatches_total": sum(day["mismatches"] for day in by_day),
            "differences": [_named(difference) for difference in self.differences.iter_rows(named=True)],
            "days": by_day,
        }


def parity_report(days: Iterable[DayParity], replayed_at: datetime, previous: Mapping[str, Any] | None) -> ParityReport:
    """Join a replay with the days of an earlier report whose log is gone, so that a total never falls with retention.

    Args:
        days: What `replay_log` gives.
        replayed_at: Now, UTC.
        previous: The report before this one as `read_parity_report` gives it, or None.
    """
    replayed = sorted(days, key=lambda day: day.day)
    in_the_log = {f"{day.day:%Y-%m-%d}" for day in replayed}
    oldest = f"{replayed_at.astimezone(UTC).date() - timedelta(days=KEPT_DAYS):%Y-%m-%d}"
    earlier = [day for day in (previous or {}).get("days", []) if day["day"] not in in_the_log and day["day"] >= oldest]
    return ParityReport(replayed_at, replayed, earlier)


def read_parity_report(path: Path) -> dict[str, Any] | None:
    """The report at that path, or None when there is none.

    Raises:
        LakeCorruptionError: a file is there, but no report.
    """
    if not path.exists():
        return None
    try:
        report: dict[str, Any] = json.loads(path.read_bytes())
        for day in report["days"]:
            date.fromisoformat(day["day"])
            if not all(isinstance(day[name], int) for name in (*_COUNTS, "not_comparable")):
                raise ValueError(f"{day['day']} has no counts")
    except (ValueError, KeyError, TypeError) as error:
        raise LakeCorruptionError(
            f"Expected {path} to be a parity report, was unreadable ({error}). Move it away: the days that are still "
            "in the log are replayed; the totals of older days are lost."
        ) from error
    return report


def write_parity_report(path: Path, report: ParityReport) -> None:
    """Write the report as JSON.

    Raises:
        HomeNotWritableError: the file cannot be written; the report before it is as it was.
    """
    write_json_atomically(path, report.to_dict())


def _named(difference: Mapping[str, Any]) -> dict[str, Any]:
    """A difference for people and JSON: instants in ISO, and the values both as numbers and exactly."""
    served, offline = difference["served"], difference["offline"]
    return {
        "symbol": difference["symbol"],
        "ts": _iso(difference["ts"]),
        "feature": difference["feature"],
        "served": None if math.isnan(served) else served,
        "offline": None if math.isnan(offline) else offline,
        "model_version": difference["model_version"],
        "served_at": _iso(difference["served_at"]),
    }


def _iso(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
