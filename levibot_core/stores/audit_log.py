"""An append-only log whose records are chained by their hashes, so that an altered history is noticed.

Every record carries the hash of the one before it, and a small file beside the log the hash of the newest. Changed,
removed, exchanged or inserted records break the chain; records cut off at the end leave it shorter than that file
says. Whoever can write both files can still write a history of their own: keep the newest hash elsewhere as well, and
hand it to `AuditLog.verify`. What is worth recording is decided by those who append.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from filelock import FileLock
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, ValidationError

from levibot_core.errors import AuditLogError
from levibot_core.stores.files import write_json_atomically
from levibot_core.stores.paths import not_writable

GENESIS: Final = "0" * 64
"""What the first record has for the hash of the one before it."""
TORN_LINE: Final = "torn_line_removed"
"""Event of a record that says that a writer was killed in the middle of a line."""
_PRIVATE = 0o600
_TAIL_BYTES = 1 << 16


class AuditRecord(BaseModel):
    """One thing that happened."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sequence: int = Field(ge=1, description="Counts from 1, without a gap")
    time: AwareDatetime = Field(description="When it was recorded, UTC")
    event: str = Field(min_length=1, description="What kind of thing, such as `promotion`")
    actor: str = Field(min_length=1, description="Who did it: a person's or a program's name")
    details: dict[str, JsonValue] = Field(description="What belongs to this kind of event")
    previous: str = Field(description="SHA-256 of the record before, lower-case hexadecimal")
    hash: str = Field(description="SHA-256 of this record without this field, as canonical JSON")

    def computed_hash(self) -> str:
        """The hash that the record should have."""
        return _hash_of(self.model_dump(mode="json", exclude={"hash"}))


