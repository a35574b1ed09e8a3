"""All features of one new bar of every symbol, by the incremental path, with so much history in memory."""

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from benchmarks.market import TIMEFRAME, random_fear_greed, random_funding, random_walk
from benchmarks.worker import Arguments, Task, serve
from levibot_core.features.compute import compute_features
from levibot_core.features.registry import FeatureSet, load_registry

WARM_UP_CALLS = 5
ARRIVING = 1_000
"""Bars that come in one after the other, over and over."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the features of a new bar are computed from.

    Attributes:
        histories: Candles of each symbol on the same bars; schema `CANDLES`.
        funding: Settlements of all symbols; schema `FUNDING_RATES`.
        fear_greed: The index; schema `FEAR_GREED`.
        feature_set: What to compute.
    """

    histories: Sequence[pl.DataFrame]
    funding: pl.DataFrame
    fear_greed: pl.DataFrame
    feature_set: FeatureSet


def prepare(arguments: Arguments) -> Task:
    """Arguments: `symbols`, `bars` of history each, `feature_set`, `calls` per run."""
    feature_set = load_registry(arguments["feature_set"])
    bars, calls = int(arguments["bars"]), int(arguments["calls"])
    symbols = list(arguments["symbols"])
    inputs = Inputs(
        histories=[random_walk(symbol, bars + ARRIVING, seed) for seed, symbol in enumerate(symbols)],
        funding=pl.concat(random_funding(symbol, seed) for seed, symbol in enumerate(symbols)),
        fear_greed=random_fear_greed(),
        feature_set=feature_set,
    )
    arriving = itertools.cycle(range(ARRIVING))

    def measure() -> list[float]:
        times = []
        for _ in range(WARM_UP_CALLS + calls):
            newest = bars + next(arriving)
            started = time.perf_counter_ns()
            computed = features_of_bar(inputs, newest)
            times.append((time.perf_counter_ns() - started) / 1e6)
            if computed.height != len(symbols):
                raise SystemExit(f"Expected one row for each of {len(symbols)} symbols, was {computed.height}.")
        return times[WARM_UP_CALLS:]

    return Task(
        run=measure,
        describe=lambda times: {"samples_ms": times},
        facts={"features": len(feature_set.names), "symbols": len(symbols), "bars": bars},
        packages=("numpy", "polars", "numba"),
    )


def features_of_bar(inputs: Inputs, newest: int) -> pl.DataFrame:
    """Features of the bar at position `newest` of every history, from the bars that its windows reach back to."""
    warm_up = inputs.feature_set.warm_up
    candles = pl.concat([history.slice(newest - warm_up, warm_up + 1) for history in inputs.histories])
    start_ms = int(inputs.histories[0]["ts"].dt.epoch("ms")[newest])
    return compute_features(
        candles, inputs.funding, inputs.feature_set, TIMEFRAME, start_ms=start_ms, fear_greed=inputs.fear_greed
    )


if __name__ == "__main__":
    serve(prepare)
