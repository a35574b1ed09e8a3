"""`levibot backtest sweep`: a registered model's test rows traded with many configurations in one call."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from levibot_core.errors import ConfigurationError
from levibot_pipelines.cli.output import JsonOption, print_json, print_notes, print_table, working

if TYPE_CHECKING:
    import polars as pl

_USUAL_GRID = (
    "long_threshold=0.51,0.52,0.53,0.54,0.55,0.56,0.57,0.58,0.59,0.60",
    "short_threshold=0.40,0.41,0.42,0.43,0.44,0.45,0.46,0.47,0.48,0.49",
    "latency_bars=1,2",
    "equity_fraction=0.05,0.1,0.15,0.2,0.25",
)
_SHOWN = ("total_return", "sharpe", "max_drawdown", "hit_rate", "turnover", "trades", "fees_paid")


def sweep_backtests(
    version: Annotated[int, typer.Argument(help="Version of the registered model.")],
    vary: Annotated[
        list[str] | None, typer.Option(help="name=value,value of a parameter; repeat it for a grid of several.")
    ] = None,
    live_policy: Annotated[bool, typer.Option(help="Start from the sizes and limits of the live engines.")] = False,
    sort_by: Annotated[str, typer.Option(help="Figure to sort by, best first.")] = "sharpe",
    top: Annotated[int, typer.Option(help="Rows of the table.", min=1)] = 10,
    threads: Annotated[
        int | None, typer.Option(help="Configurations that run at a time; LEVIBOT_THREADS if unset.", min=1)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run many configurations, 1,000 where nothing is varied, on the test rows; each of them is another trial."""
    # Here, not above: the compiler alone takes a second to import, which every other command would wait for.
    from levibot_core.backtest.simulation_parameters import LIVE_ACCOUNT, BacktestParameters
    from levibot_core.backtest.sweep import sweep
    from levibot_core.backtest.sweep_grid import grid
    from levibot_core.config import load_settings
    from levibot_pipelines.backtests import account_of, subject_of
    from levibot_pipelines.workspace import Workspace

    base = LIVE_ACCOUNT if live_policy else BacktestParameters()
    configurations = grid(base, vary or _USUAL_GRID)
    with working("Forecasting the test rows"):
        workspace = Workspace.open(load_settings())
        subject = subject_of(workspace, version)
        backtest = account_of(workspace, subject.bundle, subject.snapshot, subject.rows, base)
    started = time.perf_counter()
    with working(f"Running {len(configurations):,} configurations"):
        figures = sweep(backtest.market, configurations, threads or workspace.settings.threads)
    seconds = time.perf_counter() - started
    ranked = _ranked(figures, sort_by)
    if as_json:
        funding = backtest.funding.model_dump(mode="json")
        found = {"version": version, "seconds": round(seconds, 3), "funding": funding}
        print_json({**found, "configurations": ranked.to_dicts()})
        return
    varied = figures.columns[1 : figures.columns.index("final_equity")]
    shown = [*varied, *_SHOWN] if sort_by in _SHOWN else [*varied, *_SHOWN, sort_by]
    print_table(
        f"{figures.height:,} configurations of version {version} in {seconds:.1f} s, the best by {sort_by}",
        [name.replace("_", " ") for name in shown],  # which a narrow terminal breaks between words
        [[_text(value) for value in row] for row in ranked.select(shown).head(top).iter_rows()],
    )
    print_notes(
        [
            f"The best of {figures.height:,} was lucky too: deflate its Sharpe ratio by as many trials.",
            f"Funding: {backtest.funding.note.rstrip('.')}.",
        ]
    )


def _ranked(figures: "pl.DataFrame", sort_by: str) -> "pl.DataFrame":
    if sort_by not in figures.columns:
        raise ConfigurationError(f"Expected one of {', '.join(figures.columns)} to sort by, was {sort_by!r}.")
    return figures.sort(sort_by, descending=True, nulls_last=True, maintain_order=True)


def _text(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
