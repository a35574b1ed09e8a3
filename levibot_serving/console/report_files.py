"""Reads the JSON reports of a home for the console: each once per change, and only the fields that are shown.

The pipelines write them. A report that is absent, half understood or altered by hand is a state of the page, never an
error of it. Report pages (HTML) are handed out by `.report_pages`.
"""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from pydantic import ValidationError

from levibot_core.stores.paths import Home
from levibot_serving.console.report_formats import (
    BacktestReport,
    ComparisonReport,
    DriftReport,
    ModelCard,
    Report,
)

_KEPT = 200
"""Reports that stay parsed; a home with more of them parses some anew."""

_R = TypeVar("_R", bound=Report)


@dataclass(frozen=True, slots=True)
class ReadReport(Generic[_R]):
    """What a file holds.

    Attributes:
        content: The report; None when there is none that can be understood.
        problem: Why there is none although there is a file; None otherwise.
        written_at_ms: When the file was written, UTC milliseconds; None when there is no file.
    """

    content: _R | None = None
    problem: str | None = None
    written_at_ms: int | None = None


class ReportFiles:
    """The reports of one home. Safe to share between threads."""

    def __init__(self, home: Home) -> None:
        self._folder = home.reports
        self._read: dict[Path, tuple[tuple[int, int, int], ReadReport[Any]]] = {}
        self._lock = threading.Lock()

    def drift(self) -> ReadReport[DriftReport]:
        """The newest drift report."""
        return self._report(self._folder / "drift" / "latest.json", DriftReport)

    def shadow(self) -> ReadReport[ComparisonReport]:
        """The newest comparison of the challenger with the champion."""
        return self._report(self._folder / "promotion" / "shadow.json", ComparisonReport)

    def champion_watch(self) -> ReadReport[ComparisonReport]:
        """The newest comparison of the champion with the one before it."""
        return self._report(self._folder / "promotion" / "champion_watch.json", ComparisonReport)

    def model_card(self, version: int) -> ReadReport[ModelCard]:
        """The card of a registered version."""
        return self._report(self._folder / "model_cards" / f"v{version}.json", ModelCard)

    def carded_versions(self) -> list[int]:
        """Versions that have a card, newest first."""
        return sorted(_versions(self._folder / "model_cards"), reverse=True)

    def backtest(self, name: str) -> ReadReport[BacktestReport]:
        """A backtest by the name of its file, which is one of `backtest_names`."""
        return self._report(self._folder / "backtests" / f"{name}.json", BacktestReport)

    def backtest_names(self) -> list[str]:
        """Names of the backtests there are, the last written first."""
        written = {path.stem: _written_ns(path) for path in (self._folder / "backtests").glob("[!.]*.json")}
        return sorted(written, key=lambda name: (-written[name], name))

    def _report(self, path: Path, form: type[_R]) -> ReadReport[_R]:
        try:
            found = path.stat()
        except OSError:
            return ReadReport()
        state = (found.st_ino, found.st_mtime_ns, found.st_size)
        with self._lock:
            known = self._read.get(path)
        if known is not None and known[0] == state:
            return cast(ReadReport[_R], known[1])
        report = _parsed(path, form, found.st_mtime_ns // 1_000_000)
        with self._lock:
            if len(self._read) >= _KEPT:
                self._read.clear()
            self._read[path] = (state, report)
        return report


def _parsed(path: Path, form: type[_R], written_at_ms: int) -> ReadReport[_R]:
    try:
        return ReadReport(form.model_validate_json(path.read_bytes()), None, written_at_ms)
    except OSError as error:
        problem = error.strerror or type(error).__name__
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        problem = f"{'.'.join(map(str, first['loc'])) or 'content'}: {first['msg']}"
    return ReadReport(None, f"{path.name} cannot be read ({problem})", written_at_ms)


def _written_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:  # removed since it was listed
        return 0


def _versions(folder: Path) -> list[int]:
    """Versions named by the files `v<number>.json` of a folder."""
    names = (path.stem.removeprefix("v") for path in folder.glob("v*.json"))
    return [int(name) for name in names if name.isascii() and name.isdecimal() and len(name) < 10]
