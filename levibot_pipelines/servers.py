"""The three servers of a home as child processes: started together, watched, and stopped together.

For one machine. In containers each server is its own service (`docker/`), and nothing here is used.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import httpx

from levibot_core.errors import ConfigurationError, LevibotError
from levibot_core.stores.paths import Home
from levibot_serving.json_logs import LOG_CONFIG
from levibot_serving.worker_metrics import WORKERS_FOLDER_VARIABLE

HOST = "127.0.0.1"
_STOP_SECONDS = 15.0
_DRAIN_SECONDS = 10
"""How long the API goes on with requests that it has begun, once it was asked to stop."""
_START_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the servers listen, all on 127.0.0.1."""

    dagster: int
    mlflow: int
    api: int


@dataclass(frozen=True, slots=True, eq=False)
class Server:
    """One server, equal only to itself.

    `environment` is added to the caller's; `health_url` answers once the server is up.
    """

    name: str
    title: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path
    url: str
    health_url: str


OnState = Callable[[Server, str], None]


def free_ports_or_refuse(ports: Ports) -> None:
    """Check that nothing listens on the ports.

    Raises:
        ConfigurationError: a port is in use; the message names it and the variable that changes it.
    """
    for name, port in (("DAGSTER", ports.dagster), ("MLFLOW", ports.mlflow), ("API", ports.api)):
        with socket.socket() as probe:
            # Without this a port in TIME_WAIT after a stop would look taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError as error:
                raise ConfigurationError(
                    f"Expected port {port} to be free, but something listens on it already ({error.strerror}). "
                    f"Stop that program or set LEVIBOT_{name}_PORT to another port."
                ) from error


def server_commands(home: Home, root: Path, ports: Ports, api_workers: int = 1) -> tuple[Server, Server, Server]:
    """The three servers of a home, run from the checkout at `root`.

    Args:
        home: Whose servers they are.
        root: The checkout.
        ports: Where they listen.
        api_workers: Processes of the inference API, which share nothing but the port and what they counted.
    """
    dagster_url, mlflow_url, api_url = (f"http://{HOST}:{port}" for port in (ports.dagster, ports.mlflow, ports.api))
    # Dagster and MLflow read the home from wherever they run, so it must not be relative.
    shared = {
        "LEVIBOT_HOME": str(home.root),
        "DAGSTER_HOME": str(home.dagster),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "1",
        # Background job runners of MLflow's own; 2.4 GB of processes that nothing here uses.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        # Threads that wait for work sleep: three servers share the cores.
        "OMP_WAIT_POLICY": "passive",
        "PYTHONUNBUFFERED": "1",
    }
    dagster = ("-m", "dagster", "dev", "-w", "workspace.yaml", "-h", HOST, "-p", str(ports.dagster))
    mlflow = (
        *("-m", "mlflow", "server", "--host", HOST, "--port", str(ports.mlflow), "--workers", "1"),
        *("--backend-store-uri", home.tracking_uri, "--artifacts-destination", str(home.mlflow / "artifacts")),
    )
    api = (
        *("-m", "uvicorn", "--factory", "levibot_serving.main:create_app", "--host", HOST),
        # Whom to believe about addresses is decided in the API, by LEVIBOT_TRUSTED_PROXIES.
        *("--port", str(ports.api), "--workers", str(api_workers), "--no-access-log", "--no-proxy-headers"),
        *("--log-config", str(LOG_CONFIG), "--timeout-graceful-shutdown", str(_DRAIN_SECONDS)),
    )
    counted = {} if api_workers == 1 else {WORKERS_FOLDER_VARIABLE: str(home.worker_metrics)}
    of_api = {**shared, "LEVIBOT_DAGSTER_URL": dagster_url, **counted}
    return (
        Server("mlflow", "MLflow UI", _python(mlflow), shared, home.root, mlflow_url, f"{mlflow_url}/health"),
        Server("dagster", "Dagster UI", _python(dagster), shared, root, dagster_url, f"{dagster_url}/server_info"),
        Server("api", "Console, API", _python(api), of_api, root, api_url, f"{api_url}/livez"),
    )


def _python(arguments: Sequence[str]) -> tuple[str, ...]:
    return (sys.executable, *arguments)


def run_servers(servers: Sequence[Server], logs: Path, environment: Mapping[str, str], on_state: OnState) -> None:
    """Start the servers and stay until a signal asks to stop, or one of them ends by itself.

    Each server leads its own process group, so that stopping reaches the children it started, and writes to
    `<logs>/<name>.log`.

    Raises:
        LevibotError: a server ended by itself or never answered; the message names its log.
    """
    processes: dict[Server, subprocess.Popen[bytes]] = {}
    with _stop_requested() as requested:
        try:
            for server in servers:
                processes[server] = _start(server, logs, environment)
                on_state(server, "starting")
            for server, process in processes.items():
                if _wait_until_healthy(server, process, logs, requested):
                    on_state(server, f"ready at {server.url}")
            while not requested:
                _refuse_dead(processes, logs)
                time.sleep(0.5)
        finally:
            _stop(processes, on_state)


@contextmanager
def _stop_requested() -> Iterator[list[int]]:
    """A list that stays empty until SIGINT or SIGTERM arrives."""
    received: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        del frame  # Required by the signal hook.
        received.append(number)

    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(server: Server, logs: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    with (logs / f"{server.name}.log").open("ab") as log:
        return subprocess.Popen(  # noqa: S603 - the commands are built above, from no outside text
            server.command,
            cwd=server.folder,
            env={**environment, **server.environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _wait_until_healthy(server: Server, process: subprocess.Popen[bytes], logs: Path, requested: Sequence[int]) -> bool:
    deadline = time.monotonic() + _START_SECONDS
    while not requested:
        _refuse_dead({server: process}, logs)
        with suppress(httpx.HTTPError):  # Not listening yet.
            if httpx.get(server.health_url, timeout=2.0).status_code < 500:
                return True
        if time.monotonic() > deadline:
            raise LevibotError(
                f"Expected {server.title} to answer at {server.health_url} within {_START_SECONDS:.0f} s, but it did "
                f"not. Its log is {logs / server.name}.log."
            )
        time.sleep(0.3)
    return False


def _refuse_dead(processes: Mapping[Server, subprocess.Popen[bytes]], logs: Path) -> None:
    for server, process in processes.items():
        if process.poll() is not None:
            log = logs / f"{server.name}.log"
            tail = "\n".join(log.read_text("utf-8", errors="replace").splitlines()[-5:])
            raise LevibotError(
                f"{server.title} ended by itself (exit code {process.returncode}). {log} ends with:\n{tail}"
            )


def _stop(processes: Mapping[Server, subprocess.Popen[bytes]], on_state: OnState) -> None:
    """Ask every process group to end, then insist."""
    for process in processes.values():
        _signal_group(process, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    for server, process in processes.items():
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            on_state(server, f"did not stop within {_STOP_SECONDS:.0f} s and is killed")
        # Children may outlive their leader; the group ends with it.
        _signal_group(process, signal.SIGKILL)
        process.wait()
        on_state(server, "stopped")


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # Already gone.
        os.killpg(process.pid, number)
