"""How long a backtest takes, of one configuration and of a thousand, against vectorbt, backtesting.py and a bare loop.

168 days of three symbols, 5m: 145,152 bars. Ours pays funding, fills in parts by volume, has an impact, a daily stop,
caps and liquidation; the others hold what the forecast says at a fee and slippage. Everything is in memory and compiled
before the clock starts; what is timed ends with the equity of every bar, or with the figures of every configuration.
"""

import sys
import tempfile
from pathlib import Path

from benchmarks.backtest_inputs import CONFIGURATIONS, DAYS, thresholds, write_inputs
from benchmarks.harness import Contestant, Outcome, compare
from benchmarks.report import Claim, Figure, Report, TitledTable, figure_rows, parse_options, publish, run, times_better

_SECONDS = "fastest_s"
_FIGURES = (Figure(_SECONDS, "s"), Figure("orders", ""), Figure("peak_memory_mb", "MB"))
_MANY_ROUNDS = 1
"""A thousand configurations take vectorbt minutes."""


def main() -> None:
    """Measure and publish."""
    options = parse_options(__doc__, runs=15)
    days, many = (20, 20) if options.quick else (DAYS, CONFIGURATIONS)
    with tempfile.TemporaryDirectory() as folder:
        market = str(write_inputs(Path(folder), days))
        one = compare(_contestants(market, 1), options.runs)
        thousand = _compare_many(_contestants(market, many))
    publish(_report(one, thousand, many), options)


def _compare_many(contestants: list[Contestant]) -> dict[str, Outcome]:
    """Vectorbt's two engines one after the other: each takes up to 13 GB, which would not fit beside the other's."""
    last = next(one for one in contestants if one.name == "vectorbt_numba")
    return {
        **compare([one for one in contestants if one is not last], _MANY_ROUNDS),
        **compare([last], _MANY_ROUNDS),
    }


def _contestants(market: str, count: int) -> list[Contestant]:
    limits = thresholds(count)
    inputs = {"market": market, "configurations": count}
    signals = {"market": market, "long": limits.long.tolist(), "short": limits.short.tolist()}
    peers = [
        Contestant(f"vectorbt_{engine}", "benchmarks.peers.vectorbt_signals", signals | {"engine": engine}, "backtest")
        for engine in ("rust", "numba")
    ]
    if count == 1:
        peers.append(Contestant("backtesting_py", "benchmarks.peers.backtesting_strategy", signals, "backtest"))
        other = Contestant("ours_with_tables", "benchmarks.ours.backtest", inputs | {"threads": 1, "tables": True})
    else:
        other = Contestant("ours_two_threads", "benchmarks.ours.backtest", inputs | {"threads": 2}, threads=2)
    return [
        Contestant("ours", "benchmarks.ours.backtest", inputs | {"threads": 1}),
        other,
        Contestant("bare_loop", "benchmarks.peers.numba_loop", inputs),
        *peers,
    ]


def _report(one: dict[str, Outcome], thousand: dict[str, Outcome], many: int) -> Report:
    peers = ("vectorbt_rust", "vectorbt_numba", "backtesting_py", "bare_loop")
    ratio: Outcome = {
        "one": {name: times_better(one["ours"], one[name], _SECONDS, more_is_better=False) for name in peers},
        "many": {
            name: times_better(thousand["ours"], thousand[name], _SECONDS, more_is_better=False)
            for name in peers
            if name in thousand
        },
        "two_threads": {
            name: times_better(thousand["ours_two_threads"], thousand[name], _SECONDS, more_is_better=False)
            for name in ("vectorbt_rust", "vectorbt_numba")
        },
    }
    return Report(
        name="backtest_speed",
        about=f"{one['ours']['bars']:,} bars of three symbols, one configuration and {many:,}",
        ours={"one": one["ours"], "many": thousand["ours"]},
        peers={name: {"one": one[name], "many": thousand.get(name, {})} for name in peers},
        ratio=ratio,
        claims=[
            Claim("one configuration, against vectorbt's faster engine", _least(ratio["one"]), 10.0, True, "x"),
            Claim("one configuration, against backtesting.py", ratio["one"]["backtesting_py"], 100.0, True, "x"),
            Claim("one configuration, time of the bare loop", _inverse(ratio["one"]["bare_loop"]), 5.0, False, "x"),
            # Vectorbt has no threads to give; `levibot backtest sweep` takes those of the settings, two where none are.
            Claim(
                f"{many:,} configurations on two cores, against vectorbt's faster",
                _least(ratio["two_threads"]),
                30.0,
                True,
                "x",
            ),
            Claim(
                f"{many:,} configurations, time of the bare loop", _inverse(ratio["many"]["bare_loop"]), 5.0, False, "x"
            ),
            Claim("peak memory, all included", thousand["ours"]["peak_memory_mb"] / 1e3, 1.0, False, "GB"),
        ],
        figures=_FIGURES,
        variants={"ours_with_tables": one["ours_with_tables"], "ours_two_threads": thousand["ours_two_threads"]},
        tables=[
            TitledTable(title, figure_rows(_as_payload(outcomes)))
            for title, outcomes in (("one configuration", one), (f"{many:,} configurations", thousand))
        ],
    )


def _least(ratios: Outcome) -> float | None:
    known = [ratios[name] for name in ("vectorbt_rust", "vectorbt_numba") if ratios.get(name) is not None]
    return min(known) if known else None


def _inverse(ratio: float | None) -> float | None:
    return None if not ratio else round(1.0 / ratio, 2)


def _as_payload(outcomes: dict[str, Outcome]) -> Outcome:
    figures = [{"key": figure.key, "unit": figure.unit} for figure in _FIGURES]
    others = {name: outcome for name, outcome in outcomes.items() if name != "ours"}
    return {"ours": outcomes["ours"], "peers": others, "variants": {}, "figures": figures}


if __name__ == "__main__":
    sys.exit(run(main))
