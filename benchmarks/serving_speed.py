"""How many forecasts a second the API gives, and how fast, beside `mlflow models serve` and a constant of FastAPI.

Ours is the real application on a real home: token, rate limit, features from the online store, the model with its
bounds and the band of the return. The same trees answer everywhere; all servers have one worker, are asked with
keep-alive by the same generator, and take turns round by round, so that a busy machine slows all alike.
"""

import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import Outcome
from benchmarks.http_load import Load, Target, run_load
from benchmarks.local_servers import LocalServer, python, serving
from benchmarks.redis_server import redis_server
from benchmarks.report import Claim, Figure, Report, parse_options, publish, run
from benchmarks.serving_home import (
    QUICK_TREES,
    SERVED_SYMBOLS,
    TREES,
    ServedHome,
    build_home,
    mlflow_question,
    open_store,
    save_for_mlflow,
    vector_of,
)
from benchmarks.serving_sign_in import add_users, signed_in

CLIENTS = (1, 16)
SECONDS, QUICK_SECONDS = 5.0, 1.0
THROUGHPUT_LIMITS = {1: 4.0, 16: 5.0}
P50_TIMES_CONSTANT = 2.0
P99_LIMIT_MS = 5.0
API = python("-m", "uvicorn", "--factory", "levibot_serving.main:create_app", "--port", "{port}", "--no-access-log")
CONSTANT = python("-m", "uvicorn", "benchmarks.peers.constant_app:app", "--port", "{port}", "--no-access-log")
_MEDIANS = ("p50_ms", "p95_ms", "p99_ms", "processor_ms")
_MLFLOW, _MLFLOW_MATRIX, _CONSTANT = "mlflow_models_serve", "mlflow_bare_matrix", "fastapi_constant"
_PREDICT = f"/ai/predict?symbol={SERVED_SYMBOLS[0].replace('/', '')}"


@dataclass(frozen=True, slots=True)
class _Contestant:
    """A running server and how it is asked."""

    server: LocalServer
    target: Target


def main() -> None:
    """Measure and publish."""
    options = parse_options(__doc__, runs=3)
    seconds, trees = (QUICK_SECONDS, QUICK_TREES) if options.quick else (SECONDS, TREES)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as servers:
        served = build_home(Path(folder) / "home", trees)
        add_users(served.home)
        on_redis = f"redis://127.0.0.1:{servers.enter_context(redis_server())}/0"
        stores = [open_store(served), open_store(served, on_redis)]
        contestants = servers.enter_context(_running(served, Path(folder), on_redis))
        outcomes: dict[str, dict[int, list[dict[str, Any]]]] = {name: {} for name in contestants}
        for bar in range(options.runs + 1):
            for store in stores:
                store.put([vector_of(symbol, bar) for symbol in SERVED_SYMBOLS])
            for clients in CLIENTS:
                for name, contestant in contestants.items():
                    outcomes[name].setdefault(clients, []).append(_asked(contestant, Load(clients, seconds)))
        memory = {name: contestant.server.memory_mb() for name, contestant in contestants.items()}
        for store in stores:
            store.close()
    publish(_report({name: _outcome(found, memory[name]) for name, found in outcomes.items()}, trees), options)


def _asked(contestant: _Contestant, load: Load) -> dict[str, Any]:
    """The result of a load, with the processor time that the server took per request, the warm-up's included."""
    before = contestant.server.processor_s()
    found = run_load(contestant.target, load)
    took = contestant.server.processor_s() - before
    return {**found, "processor_ms": took * 1e3 / found["requests_with_warm_up"]}


@contextmanager
def _running(served: ServedHome, folder: Path, on_redis: str) -> Iterator[Mapping[str, _Contestant]]:
    """All servers at once; those that are not asked wait and take no processor time worth counting."""
    mlflow = (
        *python("-m", "mlflow", "models", "serve", "-m", str(save_for_mlflow(served, folder))),
        *("--env-manager", "local", "--host", "127.0.0.1", "--port", "{port}", "--workers", "1"),
    )
    own = served.environment
    with ExitStack() as servers:
        start = servers.enter_context
        ours = start(serving(API, "/readyz", own))
        uncached = start(serving(API, "/readyz", {**own, "LEVIBOT_FORECAST_CACHE_ITEMS": "0"}))
        redis = start(serving(API, "/readyz", {**own, "REDIS_URL": on_redis}))
        constant = start(serving(CONSTANT, _PREDICT, own))
        # It starts the uvicorn that it finds on PATH.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        peer = start(serving(mlflow, "/ping", {"MLFLOW_DISABLE_TELEMETRY": "true", "PATH": path}))
        yield {
            "ours": _Contestant(ours, Target(ours.port, _PREDICT, signed_in(ours.url))),
            "ours_without_cache": _Contestant(uncached, Target(uncached.port, _PREDICT, signed_in(uncached.url))),
            "ours_on_redis": _Contestant(redis, Target(redis.port, _PREDICT, signed_in(redis.url))),
            _CONSTANT: _Contestant(constant, Target(constant.port, _PREDICT)),
            **{
                name: _Contestant(peer, Target(peer.port, "/invocations", body=mlflow_question(served, named=named)))
                for name, named in ((_MLFLOW, True), (_MLFLOW_MATRIX, False))
            },
        }


