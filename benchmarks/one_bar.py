"""One new bar of 15 symbols: the time until all features are there, with a short and with a long history.

Only the new rows are computed, from the bars that their windows reach back to, so the length of the history must not
matter. There is no peer: none of them computes a single row by the code that computes the history.
"""

import sys

from benchmarks.harness import Contestant, compare
from benchmarks.market import SYMBOLS
from benchmarks.report import Claim, Figure, Report, parse_options, publish, run
from levibot_core.features.registry import newest_version

SHORT, LONG, QUICK_LONG = 10_000, 1_000_000, 100_000
CALLS, QUICK_CALLS = 100, 20
LIMIT_MS = 50.0
GROWTH_LIMIT = 1.2
"""Two runs of one and the same measurement differ by less."""


def main() -> None:
    """Measure and publish."""
    options = parse_options(__doc__, runs=3)
    calls, long = (QUICK_CALLS, QUICK_LONG) if options.quick else (CALLS, LONG)
    common = {"symbols": SYMBOLS, "feature_set": newest_version(), "calls": calls}
    lengths = {"short_history": SHORT, "long_history": long}
    outcomes = compare(
        [
            Contestant(name, "benchmarks.ours.one_bar", {**common, "bars": bars}, threads=2)
            for name, bars in lengths.items()
        ],
        options.runs,
    )
    after_short, after_long = outcomes["short_history"], outcomes["long_history"]
    growth = round(after_long["p50_ms"] / after_short["p50_ms"], 2)
    publish(
        Report(
            name="one_bar",
            about=f"{len(SYMBOLS)} symbols x {after_long['features']} features after {SHORT:,} and after {long:,} bars",
            ours=after_long,
            peers={},
            ratio={"long_to_short_history": growth},
            claims=[
                Claim("99 of 100 new bars, long history", after_long["p99_ms"], LIMIT_MS, at_least=False, unit="ms"),
                Claim("median, long against short history", growth, GROWTH_LIMIT, at_least=False, unit="x"),
            ],
            figures=[Figure("p50_ms", "ms"), Figure("p99_ms", "ms"), Figure("peak_memory_mb", "MB")],
            variants={"short_history": after_short},
        ),
        options,
    )


if __name__ == "__main__":
    sys.exit(run(main))
