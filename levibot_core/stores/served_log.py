"""The log of served feature vectors: JSON lines, one file per UTC day, appended by whole lines only.

    <folder>/2026-01-02.jsonl

A line is either a vector that was served, with everything needed to compute it again, or the number of further times
that such a vector was served. Numbers are written so that they read back with the same 64 bits. Which servings get a
line is decided by the inference API (`levibot_serving.vector_log`); what is read here is replayed by
`levibot_core.monitoring.parity`.
"""

import errno
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from levibot_core.stores.paths import not_writable

_SUFFIX = ".jsonl"


@dataclass(frozen=True, slots=True)
class ServedVector:
    """A feature vector that a forecast was made from, when it was first served.

    Attributes:
        symbol: Inside spelling, BTC/USDT.
        ts_ms: Open time of the bar, UTC milliseconds.
        known_at_ms: Decision time (close of the bar), UTC milliseconds.
        feature_set: Version of the registry the values follow.
        source_kind: `exchange`, `recorded` or `simulated`.
        source_key: Which source of the lake the values come from; None when that was not known.
        model: Registered model that answered.
        model_version: Its version.
        served_at_ms: UTC milliseconds.
        close: Close of the bar, quote currency.
        values: Feature name to value, as served.
    """

    symbol: str
    ts_ms: int
    known_at_ms: int
    feature_set: str
    source_kind: str
    source_key: str | None
    model: str
    model_version: int
    served_at_ms: int
    close: float
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class FurtherServings:
    """How often a vector that has its line was served again, up to the last time (UTC milliseconds)."""

    symbol: str
    ts_ms: int
    feature_set: str
    model_version: int
    servings: int
    served_at_ms: int


@dataclass(frozen=True, slots=True)
class UnreadableLine:
    """A line that is not whole: its process was killed, or the disk was full, while it was written."""

    number: int


Entry = ServedVector | FurtherServings
_VECTOR, _FURTHER = TypeAdapter(ServedVector), TypeAdapter(FurtherServings)


class ServedLog:
    """The files below one folder. Several processes may append to the same file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def append(self, entries: Sequence[Entry]) -> None:
        """Append a line per entry to the file of the UTC day it was served on, each file in one write.

        Raises:
            HomeNotWritableError: the operating system refused. Lines of days before the refused one are written; a
                line that was cut short is closed off by the next append, and read as unreadable.
        """
        by_day: dict[Path, list[str]] = {}
        for entry in entries:
            by_day.setdefault(self.file_of(entry.served_at_ms), []).append(_line(entry))
        for path, lines in by_day.items():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                _append(path, "".join(lines).encode())
            except OSError as error:
                raise not_writable(path, error) from error

    def file_of(self, served_at_ms: int) -> Path:
        """The file for what is served at that instant."""
        return self.folder / f"{datetime.fromtimestamp(served_at_ms / 1000, UTC):%Y-%m-%d}{_SUFFIX}"

    def files(self) -> Mapping[date, Path]:
        """The files there are by UTC day, oldest first; other files are left out."""
        found: dict[date, Path] = {}
        for path in sorted(self.folder.glob(f"*{_SUFFIX}")):
            try:
                found[date.fromisoformat(path.stem)] = path
            except ValueError:
                continue
        return found

    def remove_before(self, day: date) -> None:
        """Remove the files of days before that one.

        Raises:
            HomeNotWritableError: a file cannot be removed.
        """
        for written, path in self.files().items():
            if written < day:
                try:
                    path.unlink(missing_ok=True)
                except OSError as error:
                    raise not_writable(path, error) from error


def read_entries(path: Path) -> Iterator[Entry | UnreadableLine]:
    """Every line of a file, one at a time; a line that is not whole is yielded as such and never guessed at."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            entry = _parsed(line) if line.endswith(b"\n") else None
            yield UnreadableLine(number) if entry is None else entry


def _line(entry: Entry) -> str:
    content = {field.name: getattr(entry, field.name) for field in fields(entry)}
    if isinstance(entry, ServedVector):
        # `repr` of a float, which JSON gets, is the shortest text that reads back as the same 64 bits.
        content["values"] = {name: float(value) for name, value in entry.values.items()}
    return json.dumps(content, separators=(",", ":"), allow_nan=False) + "\n"


def _parsed(line: bytes) -> Entry | None:
    try:
        content = json.loads(line, parse_constant=_refuse)
        return (_VECTOR if "values" in content else _FURTHER).validate_python(content)
    except (ValueError, TypeError, ValidationError):
        return None


def _refuse(constant: str) -> float:
    raise ValueError(constant)


def _append(path: Path, content: bytes) -> None:
    """Add whole lines with one write, on a line of their own even after one that was cut short."""
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            content = b"\n" + content
        if os.write(descriptor, content) < len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(descriptor)
