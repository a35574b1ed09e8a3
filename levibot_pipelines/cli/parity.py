"""`levibot features parity`: compute again what was served, and compare bit by bit."""

import typer

from levibot_core.config import load_settings
from levibot_core.monitoring.parity_report import ParityReport
from levibot_pipelines.cli.output import JsonOption, print_json, print_table, results, working
from levibot_pipelines.parity import replay_served_vectors
from levibot_pipelines.workspace import Workspace

_SHOWN = 30


def parity(as_json: JsonOption = False) -> None:
    """Replay every served feature vector in the log against the offline computation; exit code 1 on a difference."""
    workspace = Workspace.open(load_settings())
    with working("Replaying the served vectors"):
        report = replay_served_vectors(workspace)
    if as_json:
        print_json(report.to_dict())
    else:
        _print(report)
    if report.count("mismatches"):
        raise typer.Exit(1)


def _print(report: ParityReport) -> None:
    print_table(
        "Served feature vectors against the offline computation",
        ("day (UTC)", "served", "vectors", "values", "different", "skipped", "cut lines"),
        [tuple(f"{day[name]:,}" if name != "day" else day[name] for name in _COLUMNS) for day in report.by_day],
    )
    for reason, vectors in report.not_comparable.items():
        results.print(f"[yellow]{vectors:,} vectors could not be compared:[/] {reason}", soft_wrap=True)
    mismatches, differences = report.count("mismatches"), report.differences
    if mismatches:
        shown = differences[:_SHOWN]
        print_table(
            f"{mismatches:,} values differ" + (f", the newest {len(shown)}" if len(shown) < mismatches else ""),
            ("bar (UTC)", "symbol", "feature", "served", "offline"),
            [(item["ts"][:16], item["symbol"], item["feature"], item["served"], item["offline"]) for item in shown],
        )
        return
    compared = report.count("compared")
    if compared:
        results.print(f"[bold green]Equal:[/] all {compared:,} values are the same, bit for bit.", soft_wrap=True)
    else:
        results.print("Nothing to compare: no served vector is in the log. `levibot up`, then ask for a forecast.")


_COLUMNS = ("day", "servings", "vectors", "compared", "mismatches", "not_comparable", "unreadable_lines")
