"""The report of a backtest: a page for people that needs nothing from outside, and JSON with every trade.

Nothing is computed here: figures are `.metrics`' and `.analysis`', drawings `.charts`' and `.sensitivity_charts`'. The
layout is `report.html.j2`, the style that of the model card.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from pydantic import BaseModel, ConfigDict

from levibot_core.backtest.analysis import BacktestAnalysis
from levibot_core.backtest.charts import drawdown_svg, equity_svg, monthly_svg, trades_svg
from levibot_core.backtest.comparison import AccountComparison
from levibot_core.backtest.engine import Account, BacktestResult
from levibot_core.backtest.metrics import BacktestSummary, in_percent
from levibot_core.backtest.sensitivity_charts import (
    capacity_svg,
    edges_svg,
    random_entries_svg,
    short_amount,
    surface_svg,
)
from levibot_core.backtest.simulation_funding import FundingUse
from levibot_core.backtest.simulation_parameters import BacktestParameters
from levibot_core.stores.files import write_json_atomically, write_text_atomically

FORMAT: Final = 2
"""Of the JSON; 1 had neither funding nor analysis."""
_TRADES_SHOWN = 10


class ReportContext(BaseModel):
    """What a report says beside the figures."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    title: str
    model_name: str
    model_version: int
    snapshot_id: str
    source: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that a report is made of.

    Attributes:
        context: What it is about.
        result: The accounts.
        summary: Their figures.
        funding: Whether funding was paid.
        analysis: What the result hangs on.
        champion: The champion's account over the same bars, to be drawn; None where there is none.
    """

    context: ReportContext
    result: BacktestResult
    summary: BacktestSummary
    funding: FundingUse
    analysis: BacktestAnalysis
    champion: Account | None = None


def write_html_report(path: Path, report: Report) -> None:
    """Write the page.

    Raises:
        HomeNotWritableError: the file cannot be written.
    """
    write_text_atomically(path, html_report(report))


def html_report(report: Report) -> str:
    """The page: verdict, key figures, drawings and tables; of an account without a trade, why there is none."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader("levibot_core.backtest", "."), PackageLoader("levibot_core.models", ".")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.filters |= {
        "percent": _percent,
        "share": _share,
        "number": _number,
        "price": _price,
        "money": short_amount,
    }
    result, analysis, parameters = report.result, report.analysis, report.result.parameters
    trades, equity = result.strategy.trades, result.strategy.equity
    return environment.get_template("report.html.j2").render(
        about=report.context,
        strategy=report.summary.strategy,
        holding=report.summary.buy_and_hold,
        parameters=parameters,
        charged=(parameters.taker_fee + parameters.slippage) * 1e4,
        sizing=_sizing(parameters),
        funding=report.funding,
        analysis=analysis,
        edges=analysis.edges,
        verdict=verdict(report.summary, analysis.edges.acted_on),
        duel_words=duel_in_words(analysis.champion) if analysis.champion else "",
        start=equity["ts"].dt.strftime("%Y-%m-%d")[0],
        end=equity["ts"].dt.strftime("%Y-%m-%d")[-1],
        symbols=", ".join(result.symbols),
        timeframe=result.timeframe.name,
        # Made from figures alone; no text from outside is in it.
        charts={name: Markup(svg) for name, svg in _charts(report).items()},  # noqa: S704
        first_trades=trades.head(_TRADES_SHOWN).to_dicts(),
        last_trades=trades.tail(max(0, min(_TRADES_SHOWN, trades.height - _TRADES_SHOWN))).to_dicts(),
    )


def write_json_report(path: Path, report: Report) -> None:
    """Write parameters, provenance, all figures and every trade; times as ISO 8601, UTC.

    Raises:
        HomeNotWritableError: the file cannot be written.
    """
    write_json_atomically(path, json_report(report))


def json_report(report: Report) -> dict[str, Any]:
    """The same for machines."""
    result = report.result
    equity = result.strategy.equity
    return {
        "format": FORMAT,
        "context": report.context.model_dump(mode="json"),
        "parameters": result.parameters.model_dump(mode="json"),
        "funding": report.funding.model_dump(mode="json"),
        "timeframe": result.timeframe.name,
        "symbols": list(result.symbols),
        "start": equity["ts"].dt.to_string("iso:strict")[0],
        "end": equity["ts"].dt.to_string("iso:strict")[-1],
        "metrics": report.summary.model_dump(mode="json"),
        "analysis": report.analysis.model_dump(mode="json"),
        "trades": trade_records(result),
    }


