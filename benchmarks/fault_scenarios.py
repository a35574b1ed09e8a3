"""The faults that `benchmarks.serving_faults` puts the API through: how each is staged, begun and mended."""

import os
import signal
import socket
from abc import ABC, abstractmethod
from contextlib import ExitStack, suppress

from benchmarks.answer_checks import Answer
from benchmarks.busy_disk import disk_kept_busy
from benchmarks.http_load import Target
from benchmarks.local_servers import LocalServer, free_port, python, serving
from benchmarks.redis_server import RedisProcess
from benchmarks.serving_home import (
    SERVED_SYMBOLS,
    ServedHome,
    open_store,
    promote_version,
    register,
    vector_of,
)
from benchmarks.serving_sign_in import signed_in
from levibot_core.models.bundle import ModelBundle

API_MODULE = "levibot_serving.main:create_app"
MOVED_CLOCK_MODULE = "benchmarks.ours.serving_with_moved_clock:create_app"
POLLS_S = 3.0
"""The registry is looked at every two seconds, and a look may take a second."""


class Stage:
    """What a scenario works on: the home, a second model, and whatever it starts."""

    def __init__(self, served: ServedHome, second: ModelBundle, running: ExitStack) -> None:
        self.served = served
        self.second = second
        self.running = running
        self.servers: dict[str, LocalServer] = {}
        self.redis: RedisProcess | None = None
        self.bar = 0

    def put_bar(self, redis_url: str | None = None) -> None:
        """Put the next bar of every symbol."""
        store = open_store(self.served, redis_url)
        store.put([vector_of(symbol, self.bar) for symbol in SERVED_SYMBOLS])
        store.close()
        self.bar += 1

    def start_api(self, environment: dict[str, str] | None = None, module: str = API_MODULE) -> LocalServer:
        """Start the API of the home."""
        command = python("-m", "uvicorn", "--factory", module, "--port", "{port}", "--no-access-log")
        api = self.running.enter_context(
            serving(command, "/readyz", {**self.served.environment, **(environment or {})})
        )
        self.servers["api"] = api
        return api


class Scenario(ABC):
    """One fault."""

    name: str
    noticed_within_s = 0.0
    """Until then an answer may be without a flag: the API cannot know yet."""
    breaks_connections = False
    """Whether connections of the clients that are watched are broken on purpose."""

    def start(self, stage: Stage) -> LocalServer:
        """Start what is needed and give the API."""
        stage.put_bar()
        return stage.start_api()

    @abstractmethod
    def break_it(self, stage: Stage) -> None:
        """Begin the fault."""

    @abstractmethod
    def mend(self, stage: Stage) -> None:
        """End the fault."""

    def is_healthy_while_broken(self, answer: Answer) -> bool:
        """Whether an answer without a flag is right although the fault lasts; by default none is."""
        del answer
        return False

    def is_recovered(self, answer: Answer) -> bool:
        """Whether an answer after the mending is as it should be."""
        return answer.status == 200 and not answer.flagged


class _OnRedis(Scenario):
    """The online store on a Redis server."""

    def start(self, stage: Stage) -> LocalServer:
        """See `Scenario.start`."""
        stage.redis = stage.running.enter_context(RedisProcess(free_port()))
        stage.put_bar(stage.redis.url)
        return stage.start_api({"REDIS_URL": stage.redis.url})


class RedisKilled(_OnRedis):
    """Redis is killed and comes back empty; the next bar fills it, as the sensor does."""

    name = "redis_killed"
    noticed_within_s = 0.1

    def break_it(self, stage: Stage) -> None:
        """See `Scenario.break_it`."""
        assert stage.redis is not None  # noqa: S101 - start made it
        stage.redis.kill()

    def mend(self, stage: Stage) -> None:
        """See `Scenario.mend`."""
        assert stage.redis is not None  # noqa: S101 - start made it
        stage.redis.start()
        stage.put_bar(stage.redis.url)


class RedisHangs(_OnRedis):
    """Redis takes connections and never answers."""

    name = "redis_hangs"
    noticed_within_s = 0.1

    def break_it(self, stage: Stage) -> None:
        """See `Scenario.break_it`."""
        assert stage.redis is not None  # noqa: S101 - start made it
        os.kill(stage.redis.pid, signal.SIGSTOP)

    def mend(self, stage: Stage) -> None:
        """See `Scenario.mend`."""
        assert stage.redis is not None  # noqa: S101 - start made it
        os.kill(stage.redis.pid, signal.SIGCONT)


