import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from levibot_core.backtest.engine import BacktestParameters, BacktestResult, run_backtest
from levibot_core.backtest.metrics import backtest_metrics
from levibot_core.backtest.report import ReportContext, verdict, write_html_report, write_json_report
from levibot_core.market.timeframe import Timeframe
from levibot_core.schemas import TIMESTAMP

_CONTEXT = ReportContext(
    title="Backtest of <a model>",
    model_name="levibot-5m-h12",
    model_version=3,
    snapshot_id="20250101T000000Z-0123456789ab",
    source="a test",
    reasons=("the backtest lost",),
)


@pytest.fixture(params=["trades", "no trades"])
def result(request: pytest.FixtureRequest) -> BacktestResult:
    """Forty days over a month's end, of a random walk."""
    bars = 40 * 288
    random = np.random.default_rng(7)
    closes = 100 * np.exp(np.cumsum(random.normal(0, 0.001, bars)))
    candles = pl.DataFrame(
        {
            "symbol": ["BTC/USDT"] * bars,
            "ts": pl.Series(1_735_689_600_000 + 300_000 * np.arange(bars)).cast(TIMESTAMP),
            "open": closes,
            "close": closes,
        }
    )
    spread = 0.2 if request.param == "trades" else 0.01
    predictions = candles.select("symbol", "ts", prob_up=pl.Series(0.5 + spread * random.uniform(-1, 1, bars)))
    return run_backtest(candles, predictions, Timeframe.parse("5m"), BacktestParameters())


def test_the_page_needs_nothing_from_outside_and_escapes_text(tmp_path: Path, result: BacktestResult) -> None:
    write_html_report(tmp_path / "report.html", result, backtest_metrics(result), _CONTEXT)

    page = (tmp_path / "report.html").read_text("utf-8")
    links = re.findall(r"(?:src|href)=[\"']([^\"'#]*)", page)
    assert [link for link in links if link and not link.startswith("data:")] == []
    assert "<script" not in page
    assert "@import" not in page
    assert {url for url in re.findall(r"https?://[^\"\s<]*", page) if not url.startswith("http://www.w3.org/")} == set()
    assert "&lt;a model&gt;" in page
    assert page.count("<svg") == (4 if result.strategy.trades.height else 3)
    assert "Jan" in page
    assert 'name="viewport"' in page
    assert len(page) < 1_500_000


def test_the_page_shows_the_figures_and_no_minus_before_a_zero(tmp_path: Path, result: BacktestResult) -> None:
    summary = backtest_metrics(result)

    write_html_report(tmp_path / "report.html", result, summary, _CONTEXT)

    page = (tmp_path / "report.html").read_text("utf-8")
    for figure in (summary.strategy.total_return, summary.buy_and_hold.total_return):
        assert f">{figure:+.2%}<" in page
    assert f"<b>{summary.strategy.trades}</b>" in page
    assert f">{summary.strategy.net_pnl:,.2f}<" in page
    assert re.findall(r">-0\.?0*%?<", page) == []


def test_the_same_result_gives_the_same_page(tmp_path: Path, result: BacktestResult) -> None:
    for name in ("one.html", "two.html"):
        write_html_report(tmp_path / name, result, backtest_metrics(result), _CONTEXT)

    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


def test_the_json_holds_every_trade_and_all_figures(tmp_path: Path, result: BacktestResult) -> None:
    summary = backtest_metrics(result)

    write_json_report(tmp_path / "report.json", result, summary, _CONTEXT)

    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert len(report["trades"]) == result.strategy.trades.height
    assert report["metrics"] == summary.model_dump(mode="json")
    assert report["context"]["model_version"] == 3
    assert report["start"].startswith("2025-01-01T00:05:00")


def test_the_verdict_says_a_loss_first(result: BacktestResult) -> None:
    text = verdict(backtest_metrics(result))

    assert text.startswith("It lost" if result.strategy.trades.height else "It made no trade")
