"""All features of one new bar of every symbol, by the incremental path, with so much history in memory."""

import itertools
import time

import polars as pl

from benchmarks.market import TIMEFRAME, random_walk
from benchmarks.worker import Arguments, Task, serve
from levibot_core.features.compute import compute_features
from levibot_core.features.registry import FeatureSet, load_registry
from levibot_core.schemas import FUNDING_RATES

WARM_UP_CALLS = 5


def prepare(arguments: Arguments) -> Task:
    """Arguments: `symbols`, `bars` of history each, `feature_set`, `calls` per run."""
    feature_set = load_registry(arguments["feature_set"])
    bars, calls = int(arguments["bars"]), int(arguments["calls"])
    spare = 1_000  # bars that arrive one after the other, over and over
    histories = [random_walk(symbol, bars + spare, seed) for seed, symbol in enumerate(arguments["symbols"])]
    arriving = itertools.cycle(range(spare))

    def measure() -> list[float]:
        times = []
        for _ in range(WARM_UP_CALLS + calls):
            newest = bars + next(arriving)
            started = time.perf_counter_ns()
            computed = features_of_bar(histories, newest, feature_set)
            times.append((time.perf_counter_ns() - started) / 1e6)
            if computed.height != len(histories):
                raise SystemExit(f"Expected one row for each of {len(histories)} symbols, was {computed.height}.")
        return times[WARM_UP_CALLS:]

    return Task(
        run=measure,
        describe=lambda times: {"samples_ms": times},
        facts={"features": len(feature_set.names), "symbols": len(histories), "bars": bars},
        packages=("numpy", "polars", "numba"),
    )


def features_of_bar(histories: list[pl.DataFrame], newest: int, feature_set: FeatureSet) -> pl.DataFrame:
    """Features of the bar at position `newest` of every history, from the bars that its windows reach back to."""
    warm_up = feature_set.warm_up
    candles = pl.concat([history.slice(newest - warm_up, warm_up + 1) for history in histories])
    start_ms = int(histories[0]["ts"].dt.epoch("ms")[newest])
    return compute_features(candles, FUNDING_RATES.empty(), feature_set, TIMEFRAME, start_ms=start_ms)


if __name__ == "__main__":
    serve(prepare)
