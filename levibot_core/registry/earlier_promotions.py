"""Promotions that were recorded before there was an audit log: taken over into it once, as one record.

Homes of that time have `logs/promotions.jsonl`, a line per promotion, which nothing chains. From its record on, the
audit log vouches for what the file said then. Reading the log as changes is `.champions`' work.
"""

import json
from typing import Any, Final

from filelock import FileLock

from levibot_core.errors import AuditLogError
from levibot_core.stores.audit_log import AuditLog, AuditRecord
from levibot_core.stores.paths import Home

EARLIER: Final = "earlier_promotions"
_FIELDS: Final = ("time", "actor", "model", "from", "to", "reason")


def take_over(home: Home, log: AuditLog) -> None:
    """Put the promotions of an old home into its audit log, and the old file out of the way. Later calls do nothing.

    Raises:
        AuditLogError: a line of the file cannot be read.
        HomeNotWritableError: it cannot be recorded; the file stays as it is.
    """
    old = home.logs / "promotions.jsonl"
    if not old.exists():
        return
    with FileLock(old.with_suffix(".lock")):
        if not old.exists():  # Another process was quicker.
            return
        # One that was killed in between has recorded them, and only left the file.
        if not any(record.event == EARLIER for record in log.read()):
            lines = old.read_text("utf-8").splitlines()
            promotions = [_record(number, line) for number, line in enumerate(lines, start=1)]
            log.append(EARLIER, "levibot", {"file": old.name, "promotions": promotions})
        old.replace(old.with_suffix(".taken-over.jsonl"))


def promotions_of(record: AuditRecord) -> list[dict[str, Any]]:
    """The promotions that a record of the event `EARLIER` holds, oldest first, in the fields of the old file."""
    found: Any = record.details["promotions"]
    return list(found)


def _record(number: int, line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
        return {field: found[field] for field in _FIELDS}
    except (ValueError, KeyError, TypeError) as error:
        raise AuditLogError(
            f"Expected line {number} of logs/promotions.jsonl to be a promotion with {', '.join(_FIELDS)}, but "
            f"{error!r}. Correct the line, or move the file away: then the history begins with the audit log."
        ) from error
