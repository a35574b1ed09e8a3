"""Outcomes of controls on disk, one line each, so that hours of work survive whatever stops them.

Only outcomes of the very code that is running count. What a control is, and how one is run, is in
`levibot_core.validation.controls`.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from benchmarks.harness import ROOT
from levibot_core.validation.controls import Control, ControlOutcome


@dataclass(frozen=True, slots=True)
class ControlRecord:
    """What became of one control, and the seconds it took."""

    outcome: ControlOutcome
    seconds: float


@dataclass(frozen=True, slots=True)
class _Line:
    code: str
    record: ControlRecord


_LINE = TypeAdapter(_Line)


class ControlRecords:
    """The outcomes that a file holds of one state of the code.

    Args:
        path: The file; made when the first record is added.
        code: Digest of the code; lines of another are ignored and stay where they are.
    """

    def __init__(self, path: Path, code: str) -> None:
        self._path, self._code = path, code
        self._found: dict[Control, ControlRecord] = {}
        for text in path.read_text("utf-8").splitlines() if path.exists() else []:
            try:
                line = _LINE.validate_json(text)
            except ValidationError:  # the last line of a run that was killed while writing it
                continue
            if line.code == code:
                self._found[line.record.outcome.control] = line.record

    def __contains__(self, control: Control) -> bool:
        return control in self._found

    def __getitem__(self, control: Control) -> ControlRecord:
        return self._found[control]

    def add(self, record: ControlRecord) -> None:
        """Keep a record; it is on the disk when this returns."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            # First a line end: a line that was cut short must not swallow this one.
            file.write(b"\n" + _LINE.dump_json(_Line(self._code, record)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._found[record.outcome.control] = record


def code_digest() -> str:
    """SHA-256 of the core's source files, of which every outcome is a function; lower-case hexadecimal."""
    digest = hashlib.sha256()
    core = ROOT / "levibot_core"
    for path in sorted(found for found in core.rglob("*") if found.suffix in (".py", ".yml")):
        digest.update(f"{path.relative_to(core)}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