class AuditVerification(BaseModel):
    """Whether a log is what its writers left."""

    model_config = ConfigDict(frozen=True)

    records: int
    head: str = Field(description="Hash of the newest record; keep it elsewhere to notice a log written anew")
    problems: tuple[str, ...] = Field(description="What is wrong, in words; nothing where the log is intact")

    @property
    def intact(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


class AuditLog:
    """A log in a file of its own, `<name>.jsonl`, with `<name>.head.json` beside it. Only its owner reads the log."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._head = path.with_suffix(".head.json")

    def append(self, event: str, actor: str, details: Mapping[str, Any]) -> AuditRecord:
        """Add a record and flush it to the device; processes take turns.

        A line that a killed writer left unfinished was never promised to anybody: it is cut off, which is recorded.

        Args:
            event: What kind of thing happened.
            actor: Who did it.
            details: JSON values; no secret belongs here.

        Raises:
            ValueError: a detail is no JSON value, such as a NaN.
            AuditLogError: the newest record cannot be read, so that nothing can be chained to it.
            HomeNotWritableError: the operating system refused.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.path.with_suffix(".lock"), mode=_PRIVATE):
                newest, torn = self._tail()
                if torn:
                    os.truncate(self.path, self.path.stat().st_size - torn)
                    newest = self._write(_following(newest, TORN_LINE, "levibot", {"bytes": torn}))
                return self._write(_following(newest, event, actor, details))
        except OSError as error:
            raise not_writable(self.path, error) from error

    def read(self) -> list[AuditRecord]:
        """Every record, oldest first; an unfinished last line is left out.

        Raises:
            AuditLogError: a line is no record. `verify` names every one.
        """
        return [_parsed(number, line) for number, line in enumerate(self._lines(), start=1)]

    def verify(self, known_head: str | None = None) -> AuditVerification:
        """Compute every hash again and hold it against the chain.

        Args:
            known_head: The newest hash at some earlier time, kept elsewhere: it has to be in the chain still.
        """
        problems: list[str] = []
        expected, records = GENESIS, 0
        hashes: set[str] = set()
        for number, line in enumerate(self._lines(), start=1):
            records = number
            try:
                record = _parsed(number, line)
            except AuditLogError as error:
                problems.append(str(error))
                continue
            if record.sequence != number:
                problems.append(f"line {number}: is record {record.sequence}; one was removed, inserted or moved")
            if record.previous != expected:
                problems.append(f"line {number}: does not follow the record before it")
            # Also what means the same is not what was written: a `z` for a `Z` in a time, another order of the fields.
            if record.computed_hash() != record.hash or line != _line(record):
                problems.append(f"line {number}: was altered after it was written")
            expected = record.hash
            hashes.add(record.hash)
        problems += self._head_problems(records, hashes)
        if known_head is not None and known_head not in hashes:
            problems.append(f"the record {known_head[:12]}, known from elsewhere, is not in the log")
        return AuditVerification(records=records, head=expected, problems=tuple(problems))

    def _head_problems(self, records: int, hashes: set[str]) -> Iterator[str]:
        if not self._head.exists():
            if records:
                yield f"{self._head.name} is missing; it says which record is the newest"
            return
        try:
            head = json.loads(self._head.read_bytes())
            count, newest = int(head["records"]), str(head["hash"])
        except (ValueError, KeyError, TypeError):
            yield f"{self._head.name} cannot be read"
            return
        # A writer killed between the record and this file leaves it one behind, and that is no harm.
        if newest not in hashes:
            yield f"the newest record ({count}, {newest[:12]}) is not in the log: it was cut off or written anew"

    def _tail(self) -> tuple[AuditRecord | None, int]:
        """The newest record and the bytes of an unfinished line after it.

        Read from the end: adding a record takes as long after a year as on the first day.
        """
        if not self.path.exists():
            return None, 0
        with self.path.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            length = _TAIL_BYTES
            while True:
                log.seek(max(0, size - length))
                *lines, torn = log.read().split(b"\n")
                # The first line is whole only where the one before it is there as well, or nothing is.
                if len(lines) > 1 or length >= size:
                    return (_newest(lines[-1]) if lines else None), len(torn)
                length *= 2

    def _lines(self) -> Iterator[bytes]:
        """Whole lines, oldest first."""
        if not self.path.exists():
            return
        with self.path.open("rb") as log:
            for line in log:
                if line.endswith(b"\n"):
                    yield line

    def _write(self, record: AuditRecord) -> AuditRecord:
        with open(self.path, "ab", opener=_private) as log:
            log.write(_line(record))
            log.flush()
            os.fsync(log.fileno())
        write_json_atomically(self._head, {"records": record.sequence, "hash": record.hash})
        return record


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, _PRIVATE)


def _following(newest: AuditRecord | None, event: str, actor: str, details: Mapping[str, Any]) -> AuditRecord:
    unsigned = AuditRecord(
        sequence=newest.sequence + 1 if newest else 1,
        time=datetime.now(UTC),
        event=event,
        actor=actor,
        details=dict(details),
        previous=newest.hash if newest else GENESIS,
        hash="",
    )
    return unsigned.model_copy(update={"hash": unsigned.computed_hash()})


def _line(record: AuditRecord) -> bytes:
    return record.model_dump_json().encode() + b"\n"


def _newest(line: bytes) -> AuditRecord:
    try:
        return AuditRecord.model_validate_json(line)
    except ValidationError as error:
        raise AuditLogError(
            f"Expected the last line of the audit log to be a record, was {line[:60]!r}. See `levibot audit verify`, "
            "and restore the log from a copy: nothing is recorded after a record that cannot be read."
        ) from error


def _parsed(number: int, line: bytes) -> AuditRecord:
    try:
        return AuditRecord.model_validate_json(line)
    except ValidationError as error:
        raise AuditLogError(
            f"line {number}: expected an audit record, was {line[:60]!r} "
            f"({error.error_count()} fields do not fit). Restore the log from a copy."
        ) from error


def _hash_of(content: Mapping[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
