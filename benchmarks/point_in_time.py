"""A training set as it could have been known: a million questions against 2.55 million feature rows of 10 features.

Against a bare Polars as-of join, DuckDB's ASOF join and Feast's offline store (which gets 10,000 questions). The rows
are made up: 15 symbols of 170,000 bars of 5 minutes, each known at its close; the questions fall anywhere. Everybody
may use every core; reading files is counted for Feast alone, whose interface starts there.
"""

import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.harness import CORES, BenchmarkError, Contestant, Outcome, compare
from benchmarks.market import END_MS, SYMBOLS, TIMEFRAME
from benchmarks.report import Claim, Figure, Report, parse_options, publish, run, times_better
from levibot_core.schemas import TIMESTAMP

NAMES = [f"feature_{index}" for index in range(10)]
BARS, QUICK_BARS = 170_000, 10_000
SPINE_ROWS, QUICK_SPINE_ROWS = 1_000_000, 50_000
FEAST_SPINE_ROWS, QUICK_FEAST_SPINE_ROWS = 10_000, 1_000
SECONDS_LIMIT = 1.0
POLARS_LIMIT = 1.5


def main() -> None:
    """Measure and publish."""
    options = parse_options(__doc__, runs=5)
    bars, spine_rows = (QUICK_BARS, QUICK_SPINE_ROWS) if options.quick else (BARS, SPINE_ROWS)
    feast_rows = QUICK_FEAST_SPINE_ROWS if options.quick else FEAST_SPINE_ROWS
    with tempfile.TemporaryDirectory() as folder:
        write_inputs(Path(folder), SYMBOLS, bars, spine_rows)
        outcomes = compare(_contestants(folder, feast_rows), options.runs)
    _check_answers(outcomes)
    publish(_report(outcomes, bars * len(SYMBOLS), spine_rows, feast_rows), options)


def write_inputs(folder: Path, symbols: Sequence[str], bars: int, spine_rows: int) -> None:
    """Write `features.parquet` (by symbol and ts), `spine.parquet` (by symbol and time) and `shuffled.parquet`."""
    random = np.random.default_rng(0)
    first_ms = END_MS - bars * TIMEFRAME.milliseconds
    opens = np.tile(np.arange(first_ms, END_MS, TIMEFRAME.milliseconds), len(symbols))
    features = pl.DataFrame(
        {
            "symbol": np.repeat(np.array(symbols), bars),
            "ts": pl.Series(opens).cast(TIMESTAMP),
            "known_at": pl.Series(opens + TIMEFRAME.milliseconds).cast(TIMESTAMP),
            **{name: random.normal(size=opens.size) for name in NAMES},
        }
    )
    features.write_parquet(folder / "features.parquet")
    shuffled = pl.DataFrame(
        {
            "symbol": random.choice(np.array(symbols), spine_rows),
            "time": pl.Series(random.integers(first_ms, END_MS, spine_rows)).cast(TIMESTAMP),
        }
    )
    shuffled.write_parquet(folder / "shuffled.parquet")
    shuffled.sort("symbol", "time").write_parquet(folder / "spine.parquet")


def _contestants(folder: str, feast_rows: int) -> list[Contestant]:
    ours, polars = "benchmarks.ours.point_in_time", "benchmarks.peers.polars_asof"
    sorted_spine = {"folder": folder, "names": NAMES, "spine": "spine"}
    any_order = {**sorted_spine, "spine": "shuffled"}
    feast = {**sorted_spine, "spine_rows": feast_rows}
    duckdb = {**sorted_spine, "threads": CORES}
    return [
        Contestant("ours", ours, sorted_spine, threads=CORES),
        Contestant("polars", polars, {**sorted_spine, "sort": False}, threads=CORES),
        Contestant("duckdb", "benchmarks.peers.duckdb_asof", duckdb, threads=CORES),
        Contestant("feast", "benchmarks.peers.feast_offline", feast, environment="feast", threads=CORES),
        Contestant("ours_any_order", ours, any_order, threads=CORES),
        Contestant("polars_any_order", polars, {**any_order, "sort": True}, threads=CORES),
    ]


def _check_answers(outcomes: dict[str, Outcome]) -> None:
    """Whoever is faster with another answer is not faster."""
    checksums = {name: outcome["checksum"] for name, outcome in outcomes.items() if "checksum" in outcome}
    if not all(math.isclose(checksum, checksums["ours"], rel_tol=1e-9) for checksum in checksums.values()):
        raise BenchmarkError(f"Expected all joins to give the same values, but their sums were {checksums}.")


def _report(outcomes: dict[str, Outcome], feature_rows: int, spine_rows: int, feast_rows: int) -> Report:
    for outcome in outcomes.values():
        if "rows" in outcome:
            outcome["rows_per_second"] = round(outcome["rows"] / outcome["fastest_s"])
    ours = outcomes["ours"]
    peers = {name: outcomes[name] for name in ("polars", "duckdb", "feast")}
    ratio = {name: times_better(ours, peer, "rows_per_second", more_is_better=True) for name, peer in peers.items()}
    any_order = outcomes["ours_any_order"], outcomes["polars_any_order"]
    ratio["polars_any_order"] = times_better(*any_order, "rows_per_second", more_is_better=True)
    against_polars = ours["fastest_s"] / outcomes["polars"]["fastest_s"]
    return Report(
        name="point_in_time",
        about=f"{spine_rows:,} questions ({feast_rows:,} for Feast), {feature_rows:,} feature rows of {len(NAMES)}",
        ours=ours,
        peers=peers,
        ratio=ratio,
        claims=[
            Claim("time for the whole set", ours["fastest_s"], SECONDS_LIMIT, at_least=False, unit="s"),
            Claim("time against a bare Polars as-of join", against_polars, POLARS_LIMIT, at_least=False, unit="x"),
        ],
        variants={name: outcomes[name] for name in ("ours_any_order", "polars_any_order")},
        figures=[Figure("fastest_s", "s"), Figure("rows_per_second", "rows/s")],
    )


if __name__ == "__main__":
    sys.exit(run(main))
