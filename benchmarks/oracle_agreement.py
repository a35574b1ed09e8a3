"""How often the compiled backtest engine and the slow one of the tests disagree, by a cent or more, on random cases.

A case is a market of up to three symbols and 60 bars, with gaps, bars without volume and funding, and rules of every
kind; see `tests/unit/backtest/cases.py`. Agreement is that of every fill and of every bar's equity, cash and positions.
"""

import sys
import time
from collections import Counter

from hypothesis import HealthCheck, Phase, given, seed, settings

from benchmarks.report import Claim, Figure, Report, parse_options, publish, run
from tests.unit.backtest.cases import Case, cases, differences


def main() -> None:
    """Run the cases and publish."""
    options = parse_options(__doc__, runs=2000, runs_are="random cases")
    counts: Counter[str] = Counter()
    started = time.perf_counter()

    @seed(1)
    @settings(
        max_examples=50 if options.quick else options.runs,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases())
    def compare(case: Case) -> None:
        simulation, books = case.simulated(), case.by_oracle()
        found = differences(simulation, books)
        for difference in found:
            sys.stderr.write(f"{difference}\n{case.parameters}\n")
        counts["cases"] += 1
        counts["differences"] += bool(found)
        counts["fills"] += len(books.fills)
        counts["closes"] += len(books.equity)
        for name in ("liquidations", "stopped_days"):
            counts[name] += int(simulation.totals[name])
        counts["fills_in_parts"] += int((simulation.fill_table[:, 6] != 0.0).sum())

    compare()
    ours = {**counts, "seconds": round(time.perf_counter() - started, 1)}
    publish(
        Report(
            name="oracle_agreement",
            about=f"two engines on {counts['cases']:,} random cases with {counts['fills']:,} fills",
            ours=ours,
            peers={},
            ratio={},
            claims=[
                Claim(
                    "random cases", float(counts["cases"]), 50 if options.quick else 1000, at_least=True, unit="cases"
                ),
                Claim("cases that differ", float(counts["differences"]), 0.0, at_least=False, unit="cases"),
            ],
            figures=[Figure(name, "") for name in ("fills", "closes", "liquidations", "stopped_days", "seconds")],
        ),
        options,
    )


if __name__ == "__main__":
    sys.exit(run(main))
