"""What every benchmark's command shares: its options, the claims it checks, and how the result is shown and kept.

JSON goes to standard output, a table for people to standard error, and the JSON of a full run to
`benchmarks/results/<name>.json`.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.harness import ROOT, BenchmarkError, Outcome
from benchmarks.machine import machine
from levibot_core.errors import LevibotError
from levibot_core.stores.files import write_json_atomically

BUSY_SHARE = 0.25
"""Share of the cores that other work may take before a run says so."""
RESULTS = ROOT / "benchmarks" / "results"


@dataclass(frozen=True, slots=True)
class Options:
    """What every benchmark can be told."""

    runs: int
    quick: bool


def parse_options(description: str, runs: int, runs_are: str = "counted rounds; one more comes first") -> Options:
    """Read the command line; `description` is the script's docstring, `runs` the default number of counted rounds."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--runs", type=int, default=runs, help=f"{runs_are} (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="small inputs, to see that it works; nothing is kept")
    given = parser.parse_args()
    if given.runs < 1:
        parser.error(f"Expected at least 1 run, was {given.runs}.")
    return Options(given.runs, given.quick)


@dataclass(frozen=True, slots=True)
class Claim:
    """A figure with the limit it has to keep.

    Attributes:
        text: What is claimed, such as `cells per second against Qlib`.
        value: What was measured; None where the peer is missing.
        limit: The limit.
        at_least: Whether the value may not be below the limit; otherwise it may not be above.
        unit: `x` for a ratio.
    """

    text: str
    value: float | None
    limit: float
    at_least: bool
    unit: str

    @property
    def holds(self) -> bool | None:
        """Whether it was kept; None when it could not be measured."""
        if self.value is None:
            return None
        return self.value >= self.limit if self.at_least else self.value <= self.limit


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure to show of every contestant: its key in the outcome, and its unit."""

    key: str
    unit: str


@dataclass(frozen=True, slots=True)
class Report:
    """One benchmark's result.

    Attributes:
        name: Name of the script, without `.py`.
        about: What was measured, in one sentence.
        ours: The platform's outcome, as `benchmarks.harness.compare` gives it; or one per case.
        peers: The same per peer.
        ratio: How many times better ours is, per peer.
        claims: The figures with a limit.
        figures: What the table shows of every contestant.
        variants: Further outcomes that are neither: ours with more threads, a floor.
        tables: What is shown instead of one table of figures, where they are too many for one.
    """

    name: str
    about: str
    ours: Outcome
    peers: Mapping[str, Outcome]
    ratio: Mapping[str, Any]
    claims: Sequence[Claim]
    figures: Sequence[Figure]
    variants: Mapping[str, Outcome] = field(default_factory=dict)
    tables: Sequence["TitledTable"] = ()


@dataclass(frozen=True, slots=True)
class TitledTable:
    """A table of texts: its title, and its rows, the header first."""

    title: str
    rows: Sequence[Sequence[str]]


def run(main: Callable[[], None]) -> int:
    """Run a benchmark's `main` and return the exit code; what stands in its way is said in one line."""
    try:
        main()
    except (BenchmarkError, LevibotError) as error:
        Console(stderr=True).print(f"Error: {error}", style="bold red", markup=False)
        return 1
    return 0


def publish(report: Report, options: Options) -> None:
    """Print the report, and keep it if it is of a full run."""
    payload = {
        "name": report.name,
        "about": report.about,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "runs": options.runs,
        "quick": options.quick,
        "ours": report.ours,
        "variants": dict(report.variants),
        "peers": dict(report.peers),
        "ratio": dict(report.ratio),
        "figures": [{"key": figure.key, "unit": figure.unit} for figure in report.figures],
        "tables": [{"title": table.title, "rows": [list(row) for row in table.rows]} for table in report.tables],
        "claims": [_claim_json(claim) for claim in report.claims],
        "machine": machine(),
    }
    sys.stdout.write(json.dumps(payload, indent=2) + "\n")
    _show(payload)
    if not options.quick:
        write_json_atomically(RESULTS / f"{report.name}.json", payload)


