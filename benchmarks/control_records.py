"""Outcomes of controls on disk, and the digest of the code that they are outcomes of.

What a control is, and how one is run, is in `levibot_core.validation.controls`.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import ROOT
from levibot_core.stores.kept_results import KeptResults
from levibot_core.validation.controls import Control, ControlOutcome


@dataclass(frozen=True, slots=True)
class ControlRecord:
    """What became of one control, and the seconds it took."""

    outcome: ControlOutcome
    seconds: float


def control_records(path: Path, code: str) -> KeptResults[Control, ControlRecord]:
    """The outcomes that a file holds of one state of the code."""
    return KeptResults(path, code, ControlRecord, lambda record: record.outcome.control)


def code_digest() -> str:
    """SHA-256 of the core's source files, of which every outcome is a function; lower-case hexadecimal."""
    digest = hashlib.sha256()
    core = ROOT / "levibot_core"
    for path in sorted(found for found in core.rglob("*") if found.suffix in (".py", ".yml")):
        digest.update(f"{path.relative_to(core)}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
