"""`levibot backtest run` and `compare`: a registered version traded anew, and two of them on the same bars."""

from typing import Annotated

import typer

from levibot_pipelines.cli.output import (
    JsonOption,
    messages,
    print_facts,
    print_json,
    print_notes,
    print_table,
)

_COMPARED = (
    ("return", "total_return", "{:+.3%}"),
    ("return per year", "annualised_return", "{:+.2%}"),
    ("volatility per year", "volatility", "{:.2%}"),
    ("Sharpe ratio", "sharpe", "{:.2f}"),
    ("maximum drawdown", "max_drawdown", "{:.3%}"),
    ("trades", "trades", "{:,}"),
    ("hit rate", "hit_rate", "{:.1%}"),
    ("mean exposure", "exposure", "{:.3%}"),
    ("fees paid", "fees_paid", "{:,.2f}"),
    ("slippage paid", "slippage_paid", "{:,.2f}"),
    ("funding paid", "funding_paid", "{:,.2f}"),
)

DaysOption = Annotated[int | None, typer.Option(min=1, help="Only the last so many days of the test rows.")]


def run_backtest(
    version: Annotated[
        int | None, typer.Argument(help="Version of the registered model; the champion, or else the newest, if unset.")
    ] = None,
    days: DaysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Trade a version's test rows anew with the policy of the live engines, and write the report.

    What the lifecycle decided about the version stays as it is.
    """
    # Here, not above: the compiler alone takes a second to import, which every other command would wait for.
    from levibot_core.backtest.report import verdict
    from levibot_core.config import load_settings
    from levibot_pipelines.backtests import keep_report, report_on, subject_of, usual_version
    from levibot_pipelines.workspace import Workspace

    with messages.status("Opening the registry") as status:
        workspace = Workspace.open(load_settings())
        chosen = usual_version(workspace) if version is None else version
        status.update("Reading the version and its snapshot")
        made = report_on(workspace, subject_of(workspace, chosen, days), status.update)
        reference = keep_report(workspace.home, made, days)
    strategy, holding = made.summary.strategy, made.summary.buy_and_hold
    if as_json:
        print_json(
            {
                "version": chosen,
                "days": days,
                "metrics": made.summary.model_dump(mode="json"),
                "funding": made.funding.model_dump(mode="json"),
                "reasons_against_trading": reference.reasons_against_trading,
                "html": str(reference.html),
                "json": str(reference.json_file),
            }
        )
        return
    print_table(
        made.context.title,
        ("figure", "strategy", "buy and hold"),
        [(name, _shown(layout, strategy, field), _shown(layout, holding, field)) for name, field, layout in _COMPARED],
    )
    print_notes([verdict(made.summary, made.analysis.edges.acted_on), f"Funding: {made.funding.note.rstrip('.')}."])
    print_facts("Where to look", [("page", reference.html), ("JSON", reference.json_file)])


def compare_backtests(
    version: Annotated[int, typer.Argument(help="Version of the registered model.")],
    other: Annotated[int, typer.Argument(help="Version to compare it with.")],
    days: DaysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Trade two versions' forecasts of the same bars, which neither was fitted on, and show the difference."""
    from levibot_core.backtest.report import duel_in_words
    from levibot_core.config import load_settings
    from levibot_pipelines.backtests import compare_versions
    from levibot_pipelines.workspace import Workspace

    with messages.status(f"Trading versions {version} and {other}"):
        found = compare_versions(Workspace.open(load_settings()), version, other, days)
    comparison, curve = found.comparison, found.backtest.result.strategy.equity
    start, end = (curve["ts"].dt.strftime("%Y-%m-%d")[place] for place in (0, -1))
    if as_json:
        funding = found.backtest.funding.model_dump(mode="json")
        print_json({"start": start, "end": end, "funding": funding, **comparison.model_dump(mode="json")})
        return
    print_table(
        f"{start} to {end}, rows that neither was fitted on",
        ("figure", comparison.name, comparison.other),
        [
            (name, _shown(layout, comparison.account, field), _shown(layout, comparison.other_account, field))
            for name, field, layout in _COMPARED
        ],
    )
    print_notes([duel_in_words(comparison), f"Funding: {found.backtest.funding.note.rstrip('.')}."])


def _shown(layout: str, figures: object, field: str) -> str:
    value = getattr(figures, field)
    return "-" if value is None else layout.format(value)