def _outcome(found: Mapping[int, Sequence[Mapping[str, Any]]], memory_mb: Sequence[float]) -> dict[str, Outcome]:
    """Per number of clients the median over the rounds that count; the first warms up and is left out."""
    outcome: dict[str, Outcome] = {}
    for clients, rounds in found.items():
        counted = rounds[1:]
        wrong = sum(count for one in counted for status, count in one["statuses"].items() if status != "200")
        outcome[f"{clients} client{'s' if clients > 1 else ''}"] = {
            "seconds": [one["seconds"] for one in counted],
            "requests_per_second": statistics.median(one["requests_per_second"] for one in counted),
            **{key: statistics.median(one[key] for one in counted) for key in _MEDIANS},
            "p99_ms_by_run": [one["p99_ms"] for one in counted],
            "requests_per_second_by_run": [one["requests_per_second"] for one in counted],
            "requests": sum(one["requests"] for one in counted),
            "not_200": wrong + sum(one["errors"] for one in counted),
            "memory_mb": round(sum(memory_mb)),
        }
    return outcome


def _report(outcomes: Mapping[str, dict[str, Outcome]], trees: int) -> Report:
    ours, peers = outcomes["ours"], {name: outcomes[name] for name in (_CONSTANT, _MLFLOW, _MLFLOW_MATRIX)}
    variants = {name: outcomes[name] for name in ("ours_without_cache", "ours_on_redis")}
    ratio = {name: {case: _times(outcomes[name], peers, case) for case in ours} for name in ("ours", *variants)}
    claims = []
    for case, clients in zip(ours, CLIENTS, strict=True):
        times = ratio["ours"][case]
        claims += [
            *(
                Claim(
                    f"{case}: requests per second against mlflow models serve, {form}",
                    times[f"requests_per_second_of_{name}"],
                    THROUGHPUT_LIMITS[clients],
                    at_least=True,
                    unit="x",
                )
                for form, name in (("asked by name", _MLFLOW), ("asked with a bare matrix", _MLFLOW_MATRIX))
            ),
            Claim(
                f"{case}: median against a constant of FastAPI",
                times["p50_of_constant"],
                P50_TIMES_CONSTANT,
                at_least=False,
                unit="x",
            ),
        ]
    p99 = ours[next(iter(ours))]["p99_ms"]
    claims.append(Claim("1 client: 99 of 100 requests", p99, P99_LIMIT_MS, at_least=False, unit="ms"))
    wrong = float(sum(case["not_200"] for outcome in outcomes.values() for case in outcome.values()))
    claims.append(Claim("requests that were not answered well", wrong, 0, at_least=False, unit="requests"))
    return Report(
        name="serving_speed",
        about=f"forecasts over HTTP, {trees} trees, with 1 and {CLIENTS[-1]} keep-alive clients",
        ours=ours,
        peers=peers,
        variants=variants,
        ratio=ratio,
        claims=claims,
        figures=[
            Figure("requests_per_second", "1/s"),
            Figure("p50_ms", "ms"),
            Figure("p95_ms", "ms"),
            Figure("p99_ms", "ms"),
            Figure("processor_ms", "ms per request"),
            Figure("memory_mb", "MB"),
        ],
    )


def _times(outcome: Mapping[str, Outcome], peers: Mapping[str, Mapping[str, Outcome]], case: str) -> dict[str, float]:
    mine = outcome[case]
    times = {
        f"{figure}_of_{name}": round(mine[key] / peer[case][key], 2)
        for name, peer in peers.items()
        for figure, key in (("requests_per_second", "requests_per_second"), ("processor_time", "processor_ms"))
    }
    return {**times, "p50_of_constant": round(mine["p50_ms"] / peers[_CONSTANT][case]["p50_ms"], 2)}


if __name__ == "__main__":
    sys.exit(run(main))
