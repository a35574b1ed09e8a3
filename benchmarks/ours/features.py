"""All features of a feature set over all rows, from candles in memory to one table in memory."""

from pathlib import Path

import polars as pl

from benchmarks.worker import Arguments, Task, serve
from levibot_core.features.compute import compute_features
from levibot_core.features.registry import load_registry
from levibot_core.market.timeframe import Timeframe


def prepare(arguments: Arguments) -> Task:
    """Arguments: `folder` as `benchmarks.market.Market`, `feature_set`, `timeframe`, `threads`."""
    folder = Path(arguments["folder"])
    candles = pl.read_parquet(folder / "candles.parquet")
    funding = pl.read_parquet(folder / "funding.parquet")
    fear_greed = pl.read_parquet(folder / "fear_greed.parquet")
    feature_set = load_registry(arguments["feature_set"])
    timeframe = Timeframe.parse(arguments["timeframe"])
    threads = int(arguments["threads"])
    features = len(feature_set.names)
    return Task(
        run=lambda: compute_features(candles, funding, feature_set, timeframe, fear_greed=fear_greed, threads=threads),
        describe=lambda computed: {"rows": computed.height, "cells": computed.height * features},
        facts={"features": features, "feature_set": arguments["feature_set"]},
        packages=("numpy", "polars", "numba"),
    )


if __name__ == "__main__":
    serve(prepare)
