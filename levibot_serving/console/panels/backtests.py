"""The backtests among the reports of the home, and the cards of their models."""

from dataclasses import dataclass
from datetime import datetime

from levibot_core.stores.paths import Home
from levibot_serving.console.report_files import ReportFiles
from levibot_serving.console.report_formats import BacktestFigures, BacktestReport
from levibot_serving.console.report_pages import page_names

SHOWN = 12


@dataclass(frozen=True, slots=True)
class BacktestRow:
    """One backtest.

    Attributes:
        name: Of its files, without the ending: `v7` of a version's own, another of one that was asked for.
        version: Of the model; None where the report cannot be read, with everything else of it.
        problem: Why it cannot be read.
        page: Name of its page; None where there is none.
        card: Name of the page of its model's card; None where there is none.
    """

    name: str
    version: int | None
    problem: str | None
    start: datetime | None
    end: datetime | None
    symbols: tuple[str, ...]
    strategy: BacktestFigures | None
    holding: BacktestFigures | None
    reasons: tuple[str, ...]
    page: str | None
    card: str | None


@dataclass(frozen=True, slots=True)
class BacktestsPanel:
    """The newest backtests; `more` are not shown."""

    rows: tuple[BacktestRow, ...]
    more: int


def backtests_panel(reports: ReportFiles, home: Home) -> BacktestsPanel:
    """Gather the panel, the last written first."""
    names, pages, cards = reports.backtest_names(), page_names(home, "backtests"), page_names(home, "model_cards")
    rows = tuple(_row(name, reports, pages, cards) for name in names[:SHOWN])
    return BacktestsPanel(rows, max(0, len(names) - SHOWN))


def _row(name: str, reports: ReportFiles, pages: frozenset[str], cards: frozenset[str]) -> BacktestRow:
    read = reports.backtest(name)
    report: BacktestReport | None = read.content
    card = None if report is None else f"v{report.context.model_version}"
    return BacktestRow(
        name=name,
        version=None if report is None else report.context.model_version,
        problem=read.problem,
        start=None if report is None else report.start,
        end=None if report is None else report.end,
        symbols=() if report is None else report.symbols,
        strategy=None if report is None else report.metrics.strategy,
        holding=None if report is None else report.metrics.buy_and_hold,
        reasons=() if report is None else report.context.reasons,
        page=name if name in pages else None,
        card=card if card in cards else None,
    )