def times_better(ours: Outcome, peer: Outcome, figure: str, *, more_is_better: bool) -> float | None:
    """How many times better ours is in `figure`; None where the peer has none."""
    if figure not in peer:
        return None
    mine, theirs = float(ours[figure]), float(peer[figure])
    return round(mine / theirs if more_is_better else theirs / mine, 2)


def _claim_json(claim: Claim) -> Outcome:
    return {
        "claim": claim.text,
        "value": claim.value,
        "limit": claim.limit,
        "at_least": claim.at_least,
        "unit": claim.unit,
        "holds": claim.holds,
    }


def _show(payload: Outcome) -> None:
    console = Console(stderr=True)
    console.print(f"{payload['name']}: {payload['about']}", style="bold", markup=False)
    for title, (header, *rows) in (*titled_rows(payload), (None, claim_rows(payload))):
        # A unit in brackets would be taken for markup.
        table = Table(*map(escape, header), title=title, title_justify="left", title_style="bold")
        table.columns[0].no_wrap = title is not None
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for name, problem in problems(payload):
        console.print(f"{name}: {problem}", style="bold red", markup=False)
    load, cores = payload["machine"]["load_at_start"], payload["machine"]["cores"]
    if load > cores * BUSY_SHARE:
        console.print(f"The machine was busy before this began (load {load:.1f} on {cores} cores).", style="bold red")


def titled_rows(payload: Outcome) -> list[tuple[str | None, list[list[str]]]]:
    """The tables of a result, each with its title: its own, or the one of its figures."""
    own = [(table["title"], table["rows"]) for table in payload.get("tables", ())]
    return own or [(None, figure_rows(payload))]


def figure_rows(payload: Outcome) -> list[list[str]]:
    """The figures of every contestant as rows of a table, the header first."""
    figures = payload["figures"]
    contestants = _leaves({"ours": payload["ours"], **payload["peers"], **payload["variants"]})
    header = ["", *(f"{figure['key'].replace('_', ' ')} [{figure['unit']}]" for figure in figures)]
    return [
        header,
        *(
            [name, *(_number(outcome.get(figure["key"])) for figure in figures)]
            for name, outcome in contestants.items()
        ),
    ]


def claim_rows(payload: Outcome) -> list[list[str]]:
    """The claims as rows of a table, the header first."""
    rows = [["claim", "measured", "limit", "holds"]]
    for claim in payload["claims"]:
        unit = claim["unit"] if claim["unit"] == "x" else f" {claim['unit']}"
        limit = f"{'at least' if claim['at_least'] else 'at most'} {claim['limit']:g}{unit}"
        measured = "not measured" if claim["value"] is None else f"{_claimed(claim['value'])}{unit}"
        rows.append([claim["claim"], measured, limit, {True: "yes", False: "NO", None: "?"}[claim["holds"]]])
    return rows


def problems(payload: Outcome) -> list[tuple[str, str]]:
    """Contestants without figures, and why."""
    return [
        (name, f"{problem.upper()}: {outcome[problem]}")
        for name, outcome in _leaves({**payload["peers"], **payload["variants"]}).items()
        for problem in ("missing", "failed")
        if problem in outcome
    ]


def _leaves(outcomes: Mapping[str, Outcome], prefix: str = "") -> dict[str, Outcome]:
    """Every single outcome by its full name; a contestant that was measured in several cases has one per case."""
    leaves: dict[str, Outcome] = {}
    for name, outcome in outcomes.items():
        if outcome.keys() & {"seconds", "missing", "failed"}:
            leaves[f"{prefix}{name}"] = outcome
        else:
            leaves |= _leaves(outcome, f"{prefix}{name}, ")
    return leaves


def _claimed(value: float) -> str:
    return f"{value:.2f}" if abs(value) >= 1.0 else f"{value:.4f}"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
