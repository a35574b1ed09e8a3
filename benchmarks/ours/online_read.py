"""Read the newest vectors of some symbols from the platform's online store, every value included."""

import time
from pathlib import Path

import numpy as np

from benchmarks.worker import Arguments, Task, call_times_ms, serve
from levibot_core.features.registry import load_registry
from levibot_core.stores.online import FeatureVector, open_online_store
from levibot_core.stores.paths import Home

_TTL_S = 3600.0  # vectors of a live market age; none may expire during a run


def prepare(arguments: Arguments) -> Task:
    """Arguments: `folder`, `redis_url` (None for SQLite), `stored` and `symbols` to read, `feature_set`, `calls`."""
    store = open_online_store(Home.at(Path(arguments["folder"])), arguments["redis_url"], _TTL_S)
    names = load_registry(arguments["feature_set"]).names
    store.put([_vector(symbol, names, arguments["feature_set"]) for symbol in arguments["stored"]])
    symbols, calls = list(arguments["symbols"]), int(arguments["calls"])

    def read() -> int:
        return sum(len(list(vector.values.values())) for vector in store.get_many(symbols).values())

    def read_one() -> int:
        vector = store.get(symbols[0])
        return 0 if vector is None else len(list(vector.values.values()))

    call = read_one if len(symbols) == 1 else read
    if (found := call()) != len(symbols) * len(names):
        raise SystemExit(f"Expected {len(symbols)} vectors of {len(names)} values, was {found} values.")
    return Task(
        run=lambda: call_times_ms(call, warm_up=calls // 10, timed=calls),
        describe=lambda times: {"samples_ms": times},
        facts={"features": len(names), "symbols": len(symbols)},
        packages=("redis", "hiredis"),
    )


def _vector(symbol: str, names: tuple[str, ...], feature_set: str) -> FeatureVector:
    values = np.random.default_rng(0).normal(size=len(names)).tolist()
    now_ms = time.time_ns() // 1_000_000
    return FeatureVector(symbol, now_ms, now_ms, feature_set, "exchange", 1.0, dict(zip(names, values, strict=True)))


if __name__ == "__main__":
    serve(prepare)
