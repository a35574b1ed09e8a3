"""The parity report: what replaying the log found per day, and totals that outlive the log's own days.

Comparing is `levibot_core.monitoring.parity`'s work. The totals are what Prometheus and alerts look at.
"""

import json
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from levibot_core.errors import LakeCorruptionError
from levibot_core.monitoring.parity import LISTED, DayParity
from levibot_core.stores.files import write_json_atomically

KEPT_DAYS = 400
"""Days whose figures stay in the report after their log is gone."""

_COUNTS = ("vectors", "servings", "compared", "mismatches", "unreadable_lines")


@dataclass(frozen=True, slots=True)
class ParityReport:
    """A replay of the log, and what earlier replays found on other days.

    Attributes:
        replayed_at: When, UTC.
        days: The days replayed now, oldest first.
        earlier: Figures of other days: `day` (ISO) and counts, as `by_day` gives them.
        earlier_differences: Differences on those of them that are still in the log, as `to_dict` lists them.
        logged: Days that the log holds.
    """

    replayed_at: datetime
    days: Sequence[DayParity]
    earlier: Sequence[Mapping[str, Any]]
    earlier_differences: Sequence[Mapping[str, Any]]
    logged: Collection[date]

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

    def count(self, what: str) -> int:
        """Sum over the days of the log of `vectors`, `servings`, `compared`, `mismatches` or `unreadable_lines`."""
        logged = {f"{day:%Y-%m-%d}" for day in self.logged}
        return sum(day[what] for day in self.by_day if day["day"] in logged)

    @property
    def not_comparable(self) -> dict[str, int]:
        """Vectors that could not be replayed now, by reason."""
        found: Counter[str] = Counter()
        for day in self.days:
            found.update(day.not_comparable)
        return dict(sorted(found.items()))

    @property
    def differences(self) -> list[dict[str, Any]]:
        """The newest `LISTED` differences on days of the log, newest first.

        symbol, ts (open time of the bar), feature, served, offline (null on a side without a value), model_version
        and served_at; instants in ISO.
        """
        ours = [_named(difference) for day in self.days for difference in day.differences.iter_rows(named=True)]
        everything = [*ours, *(dict(difference) for difference in self.earlier_differences)]
        return sorted(everything, key=lambda item: (item["served_at"], item["ts"]), reverse=True)[:LISTED]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON. The counts are of the log as it is; the two totals include days gone by."""
        by_day = self.by_day
        return {
            "replayed_at": self.replayed_at.isoformat(timespec="seconds"),
            **{name: self.count(name) for name in _COUNTS},
            "not_comparable": self.not_comparable,
            "parity_compared_total": sum(day["compared"] for day in by_day),
            "parity_mismatches_total": sum(day["mismatches"] for day in by_day),
            "differences": self.differences,
            "days": by_day,
        }


def parity_report(
    days: Iterable[DayParity], replayed_at: datetime, logged: Collection[date], previous: Mapping[str, Any] | None
) -> ParityReport:
    """Join a replay with what an earlier report says of other days, so that a total never falls.

    Args:
        days: What `replay_log` gives.
        replayed_at: Now, UTC.
        logged: Days that the log holds.
        previous: The report before this one as `read_parity_report` gives it, or None.
    """
    replayed = sorted(days, key=lambda day: day.day)
    now = {f"{day.day:%Y-%m-%d}" for day in replayed}
    kept = {f"{day:%Y-%m-%d}" for day in logged} - now
    oldest = f"{replayed_at.astimezone(UTC).date() - timedelta(days=KEPT_DAYS):%Y-%m-%d}"
    before = previous or {"days": [], "differences": []}
    return ParityReport(
        replayed_at,
        replayed,
        earlier=[day for day in before["days"] if day["day"] not in now and day["day"] >= oldest],
        earlier_differences=[item for item in before["differences"] if item["served_at"][:10] in kept],
        logged=logged,
    )


def replay_since(previous: Mapping[str, Any] | None) -> date | None:
    """The first day that may have grown since a report was made: the day before it; None when there is no report."""
    if previous is None:
        return None
    return datetime.fromisoformat(previous["replayed_at"]).astimezone(UTC).date() - timedelta(days=1)


def read_parity_report(path: Path) -> dict[str, Any] | None:
    """The report at that path, or None when there is none.

    Raises:
        LakeCorruptionError: a file is there, but no report.
    """
    if not path.exists():
        return None
    try:
        report: dict[str, Any] = json.loads(path.read_bytes())
        datetime.fromisoformat(report["replayed_at"])
        if not all(isinstance(item["served_at"] + item["ts"], str) for item in report["differences"]):
            raise ValueError("a difference has no time")
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
