"""`levibot models guard`: is the champion still what it was judged to be, by the code of now?"""

import typer
from rich.markup import escape

from levibot_core.config import load_settings
from levibot_pipelines.cli.champions import ActorOption, named
from levibot_pipelines.cli.output import JsonOption, print_facts, print_json, print_notes, print_table, working
from levibot_pipelines.workspace import Workspace


def guard(actor: ActorOption = None, as_json: JsonOption = False) -> None:
    """Compute the champion's backtest again on the rows it was judged on; exit code 1 when it dropped.

    A drop makes the champion a rollback candidate and raises an alert.
    """
    from levibot_pipelines.regression_guard import (  # Seconds of libraries that other commands do not need.
        guard_champion,
        report_json,
    )

    workspace = Workspace.open(load_settings())
    with working("Computing the champion's backtest again"):
        report, _ = guard_champion(workspace, named(actor))
    if as_json:
        print_json(report_json(report))
    else:
        print_facts(
            f"{report.model} version {report.version} ({report.family})",
            [
                ("verdict", "dropped: a rollback candidate" if report.regressed else "as it was"),
                ("found", escape(report.found)),
                ("snapshot", report.snapshot_id),
                ("code then", report.code_then),
                ("code now", report.code_now),
                ("took", f"{report.seconds:.1f} s"),
            ],
        )
        if report.recorded is not None and report.recomputed is not None and report.verdict is not None:
            was, now = report.recorded, report.recomputed
            print_table(
                "Backtest on the test rows",
                ("", "when it was judged", "computed again"),
                [
                    ("Sharpe ratio", _number(was.sharpe), _number(now.sharpe)),
                    ("return after costs", f"{was.total_return:+.4%}", f"{now.total_return:+.4%}"),
                    ("trades", f"{was.trades:,}", f"{now.trades:,}"),
                    ("log loss, nats", f"{was.log_loss:.6f}", f"{now.log_loss:.6f}"),
                ],
            )
            print_notes([f"Not as it was: {difference}" for difference in report.verdict.differences])
    if report.regressed:
        raise typer.Exit(1)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"
