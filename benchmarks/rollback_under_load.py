"""How quick a promotion and a rollback are while engines ask without pause, and whether any of them notices.

The API runs as users run it, in a process of its own; the commands run in theirs. Several keep-alive clients ask for
forecasts at a constant rate. Nothing is measured against a peer.
"""

import os
import resource
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import lightgbm
import numpy as np

from benchmarks.api_load import Answer, LoadClient, load
from benchmarks.harness import ROOT, BenchmarkError, Outcome
from benchmarks.report import Claim, Figure, Report, TitledTable, parse_options, publish, run
from benchmarks.serving_sign_in import SIGNED_IN_ENVIRONMENT, add_users, signed_in
from levibot_core.features.registry import FeatureSet, load_registry, newest_version
from levibot_core.models.bundle import BundleIdentity, ModelBundle
from levibot_core.models.calibration import PlattCalibrator
from levibot_core.models.predictors import LIGHTGBM, matrix_columns
from levibot_core.registry.champions import promote
from levibot_core.stores.online import FeatureVector, SqliteOnlineStore
from levibot_core.stores.paths import Home
from levibot_pipelines.registry import ModelRegistry
from levibot_pipelines.servers import HOST, Ports, server_commands

MODEL, SYMBOLS = "levibot-5m-h12", ("BTC/USDT", "ETH/USDT", "SOL/USDT")
SEED = 7
ROWS, TREES, LEAVES = 1_500, 200, 31
CLIENTS, PER_SECOND = 6, 20.0
ROUNDS, QUICK_ROUNDS = 10, 2
COMMAND_LIMIT_S, SERVED_LIMIT_S = 2.0, 5.0
_START_SECONDS, _GIVEN_UP_SECONDS, _SETTLE_SECONDS = 180.0, 60.0, 1.0
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "promote": ("promote", "2", "--force"),
    "rollback": ("rollback",),
}
_SERVES = {"promote": 2, "rollback": 1}


@dataclass(frozen=True, slots=True)
class Move:
    """One command under load: seconds it took, of them of a processor, and until every client was served otherwise."""

    command: str
    took: float
    processor: float
    served: float


def main() -> None:
    """Measure and publish."""
    options = parse_options(__doc__, runs=ROUNDS, runs_are="promotions, and as many rollbacks")
    rounds = QUICK_ROUNDS if options.quick else options.runs
    with TemporaryDirectory() as folder:
        home = _made_home(Path(folder))
        with _serving(home) as address, load(address, SYMBOLS, CLIENTS, PER_SECOND, signed_in(address)) as clients:
            time.sleep(_SETTLE_SECONDS)
            moves = [_move(home, command, clients) for _ in range(rounds) for command in COMMANDS]
    answers = sorted((answer for client in clients for answer in client.answers), key=lambda answer: answer.sent)
    publish(_report(moves, answers), options)


def _made_home(folder: Path) -> Home:
    """A home with two registered models, the first of them champion, and the newest features of every symbol."""
    home = Home.at(folder / "home").create()
    add_users(home)
    registry, features = ModelRegistry(home, MODEL), load_registry(newest_version())
    for seed in (SEED, SEED + 1):
        bundle_folder = folder / f"bundle-{seed}"
        _bundle(features, seed).save(bundle_folder)
        with registry.closing(registry.start_run("made", {}, LIGHTGBM)) as run_id:
            tags = {"family": LIGHTGBM, "tradable": "false", "reasons": '["it is a benchmark\'s"]'}
            registry.register(run_id, bundle_folder, "Trained on random numbers.", tags)
    promote(registry, 1, "benchmark", "the first one", forced=True)
    store, now_ms = SqliteOnlineStore(home.online_store), time.time_ns() // 1_000_000
    values = dict(
        zip(features.names, np.random.default_rng(SEED).normal(size=len(features.names)).tolist(), strict=True)
    )
    store.put(
        [FeatureVector(name, now_ms - 300_000, now_ms, features.version, "recorded", 100.0, values) for name in SYMBOLS]
    )
    store.close()
    return home


def _bundle(features: FeatureSet, seed: int) -> ModelBundle:
    """As many trees as a real model has; what they learnt does not matter."""
    random = np.random.default_rng(seed)
    matrix = np.column_stack([random.normal(size=(ROWS, len(features.names))), random.integers(0, 3, ROWS)])
    parameters = {"objective": "binary", "verbose": -1, "num_threads": 1, "num_leaves": LEAVES, "seed": seed}
    names = list(matrix_columns(features.names))
    booster = lightgbm.train(
        parameters, lightgbm.Dataset(matrix, random.integers(0, 2, ROWS), feature_name=names), num_boost_round=TREES
    )
    identity = BundleIdentity(
        model_name=MODEL,
        timeframe="5m",
        horizon_bars=12,
        symbols=SYMBOLS,
        feature_set=features.version,
        features=features.names,
        snapshot_id="20260101T000000Z-0123456789ab",
        source_kind="recorded",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        seed=seed,
    )
    files = {"booster.txt": booster.model_to_string().encode()}
    return ModelBundle.build(identity, LIGHTGBM, files, PlattCalibrator(1.0, 0.0))


