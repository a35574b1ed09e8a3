"""Servers for the length of a benchmark: started on a free port, waited for, looked at, and ended."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from benchmarks.harness import ROOT, BenchmarkError

_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}


@dataclass(frozen=True, slots=True)
class LocalServer:
    """A running server.

    Attributes:
        port: Where it listens, on 127.0.0.1.
        process: Leader of the server's process group.
        ready_s: Seconds from its start to its first good answer at the address that was waited for.
        log: What it wrote, both streams.
    """

    port: int
    process: "subprocess.Popen[bytes]"
    ready_s: float
    log: IO[bytes]

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def workers(self) -> list[int]:
        """Process ids of the group that hold memory of their own, the leader's first."""
        return [self.process.pid, *_children(self.process.pid)]

    def memory_mb(self) -> list[float]:
        """Resident memory of each process of the group, megabytes (1e6 bytes)."""
        return [resident_mb(pid) for pid in self.workers()]

    def processor_s(self) -> float:
        """Processor time that the group has taken so far, seconds: what a busy machine does not stretch."""
        return sum(_processor_s(pid) for pid in self.workers())

    def text(self) -> str:
        """The last lines of its log."""
        self.log.seek(0)
        return b"\n".join(self.log.read().splitlines()[-20:]).decode("utf-8", "replace")


@contextmanager
def serving(
    command: Sequence[str],
    ready_path: str,
    environment: Mapping[str, str] | None = None,
    port: int | None = None,
    folder: Path = ROOT,
    patience_s: float = 120.0,
) -> Iterator[LocalServer]:
    """Run a server for the length of a `with` block; `{port}` in its command is the free port that it gets.

    Raises:
        BenchmarkError: it ended, or did not answer in time; the message ends with its log.
    """
    chosen = port or free_port()
    with tempfile.TemporaryFile() as log:
        started = time.monotonic()
        process = subprocess.Popen(  # noqa: S603 - programs of this environment
            [part.replace("{port}", str(chosen)) for part in command],
            cwd=folder,
            env={**os.environ, **_ONE_THREAD, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            waited_for = LocalServer(chosen, process, 0.0, log)
            _wait_until_ready(waited_for, ready_path, patience_s)
            yield LocalServer(chosen, process, time.monotonic() - started, log)
        finally:
            end(process)


def python(*arguments: str) -> tuple[str, ...]:
    """A command of this environment's interpreter."""
    return (sys.executable, *arguments)


def end(process: "subprocess.Popen[bytes]", patience_s: float = 15.0) -> None:
    """Ask the whole group to end, then insist."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(patience_s)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def resident_mb(pid: int) -> float:
    """Resident memory of a process, megabytes (1e6 bytes); 0 when it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _processor_s(pid: int) -> float:
    """User and system time of a process and its threads; 0 when it is gone."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def _children(pid: int) -> list[int]:
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
    except OSError:
        return []
    return [descendant for child in map(int, found) for descendant in (child, *_children(child))]


def _wait_until_ready(server: LocalServer, path: str, patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline and server.process.poll() is None:
        with suppress(urllib.error.URLError, OSError), urllib.request.urlopen(server.url + path, timeout=2):  # noqa: S310
            return
        time.sleep(0.02)
    raise BenchmarkError(f"Expected a server at {server.url}{path} within {patience_s:.0f} s:\n{server.text()}")
