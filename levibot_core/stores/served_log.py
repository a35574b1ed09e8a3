"""The log of served feature vectors: JSON lines, one file per UTC day, appended by whole lines only.

    <folder>/2026-01-02.jsonl

A line is either a vector that was served, with everything needed to compute it again, or the number of further times
that such a vector was served. Numbers are written so that they read back with the same 64 bits. Which servings get a
line is decided by the inference API (`levibot_serving.vector_log`); what is read here is replayed by
`levibot_core.monitoring.parity`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from levibot_core.stores.daily_lines import DailyLines


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


class ServedLog(DailyLines):
    """The files below one folder. Several processes may append to the same file."""

    def append(self, entries: Sequence[Entry]) -> None:
        """Append a line per entry to the file of the UTC day it was served on, each file in one write.

        Raises:
            ValueError: a value is not finite; nothing is written.
            HomeNotWritableError: as `DailyLines.append_lines`.
        """
        self.append_lines((entry.served_at_ms, _line(entry)) for entry in entries)


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
    return json.dumps(content, separators=(",", ":"), allow_nan=False)


def _parsed(line: bytes) -> Entry | None:
    try:
        content = json.loads(line, parse_constant=_refuse)
        return (_VECTOR if "values" in content else _FURTHER).validate_python(content)
    except (ValueError, TypeError, ValidationError):
        return None


def _refuse(constant: str) -> float:
    raise ValueError(constant)