@contextmanager
def _serving(home: Home) -> Iterator[str]:
    """The API in a process of its own, as `levibot up` starts it; gives its address."""
    port = _free_port()
    server, address = server_commands(home, ROOT, Ports(0, 0, port))[2], f"http://{HOST}:{port}"
    log = home.logs / "api.log"
    environment = {**os.environ, **server.environment, **SIGNED_IN_ENVIRONMENT}
    with (
        log.open("wb") as output,
        subprocess.Popen(  # noqa: S603 - a command of this repository
            server.command, cwd=ROOT, env=environment, stdout=output, stderr=output
        ) as process,
    ):
        try:
            _wait_until_ready(address, process, log)
            yield address
        finally:
            process.send_signal(signal.SIGTERM)


def _wait_until_ready(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline, answer = time.monotonic() + _START_SECONDS, "it did not answer"
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(httpx.HTTPError):  # Not listening yet.
            response = httpx.get(f"{address}/readyz", timeout=2.0)
            if response.status_code == httpx.codes.OK:
                return
            answer = response.text
        time.sleep(0.2)
    raise BenchmarkError(f"Expected the API to serve version 1, but {answer}. Its log:\n{log.read_text('utf-8')}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _move(home: Home, command: str, clients: Sequence[LoadClient]) -> Move:
    """Run a command, and wait until every client was answered by the version it makes champion."""
    wanted = _SERVES[command]
    started, before = time.perf_counter(), _processor_seconds()
    ended = subprocess.run(  # noqa: S603 - a command of this repository
        [sys.executable, "-m", "levibot_pipelines.cli", "models", *COMMANDS[command], "--reason", "a benchmark"],
        cwd=ROOT,
        env={**os.environ, "LEVIBOT_HOME": str(home.root)},
        capture_output=True,
        text=True,
        check=False,
    )
    took, processor = time.perf_counter() - started, _processor_seconds() - before
    if ended.returncode != 0:
        raise BenchmarkError(f"Expected `levibot models {command}` to end well, but it said:\n{ended.stderr}")
    deadline = started + _GIVEN_UP_SECONDS
    while time.perf_counter() < deadline:
        seen = [client.first_served(wanted, started) for client in clients]
        if all(seen):
            time.sleep(_SETTLE_SECONDS)
            return Move(command, took, processor, max(at for at in seen if at is not None) - started)
        time.sleep(0.02)
    raise BenchmarkError(f"Expected version {wanted} to be served within {_GIVEN_UP_SECONDS:g} s, but it was not.")


def _processor_seconds() -> float:
    """Of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _report(moves: Sequence[Move], answers: Sequence[Answer]) -> Report:
    failures = [answer.failure for answer in answers if answer.failure is not None]
    milliseconds = [1000.0 * (answer.answered - answer.sent) for answer in answers]
    seconds = answers[-1].answered - answers[0].sent
    found = {command: [move for move in moves if move.command == command] for command in COMMANDS}
    claims = []
    for command, of_command in found.items():
        slowest = max(move.took for move in of_command)
        served = max(move.served for move in of_command)
        claims += [
            Claim(
                f"levibot models {command}, end to end", slowest, COMMAND_LIMIT_S, at_least=False, unit="s (slowest)"
            ),
            Claim(f"{command}: served to every client", served, SERVED_LIMIT_S, at_least=False, unit="s (slowest)"),
        ]
    claims.append(Claim("requests that failed", len(failures), 0, at_least=False, unit=f"of {len(answers):,}"))
    ours: Outcome = {
        "requests": len(answers),
        "failed": len(failures),
        "failures": failures[:10],
        "per_second": len(answers) / seconds,
        "p50_ms": statistics.median(milliseconds),
        "p99_ms": statistics.quantiles(milliseconds, n=100, method="inclusive")[98],
        "longest_ms": max(milliseconds),
        "moves": [asdict(move) for move in moves],
    }
    return Report(
        name="rollback_under_load",
        about=f"{len(moves)} changes of the champion, {CLIENTS} clients asking {CLIENTS * PER_SECOND:g} times a second",
        ours=ours,
        peers={},
        ratio={},
        claims=claims,
        figures=[Figure("requests", ""), Figure("failed", ""), Figure("p50_ms", "ms"), Figure("p99_ms", "ms")],
        tables=[
            TitledTable("Changes of the champion, seconds", _move_rows(found)),
            TitledTable(
                "Requests",
                [
                    ["requests", "failed", "per second", "median [ms]", "99 of 100 [ms]", "longest [ms]"],
                    [
                        f"{ours['requests']:,}",
                        f"{ours['failed']:,}",
                        f"{ours['per_second']:.0f}",
                        *(f"{ours[name]:.1f}" for name in ("p50_ms", "p99_ms", "longest_ms")),
                    ],
                ],
            ),
        ],
    )


def _move_rows(found: Mapping[str, Sequence[Move]]) -> list[list[str]]:
    header = ["command", "times", "processor", "took, median", "slowest", "served, median", "slowest"]
    return [
        header,
        *(
            [
                command,
                str(len(moves)),
                f"{statistics.median(move.processor for move in moves):.2f}",
                *(
                    f"{figure:.2f}"
                    for values in ([move.took for move in moves], [move.served for move in moves])
                    for figure in (statistics.median(values), max(values))
                ),
            ]
            for command, moves in found.items()
        ),
    ]


if __name__ == "__main__":
    sys.exit(run(main))
