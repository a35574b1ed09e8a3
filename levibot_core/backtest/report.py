"""The report of a backtest: a page for people that needs nothing from outside, and JSON with every trade."""

from pathlib import Path
from typing import Any

import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from pydantic import BaseModel, ConfigDict

from levibot_core.backtest.charts import drawdown_svg, equity_svg, monthly_svg, trades_svg
from levibot_core.backtest.engine import BacktestResult
from levibot_core.backtest.metrics import BacktestSummary
from levibot_core.stores.files import write_json_atomically, write_text_atomically

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


def write_html_report(path: Path, result: BacktestResult, summary: BacktestSummary, context: ReportContext) -> None:
    """Write the page: verdict, key figures, equity, drawdown, months, trades, comparison and costs.

    Raises:
        HomeNotWritableError: the file cannot be written.
    """
    environment = Environment(
        loader=PackageLoader("levibot_core.backtest", "."), autoescape=True, undefined=StrictUndefined
    )
    environment.filters |= {"percent": _percent, "share": _share, "number": _number}
    trades, equity = result.strategy.trades, result.strategy.equity
    page = environment.get_template("report.html.j2").render(
        about=context,
        strategy=summary.strategy,
        holding=summary.buy_and_hold,
        parameters=result.parameters,
        verdict=verdict(summary),
        start=equity["ts"].dt.strftime("%Y-%m-%d")[0],
        end=equity["ts"].dt.strftime("%Y-%m-%d")[-1],
        symbols=", ".join(result.symbols),
        timeframe=result.timeframe.name,
        # Made here from figures alone; no text from outside is in it.
        charts=[Markup(svg) for svg in _charts(result)],  # noqa: S704
        by_symbol=_by_symbol(trades).to_dicts(),
        first_trades=trades.head(_TRADES_SHOWN).to_dicts(),
        last_trades=trades.tail(max(0, min(_TRADES_SHOWN, trades.height - _TRADES_SHOWN))).to_dicts(),
    )
    write_text_atomically(path, page)


def write_json_report(path: Path, result: BacktestResult, summary: BacktestSummary, context: ReportContext) -> None:
    """Write parameters, provenance, all figures and every trade; times as ISO 8601, UTC.

    Raises:
        HomeNotWritableError: the file cannot be written.
    """
    equity = result.strategy.equity
    payload: dict[str, Any] = {
        "context": context.model_dump(mode="json"),
        "parameters": result.parameters.model_dump(mode="json"),
        "timeframe": result.timeframe.name,
        "symbols": list(result.symbols),
        "start": equity["ts"].dt.to_string("iso:strict")[0],
        "end": equity["ts"].dt.to_string("iso:strict")[-1],
        "metrics": summary.model_dump(mode="json"),
        "trades": result.strategy.trades.with_columns(
            pl.col("entry_ts", "exit_ts").dt.to_string("iso:strict")
        ).to_dicts(),
    }
    write_json_atomically(path, payload)


def verdict(summary: BacktestSummary) -> str:
    """The result in one plain sentence, the loss first where there is one."""
    strategy, holding = summary.strategy, summary.buy_and_hold
    beside = f"Buying and holding returned {holding.total_return:+.2%}."
    if strategy.trades == 0:
        return f"It made no trade: no forecast that takes a side was expected to pay its costs. {beside}"
    if strategy.total_return <= 0:
        costs = strategy.fees_paid + strategy.slippage_paid
        before = "earned" if strategy.gross_pnl > 0 else "lost"
        return (
            f"It lost {-strategy.total_return:.2%} after costs: {strategy.trades} trades {before} "
            f"{abs(strategy.gross_pnl):,.0f} before costs and paid {costs:,.0f}. {beside}"
        )
    return f"It earned {strategy.total_return:.2%} after costs in {strategy.trades} trades. {beside}"


def _charts(result: BacktestResult) -> list[str]:
    charts = [equity_svg(result), drawdown_svg(result), monthly_svg(result)]
    return [*charts, trades_svg(result)] if result.strategy.trades.height else charts


def _by_symbol(trades: pl.DataFrame) -> pl.DataFrame:
    return (
        trades.group_by("symbol")
        .agg(
            pl.len().alias("trades"),
            (pl.col("net_pnl") > 0).mean().alias("hit_rate"),
            pl.col("gross_pnl").sum(),
            (pl.col("fees") + pl.col("slippage_cost")).sum().alias("costs"),
            pl.col("net_pnl").sum(),
        )
        .sort("symbol")
    )


def _percent(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:+z.{digits}%}"  # noqa: RUF001 - a dash for people


def _share(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:z.{digits}%}"  # noqa: RUF001 - a dash for people


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:z,.{digits}f}"  # noqa: RUF001 - a dash for people