def trade_records(result: BacktestResult) -> list[dict[str, Any]]:
    """Every trade, with times as ISO 8601, UTC."""
    return result.strategy.trades.with_columns(pl.col("entry_ts", "exit_ts").dt.to_string("iso:strict")).to_dicts()


def verdict(summary: BacktestSummary, acted_on: int = 0) -> str:
    """The result in one plain sentence, the loss first where there is one.

    Args:
        summary: The figures.
        acted_on: Forecasts that the policy acted on: where there are some without a trade, none was filled.
    """
    strategy, holding = summary.strategy, summary.buy_and_hold
    beside = f"Buying and holding returned {in_percent(holding.total_return, '+')}."
    many = f"{strategy.trades:,} trade{'' if strategy.trades == 1 else 's'}"
    if strategy.trades == 0 and acted_on:
        return f"It made no trade: {acted_on:,} forecasts were acted on, but nothing could be filled. {beside}"
    if strategy.trades == 0:
        return f"It made no trade: no forecast that takes a side was expected to pay its costs. {beside}"
    if strategy.total_return <= 0:
        costs = strategy.fees_paid + strategy.slippage_paid + strategy.funding_paid
        before = "earned" if strategy.gross_pnl > 0 else "lost"
        return (
            f"It lost {in_percent(-strategy.total_return)} after costs: {many} {before} "
            f"{abs(strategy.gross_pnl):,.2f} before costs and paid {costs:,.2f}. {beside}"
        )
    return f"It earned {in_percent(strategy.total_return)} after costs in {many}. {beside}"


def duel_in_words(found: AccountComparison) -> str:
    """Which of two accounts was better day by day, and whether that can be told from chance."""
    if found.days_better == found.days_worse == 0:
        return f"Both accounts were the same on all {found.days} days."
    words = (
        f"{found.name.capitalize()} was better on {found.days_better} of {found.days} days and worse on "
        f"{found.days_worse}; the mean difference of a day is {found.mean_daily_difference * 1e4:+.2f} bps"
    )
    if found.lower_95 is None or found.upper_95 is None:
        return f"{words}, of too few days for an interval."
    told = "which is not told from chance" if found.lower_95 <= 0.0 <= found.upper_95 else "which is more than chance"
    return f"{words} (95 % interval {found.lower_95 * 1e4:+.2f} to {found.upper_95 * 1e4:+.2f}), {told}."


def _charts(report: Report) -> dict[str, str]:
    result, analysis, parameters = report.result, report.analysis, report.result.parameters
    charts = {"equity": equity_svg(result, report.champion), "drawdown": drawdown_svg(result)}
    if analysis.edges.forecasts:
        charts["edges"] = edges_svg(analysis.edges)
    if not report.summary.strategy.trades:
        return charts
    charts |= {"monthly": monthly_svg(result), "trades": trades_svg(result)}
    charts["random_entries"] = random_entries_svg(analysis.random_entries) if analysis.random_entries else ""
    if analysis.cost_surface:
        charts["surface"] = surface_svg(analysis.cost_surface, parameters.taker_fee * 1e4, parameters.slippage * 1e4)
    if analysis.capacity:
        charts |= {f"capacity_{what}": capacity_svg(analysis.capacity, what) for what in ("return", "sharpe")}
    return charts


def _sizing(parameters: BacktestParameters) -> str:
    if parameters.sizing is None:
        return f"{parameters.equity_fraction:.0%} of equity per trade"
    return f"{parameters.sizing.kelly_fraction:g} of Kelly's stake, scaled by volatility and confidence"


def _percent(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else in_percent(value, "+", digits)  # noqa: RUF001 - a dash for people


def _share(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else in_percent(value, "", digits)  # noqa: RUF001 - a dash for people


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:z,.{digits}f}"  # noqa: RUF001 - a dash for people


def _price(value: float) -> str:
    """A price with five digits at least: some coins cost fractions of a cent."""
    return f"{value:,.2f}" if value >= 100.0 else f"{value:.5g}"
