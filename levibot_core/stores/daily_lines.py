"""Logs of one line per thing that happened: a file per UTC day, appended by whole lines only, by several processes.

    <folder>/2026-01-02.jsonl

What a line says is decided by those who write it: `served_log`, `prediction_log`.
"""

import errno
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path

from levibot_core.stores.paths import not_writable

_SUFFIX = ".jsonl"


class DailyLines:
    """The files below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def append_lines(self, lines: Iterable[tuple[int, str]]) -> None:
        """Append lines to the files of their UTC days, each file in one write.

        Args:
            lines: When it happened, UTC milliseconds, and the line, without its end.

        Raises:
            HomeNotWritableError: the operating system refused. Lines of days before the refused one are written; a
                line that was cut short is closed off by the next append, and is for its readers to leave out.
        """
        by_day: dict[Path, list[str]] = {}
        for happened_ms, line in lines:
            by_day.setdefault(self.file_of(happened_ms), []).append(f"{line}\n")
        for path, whole in by_day.items():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                _append(path, "".join(whole).encode())
            except OSError as error:
                raise not_writable(path, error) from error

    def file_of(self, happened_ms: int) -> Path:
        """The file for what happens at that instant, UTC milliseconds."""
        return self.folder / f"{datetime.fromtimestamp(happened_ms / 1000, UTC):%Y-%m-%d}{_SUFFIX}"

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
