"""`levibot backtest`: the backtests that were made, one of them, new ones, and sweeps of configurations."""

from typing import Annotated, Any

import typer

from levibot_core.config import load_settings
from levibot_core.stores.paths import Home
from levibot_pipelines.backtest_files import kept_reports, read_report, reports_folder
from levibot_pipelines.cli.backtest_run import compare_backtests, run_backtest
from levibot_pipelines.cli.backtest_sweep import sweep_backtests
from levibot_pipelines.cli.output import JsonOption, first_of, print_facts, print_json, print_notes, print_table

app = typer.Typer(help="Backtests of registered models.", no_args_is_help=True)
app.command("run")(run_backtest)
app.command("compare")(compare_backtests)
app.command("sweep")(sweep_backtests)


@app.command("list")
def list_backtests(as_json: JsonOption = False) -> None:
    """List every backtest of this home, newest version first."""
    found = kept_reports(_home())
    if as_json:
        print_json([{key: report[key] for key in ("name", "context", "metrics", "start", "end")} for report in found])
        return
    print_table(
        "Backtests",
        ("backtest", "from", "to", "return", "buy and hold", "Sharpe", "max drawdown", "trades", "may trade"),
        [_row(report) for report in found],
    )
    print_notes([_note(report["context"]) for report in found if report["context"]["reasons"]])


@app.command("show")
def show_backtest(
    version: Annotated[int, typer.Argument(help="Version of the registered model.")],
    days: Annotated[int | None, typer.Option(min=1, help="That of the last so many days, made by `run`.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show one backtest; with --json, every trade."""
    name = f"v{version}" + (f"-{days}d" if days else "")
    report = read_report(_home(), name)
    if as_json:
        print_json(report)
        return
    strategy, buy_and_hold = report["metrics"]["strategy"], report["metrics"]["buy_and_hold"]
    print_table(
        report["context"]["title"],
        ("figure", "strategy", "buy and hold"),
        [(name, _shown(value), _shown(buy_and_hold.get(name))) for name, value in strategy.items()],
    )
    folder = reports_folder(_home())
    print_facts("Report", [("HTML", folder / f"{name}.html"), ("JSON", folder / f"{name}.json")])


def _home() -> Home:
    return Home.at(load_settings().home)


def _row(report: dict[str, Any]) -> tuple[object, ...]:
    strategy, buy_and_hold = report["metrics"]["strategy"], report["metrics"]["buy_and_hold"]
    return (
        report["name"],
        report["start"][:10],
        report["end"][:10],
        f"{strategy['total_return']:+z.3%}",
        f"{buy_and_hold['total_return']:+z.2%}",
        _shown(strategy["sharpe"]),
        f"{strategy['max_drawdown']:z.3%}",
        strategy["trades"],
        "no" if report["context"]["reasons"] else "yes",
    )


def _note(context: dict[str, Any]) -> str:
    version = context["model_version"]
    reason = first_of(context["reasons"], f"levibot backtest show {version} --json")
    return f"Version {version} may not trade: {reason.rstrip('.')}."


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
