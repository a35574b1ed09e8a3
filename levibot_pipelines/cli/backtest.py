"""`levibot backtest`: the backtests that were made, one of them, and sweeps of configurations."""

import json
from typing import Annotated, Any

import typer

from levibot_core.config import load_settings
from levibot_core.errors import MarketDataUnavailableError
from levibot_core.stores.paths import Home
from levibot_pipelines.cli.backtest_sweep import sweep_backtests
from levibot_pipelines.cli.output import JsonOption, first_of, print_facts, print_json, print_notes, print_table

app = typer.Typer(help="Backtests of registered models.", no_args_is_help=True)
app.command("sweep")(sweep_backtests)


@app.command("list")
def list_backtests(as_json: JsonOption = False) -> None:
    """List every backtest of this home, newest version first."""
    found = [_read(path.stem) for path in _folder().glob("v*.json")]
    found.sort(key=lambda report: -report["context"]["model_version"])
    if as_json:
        print_json([{key: report[key] for key in ("context", "metrics")} for report in found])
        return
    print_table(
        "Backtests",
        ("version", "return", "buy and hold", "Sharpe", "max drawdown", "trades", "may trade"),
        [_row(report) for report in found],
    )
    print_notes([_note(report["context"]) for report in found if report["context"]["reasons"]])


@app.command("show")
def show_backtest(
    version: Annotated[int, typer.Argument(help="Version of the registered model.")], as_json: JsonOption = False
) -> None:
    """Show one backtest; with --json, every trade."""
    report = _read(f"v{version}")
    if as_json:
        print_json(report)
        return
    strategy, buy_and_hold = report["metrics"]["strategy"], report["metrics"]["buy_and_hold"]
    print_table(
        report["context"]["title"],
        ("figure", "strategy", "buy and hold"),
        [(name, _shown(value), _shown(buy_and_hold.get(name))) for name, value in strategy.items()],
    )
    print_facts("Report", [("HTML", _folder() / f"v{version}.html"), ("JSON", _folder() / f"v{version}.json")])


def _folder() -> Any:
    return Home.at(load_settings().home).reports / "backtests"


def _read(name: str) -> dict[str, Any]:
    path = _folder() / f"{name}.json"
    if not path.exists():
        raise MarketDataUnavailableError(
            f"Expected a backtest at {path}, but there is none. See `levibot backtest list`."
        )
    report: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return report


def _row(report: dict[str, Any]) -> tuple[object, ...]:
    strategy, buy_and_hold = report["metrics"]["strategy"], report["metrics"]["buy_and_hold"]
    return (
        report["context"]["model_version"],
        f"{strategy['total_return']:+.2%}",
        f"{buy_and_hold['total_return']:+.2%}",
        _shown(strategy["sharpe"]),
        f"{strategy['max_drawdown']:.2%}",
        strategy["trades"],
        "no" if report["context"]["reasons"] else "yes",
    )


def _note(context: dict[str, Any]) -> str:
    version = context["model_version"]
    reason = first_of(context["reasons"], f"levibot backtest show {version} --json")
    return f"Version {version} may not trade: {reason}."


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
