"""A hundred requests a second for five minutes on two replicas that share one Redis: how steady is the API?

Requests leave on a schedule, half of them to each replica, while a new bar arrives every twenty seconds. Memory is
looked at every second; its slope is that of the last four fifths. At the end one person asks both replicas in turn: the
budget has to be one budget.
"""

import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Outcome
from benchmarks.http_load import Load, Target, run_load
from benchmarks.local_servers import LocalServer, python, serving
from benchmarks.redis_server import redis_server
from benchmarks.report import Claim, Figure, Report, parse_options, publish, run
from benchmarks.serving_home import QUICK_TREES, SERVED_SYMBOLS, TREES, build_home, open_store, vector_of
from benchmarks.serving_sign_in import accepted_of_a_person, add_users, signed_in
from levibot_core.stores.online import OnlineStore

REPLICAS = 2
RATE = 100.0
CLIENTS = 8
SECONDS, QUICK_SECONDS = 300.0, 20.0
WARM_UP_S = 5.0
BAR_S = 20.0
WINDOW_S = 10.0
P95_LIMIT_MS = 100.0
SLOPE_LIMIT_MB_PER_MINUTE = 1.0
MEMORY_LIMIT_MB = 300.0
PERSONS_BUDGET = 60
API = python("-m", "uvicorn", "--factory", "levibot_serving.main:create_app", "--port", "{port}", "--no-access-log")


def main() -> None:
    """Measure and publish."""
    options = parse_options(__doc__, runs=1)
    seconds, trees = (QUICK_SECONDS, QUICK_TREES) if options.quick else (SECONDS, TREES)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        served = build_home(Path(folder) / "home", trees)
        add_users(served.home)
        redis_url = f"redis://127.0.0.1:{running.enter_context(redis_server())}/0"
        environment = {**served.environment, "REDIS_URL": redis_url}
        replicas = [running.enter_context(serving(API, "/readyz", environment)) for _ in range(REPLICAS)]
        market = running.enter_context(_Market(open_store(served, redis_url)))
        watch = running.enter_context(_MemoryWatch(replicas))
        load = Load(CLIENTS // REPLICAS, seconds, WARM_UP_S, RATE / REPLICAS, WINDOW_S)
        with ThreadPoolExecutor(REPLICAS) as threads:
            asked = [
                threads.submit(run_load, Target(replica.port, _path(place), signed_in(replica.url)), load)
                for place, replica in enumerate(replicas)
            ]
            found = [one.result() for one in asked]
        accepted = accepted_of_a_person([replica.url for replica in replicas], _path(0), PERSONS_BUDGET + 30)
        outcomes = {
            f"replica {place + 1}": _outcome(result, watch.samples_mb[place], replica)
            for place, (result, replica) in enumerate(zip(found, replicas, strict=True))
        }
    publish(_report(outcomes, accepted, market.bars, seconds), options)


def _path(place: int) -> str:
    return f"/ai/predict?symbol={SERVED_SYMBOLS[place].replace('/', '')}"


class _Repeating:
    """Does something at a fixed interval, in a thread, for the length of a `with` block."""

    interval_s: float

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._repeat, daemon=True)

    def act(self) -> None:
        """What is done."""
        raise NotImplementedError

    def __enter__(self) -> "Any":
        self.act()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _repeat(self) -> None:
        while not self._stop.wait(self.interval_s):
            self.act()


class _Market(_Repeating):
    """Puts a new bar of every symbol."""

    interval_s = BAR_S

    def __init__(self, store: OnlineStore) -> None:
        super().__init__()
        self._store = store
        self.bars = 0

    def act(self) -> None:
        self._store.put([vector_of(symbol, self.bars) for symbol in SERVED_SYMBOLS])
        self.bars += 1


class _MemoryWatch(_Repeating):
    """Looks at the memory of every replica, all processes of it added up."""

    interval_s = 1.0

    def __init__(self, replicas: Sequence[LocalServer]) -> None:
        super().__init__()
        self._replicas = replicas
        self.samples_mb: list[list[tuple[float, float]]] = [[] for _ in replicas]

    def act(self) -> None:
        for samples, replica in zip(self.samples_mb, self._replicas, strict=True):
            samples.append((time.monotonic(), sum(replica.memory_mb())))


def _outcome(found: Mapping[str, Any], samples_mb: Sequence[tuple[float, float]], replica: LocalServer) -> Outcome:
    times, sizes = np.array(samples_mb).T
    settled = times >= times[0] + (times[-1] - times[0]) / 5
    minutes = times[settled] / 60
    slope = float(np.polyfit(minutes - minutes[0], sizes[settled], 1)[0]) if settled.sum() > 1 else 0.0
    wrong = sum(count for status, count in found["statuses"].items() if status != "200")
    return {
        **found,
        "not_200": wrong + found["errors"],
        "memory_mb": float(sizes[-1]),
        "largest_memory_mb": float(sizes.max()),
        "slope_mb_per_minute": slope,
        "processes": len(replica.workers()),
        "ready_s": replica.ready_s,
    }


def _report(outcomes: Mapping[str, Outcome], accepted: int, bars: int, seconds: float) -> Report:
    def worst(key: str) -> float:
        return max(float(outcome[key]) for outcome in outcomes.values())

    failed = float(sum(outcome["not_200"] for outcome in outcomes.values()))
    return Report(
        name="serving_soak",
        about=f"{RATE:.0f} requests a second for {seconds:.0f} s on {len(outcomes)} replicas, {bars} bars arrived",
        ours=dict(outcomes),
        peers={},
        ratio={},
        claims=[
            Claim("95 of 100 requests, the slower replica", worst("p95_ms"), P95_LIMIT_MS, at_least=False, unit="ms"),
            Claim("requests that were not answered well", failed, 0, at_least=False, unit="requests"),
            Claim(
                "memory of a replica grows",
                worst("slope_mb_per_minute"),
                SLOPE_LIMIT_MB_PER_MINUTE,
                at_least=False,
                unit="MB/min",
            ),
            Claim("memory of a worker", worst("largest_memory_mb"), MEMORY_LIMIT_MB, at_least=False, unit="MB"),
            Claim(
                "forecasts that a person got of both replicas within a minute",
                float(accepted),
                PERSONS_BUDGET,
                at_least=False,
                unit="requests",
            ),
        ],
        figures=[
            Figure("requests_per_second", "1/s"),
            Figure("p50_ms", "ms"),
            Figure("p95_ms", "ms"),
            Figure("p99_ms", "ms"),
            Figure("memory_mb", "MB"),
            Figure("slope_mb_per_minute", "MB/min"),
            Figure("ready_s", "s"),
        ],
    )


if __name__ == "__main__":
    sys.exit(run(main))
