"""Batch, incremental and online features of recorded candles, compared bit by bit, for every feature and every row.

Three symbols, the newest 30 days. The batch is computed from the whole recording at once. The incremental side
computes each bar alone from no more candles than its windows reach back to; the online side writes that vector to the
online store and reads it again. No speed is claimed here: what counts is that nothing differs.
"""

import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.harness import BenchmarkError
from benchmarks.market import TIMEFRAME, market_data_folder
from benchmarks.report import Claim, Figure, Report, parse_options, publish, run
from levibot_core.features.compute import compute_features
from levibot_core.features.registry import load_registry, newest_version
from levibot_core.market.sources.recorded import RecordedSource
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY
from levibot_core.stores.online import FeatureVector, open_online_store
from levibot_core.stores.paths import Home

SYMBOLS = ("BTC/USDT", "ETH/USDT", "SOL/USDT")
HISTORY_DAYS, DAYS, QUICK_DAYS = 168, 30, 1
PROCESSES = 2
_PUBLISHED_DAYS = 12


@dataclass(frozen=True, slots=True)
class Recording:
    """Candles, settlements and the index of the recorded market; schemas of the catalogue."""

    candles: pl.DataFrame
    funding: pl.DataFrame
    fear_greed: pl.DataFrame


@dataclass(frozen=True, slots=True)
class Comparison:
    """Values compared, and how many differed in a bit."""

    compared: int
    incremental_mismatches: int
    online_mismatches: int


def main() -> None:
    """Compare and publish."""
    options = parse_options(__doc__, runs=1)
    days = QUICK_DAYS if options.quick else DAYS
    features = load_registry(newest_version())
    started = time.perf_counter()
    recording = read_recording()
    end_ms = int(recording.candles["ts"].dt.epoch("ms").max()) + TIMEFRAME.milliseconds  # type: ignore[arg-type]
    first_ms = end_ms - days * MILLISECONDS_PER_DAY
    batch = compute_features(
        recording.candles, recording.funding, features, TIMEFRAME, fear_greed=recording.fear_greed, start_ms=first_ms
    )
    edges = np.linspace(first_ms, end_ms, PROCESSES + 1).astype(np.int64).tolist()
    parts = list(pairwise(edge - edge % TIMEFRAME.milliseconds for edge in edges))
    # Spawned, not forked: a fork inherits the locks of Polars' threads, but not the threads that would free them.
    with ProcessPoolExecutor(PROCESSES, get_context("spawn")) as pool:
        found = list(pool.map(compare_bars, [recording] * PROCESSES, [batch] * PROCESSES, parts))
    compared = sum(part.compared for part in found)
    incremental = sum(part.incremental_mismatches for part in found)
    online = sum(part.online_mismatches for part in found)
    publish(
        Report(
            name="bit_identity",
            about=f"{batch.height:,} rows x {len(features.names)} features of {len(SYMBOLS)} symbols, {days} days",
            ours={
                "seconds": round(time.perf_counter() - started, 1),
                "rows": batch.height,
                "features": len(features.names),
                "compared": compared,
                "incomplete": int(np.isnan(batch.select(features.names).to_numpy()).sum()),
            },
            peers={},
            ratio={},
            claims=[
                Claim("values that differ, incremental against batch", incremental, 0, at_least=False, unit=""),
                Claim("values that differ, online against batch", online, 0, at_least=False, unit=""),
            ],
            figures=[Figure("compared", "values"), Figure("incomplete", "values"), Figure("seconds", "s")],
        ),
        options,
    )


def read_recording() -> Recording:
    """The newest recorded candles of the symbols with what was published meanwhile."""
    source = RecordedSource(market_data_folder())
    end_ms = min(source.latest_close_ms(symbol, "spot", TIMEFRAME) for symbol in SYMBOLS)
    start_ms = end_ms - HISTORY_DAYS * MILLISECONDS_PER_DAY
    published_ms = start_ms - _PUBLISHED_DAYS * MILLISECONDS_PER_DAY
    return Recording(
        pl.concat(source.candles(symbol, "spot", TIMEFRAME, start_ms, end_ms) for symbol in SYMBOLS),
        pl.concat(source.funding_rates(symbol, published_ms, end_ms + 1) for symbol in SYMBOLS),
        source.fear_greed(published_ms, end_ms + 1),
    )


def compare_bars(recording: Recording, batch: pl.DataFrame, part: tuple[int, int]) -> Comparison:
    """Compute every bar that opens in [part[0], part[1]) alone, send it through the online store, and compare."""
    features = load_registry(newest_version())
    names = list(features.names)
    step = TIMEFRAME.milliseconds
    by_time = {ts: rows for (ts,), rows in batch.partition_by("ts", as_dict=True).items()}
    compared = incremental = online = 0
    with tempfile.TemporaryDirectory() as folder:
        store = open_online_store(Home.at(Path(folder)), None, None)
        for bar_ms in range(*part, step):
            near = _between(recording.candles, bar_ms - (features.warm_up - 1) * step, bar_ms + 1)
            settled = _between(recording.funding, bar_ms - _PUBLISHED_DAYS * MILLISECONDS_PER_DAY, bar_ms + step + 1)
            days = _between(recording.fear_greed, bar_ms - _PUBLISHED_DAYS * MILLISECONDS_PER_DAY, bar_ms)
            alone = compute_features(near, settled, features, TIMEFRAME, start_ms=bar_ms, fear_greed=days)
            expected = by_time[alone["ts"][0]].sort("symbol")
            if not alone.select("symbol", "ts").equals(expected.select("symbol", "ts")):
                raise BenchmarkError(f"Expected the symbols of the batch at {alone['ts'][0]}, was {alone['symbol']}.")
            truth, found = (np.ascontiguousarray(frame.select(names).to_numpy()) for frame in (expected, alone))
            compared += truth.size
            incremental += _differing(truth, found)
            whole = ~np.isnan(truth).any(axis=1)
            symbols = [symbol for symbol, complete in zip(alone["symbol"], whole, strict=True) if complete]
            values = [dict(zip(names, row, strict=True)) for row in found[whole].tolist()]
            known_ms = bar_ms + step
            store.put(
                [
                    FeatureVector(symbol, bar_ms, known_ms, features.version, "recorded", 1.0, vector)
                    for symbol, vector in zip(symbols, values, strict=True)
                ]
            )
            served = store.get_many(symbols)
            read = np.array([[served[symbol].values[name] for name in names] for symbol in symbols])
            online += _differing(truth[whole], read.reshape(-1, len(names)))
        store.close()
    return Comparison(compared, incremental, online)


def _between(frame: pl.DataFrame, begin_ms: int, end_ms: int) -> pl.DataFrame:
    return frame.filter(pl.col("ts").dt.epoch("ms").is_between(begin_ms, end_ms, closed="left"))


def _differing(one: np.ndarray, other: np.ndarray) -> int:
    return int((one.view(np.int64) != np.ascontiguousarray(other).view(np.int64)).sum())


if __name__ == "__main__":
    sys.exit(run(main))
