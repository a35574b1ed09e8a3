"""How many feature values per second, one process and one thread, against Qlib, Polars and FreqAI.

The unit is a cell: one feature of one row. Everybody gets the same candles (7 symbols, 5m, 2022-08 to 2023-09) and
computes its own set: ours every feature of the platform's current set, Qlib and Polars Alpha158, FreqAI its example
strategy (of whose cells two thirds are copies of others, shifted). Imports, compilation and a first round are not
counted.
"""

import sys
import tempfile
from pathlib import Path

from benchmarks.harness import Contestant, Outcome, compare
from benchmarks.market import TIMEFRAME, Market, write_market
from benchmarks.report import Claim, Figure, Report, parse_options, publish, run, times_better
from levibot_core.features.registry import load_registry, newest_version

SPEED, CPU_SPEED = "cells_per_second", "cells_per_cpu_second"
BYTES_PER_ROW = 3_000
"""What the largest result and the work on it need, about."""
INPUT_COLUMNS = 7
"""Open time, open, high, low, close, volume and knowledge time, 8 bytes each."""
KEY_COLUMNS = 2
"""Open time and knowledge time in the result, 8 bytes each."""
FLOORS = {"copy_once": True, "copy_once_reused_memory": False}
"""Whether the memory that is written is fresh, as a result's is, or was touched before."""
PEAK_MEMORY_LIMIT_GB = 3.0


def main() -> None:
    """Measure and publish."""
    options = parse_options(__doc__, runs=3)
    with tempfile.TemporaryDirectory() as folder:
        market = write_market(Path(folder), quick=options.quick)
        outcomes = compare(_contestants(market), options.runs, result_bytes=market.rows * BYTES_PER_ROW)
    for outcome in outcomes.values():
        if "cells" in outcome:
            outcome[SPEED] = round(outcome["cells"] / outcome["fastest_s"])
            if outcome["threads"] == 1 and outcome.get("processes", 1) == 1:
                outcome[CPU_SPEED] = round(outcome["cells"] / outcome["cpu_seconds"]["minimum"])
    publish(_report(outcomes), options)


def _contestants(market: Market) -> list[Contestant]:
    folder = {"folder": str(market.folder)}
    ours = {**folder, "feature_set": newest_version(), "timeframe": TIMEFRAME.name}
    features = len(load_registry(newest_version()).names)
    copied = {"rows": market.rows, "inputs": INPUT_COLUMNS, "outputs": features + KEY_COLUMNS}
    one, two = {"threads": 1}, {"threads": 2}
    return [
        Contestant("ours", "benchmarks.ours.features", {**ours, **one}),
        Contestant("qlib", "benchmarks.peers.qlib_alpha158", {**folder, "processes": 1}, environment="qlib"),
        Contestant("polars", "benchmarks.peers.polars_alpha158", folder),
        Contestant("freqai", "benchmarks.peers.freqai_example", folder, environment="freqai"),
        Contestant("ours_two_threads", "benchmarks.ours.features", {**ours, **two}, threads=2),
        Contestant("qlib_two_processes", "benchmarks.peers.qlib_alpha158", {**folder, "processes": 2}, "qlib"),
        Contestant("polars_two_threads", "benchmarks.peers.polars_alpha158", folder, threads=2),
        *(
            Contestant(floor, "benchmarks.peers.copy_once", copied | {"fresh": fresh})
            for floor, fresh in FLOORS.items()
        ),
    ]


def _report(outcomes: dict[str, Outcome]) -> Report:
    ours, ours_two = outcomes["ours"], outcomes["ours_two_threads"]
    peers = {name: outcomes[name] for name in ("qlib", "polars", "freqai")}
    pairs = {"qlib_two_processes": ours_two, "polars_two_threads": ours_two}
    ratio: Outcome = {name: times_better(ours, peer, SPEED, more_is_better=True) for name, peer in peers.items()}
    ratio |= {name: times_better(mine, outcomes[name], SPEED, more_is_better=True) for name, mine in pairs.items()}
    # What waiting for a busy machine does not blur.
    ratio["per_cpu_second"] = {
        name: times_better(ours, peer, CPU_SPEED, more_is_better=True) for name, peer in peers.items()
    }
    ratio["times_the_floor"] = {
        f"{name}_to_{floor}": round(outcomes[name]["fastest_s"] / outcomes[floor]["fastest_s"], 2)
        for name in ("ours", "ours_two_threads")
        for floor in FLOORS
    }
    return Report(
        name="features_speed",
        about=f"all {ours['features']} features of {ours['feature_set']}, {ours['rows']:,} rows, cells per second",
        ours=ours,
        peers=peers,
        ratio=ratio,
        claims=[
            Claim("speed against Qlib's Alpha158, one process", ratio["qlib"], 10.0, at_least=True, unit="x"),
            Claim("speed against Polars expressions, one thread", ratio["polars"], 3.0, at_least=True, unit="x"),
            Claim(
                "peak memory, interpreter and inputs included",
                ours["peak_memory_mb"] / 1e3,
                PEAK_MEMORY_LIMIT_GB,
                at_least=False,
                unit="GB",
            ),
        ],
        figures=[
            Figure(SPEED, "cells/s"),
            Figure(CPU_SPEED, "cells/s"),
            Figure("fastest_s", "s"),
            Figure("peak_memory_mb", "MB"),
        ],
        variants={name: outcomes[name] for name in ("ours_two_threads", *pairs, *FLOORS)},
    )


if __name__ == "__main__":
    sys.exit(run(main))