class MlflowKilled(Scenario):
    """The registry behind HTTP is killed and started again."""

    name = "mlflow_killed"
    # A poll, its attempts, and the time that each may take.
    noticed_within_s = 2 * POLLS_S

    def start(self, stage: Stage) -> LocalServer:
        """See `Scenario.start`."""
        stage.put_bar()
        port = free_port()
        self._start_registry(stage, port)
        return stage.start_api({"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"})

    def break_it(self, stage: Stage) -> None:
        """See `Scenario.break_it`."""
        process = stage.servers["registry"].process
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def mend(self, stage: Stage) -> None:
        """See `Scenario.mend`."""
        self._start_registry(stage, stage.servers["registry"].port)

    @staticmethod
    def _start_registry(stage: Stage, port: int) -> None:
        home = stage.served.home
        command = python(
            *("-m", "mlflow", "server", "--host", "127.0.0.1", "--port", "{port}", "--workers", "1"),
            *("--backend-store-uri", home.tracking_uri, "--artifacts-destination", str(home.mlflow / "artifacts")),
        )
        environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        started = serving(command, "/health", environment, port=port)
        stage.servers["registry"] = stage.running.enter_context(started)


class ModelCorrupted(Scenario):
    """A champion whose file is altered is promoted: the one before it goes on; then it is promoted back."""

    name = "model_corrupted"
    noticed_within_s = 2 * POLLS_S

    def break_it(self, stage: Stage) -> None:
        """See `Scenario.break_it`."""
        version = register(stage.served, stage.second, promote=False)
        newest = max((stage.served.home.mlflow / "models").iterdir(), key=lambda folder: folder.name)
        booster = newest / "artifacts" / "bundle" / "booster.txt"
        booster.write_text(booster.read_text("utf-8").replace("leaf_value=", "leaf_value=1", 1), "utf-8")
        promote_version(stage.served.home, version)

    def mend(self, stage: Stage) -> None:
        """See `Scenario.mend`."""
        promote_version(stage.served.home, 1)


class PromotionAndRollback(Scenario):
    """A promotion, and the rollback of it; neither is a fault, and no answer may be missing or flagged."""

    name = "promotion_and_rollback"

    def break_it(self, stage: Stage) -> None:
        """See `Scenario.break_it`."""
        register(stage.served, stage.second)

    def mend(self, stage: Stage) -> None:
        """See `Scenario.mend`."""
        promote_version(stage.served.home, 1)

    def is_healthy_while_broken(self, answer: Answer) -> bool:
        """See `Scenario.is_healthy_while_broken`."""
        del answer
        return True

    def is_recovered(self, answer: Answer) -> bool:
        """See `Scenario.is_recovered`."""
        return super().is_recovered(answer) and answer.body["model_version"] == 1


class ClockJumps(Scenario):
    """The wall clock of the API's process jumps by an hour."""

    def __init__(self, name: str, number: signal.Signals) -> None:
        self.name = name
        self._number = number
        self.noticed_within_s = 0.1

    def start(self, stage: Stage) -> LocalServer:
        """See `Scenario.start`."""
        stage.put_bar()
        return stage.start_api(module=MOVED_CLOCK_MODULE)

    def break_it(self, stage: Stage) -> None:
        """See `Scenario.break_it`."""
        stage.servers["api"].process.send_signal(self._number)

    def mend(self, stage: Stage) -> None:
        """See `Scenario.mend`."""
        stage.servers["api"].process.send_signal(self._number)


class SlowDisk(Scenario):
    """Two writers keep the disk of the home busy with synchronous writes while bars arrive."""

    name = "slow_disk"

    def break_it(self, stage: Stage) -> None:
        """See `Scenario.break_it`."""
        stage.running.enter_context(disk_kept_busy(stage.served.home.root / "busy"))

    def mend(self, stage: Stage) -> None:
        """See `Scenario.mend`."""
        (stage.served.home.root / "busy").touch()
        stage.put_bar()

    def is_healthy_while_broken(self, answer: Answer) -> bool:
        """See `Scenario.is_healthy_while_broken`."""
        del answer
        return True


class ClientsLeave(Scenario):
    """Clients send half a request, or one whose answer they do not wait for, and leave; others go on undisturbed."""

    name = "client_disconnects"

    def break_it(self, stage: Stage) -> None:
        """See `Scenario.break_it`."""
        api = stage.servers["api"]
        path = f"/ai/predict?symbol={SERVED_SYMBOLS[0].replace('/', '')}"
        whole = Target(api.port, path, signed_in(api.url)).encoded()
        for number in range(500):
            with suppress(OSError), socket.create_connection(("127.0.0.1", api.port), timeout=5) as connection:
                connection.sendall(whole if number % 2 else whole[:20])

    def mend(self, stage: Stage) -> None:
        """They are gone already."""

    def is_healthy_while_broken(self, answer: Answer) -> bool:
        """See `Scenario.is_healthy_while_broken`."""
        del answer
        return True


SCENARIOS: tuple[Scenario, ...] = (
    RedisKilled(),
    RedisHangs(),
    MlflowKilled(),
    ModelCorrupted(),
    PromotionAndRollback(),
    ClockJumps("clock_jumps_ahead", signal.SIGUSR1),
    ClockJumps("clock_jumps_back", signal.SIGUSR2),
    SlowDisk(),
    ClientsLeave(),
)
