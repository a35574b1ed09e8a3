"""The report on a market with an edge and on one where nothing pays: what is on the page, and in the JSON."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from levibot_core.backtest.analysis import analyse
from levibot_core.backtest.candidate import ModelBacktest
from levibot_core.backtest.comparison import compare_accounts
from levibot_core.backtest.engine import LIVE_ACCOUNT, BacktestParameters, run_on
from levibot_core.backtest.metrics import backtest_metrics
from levibot_core.backtest.report import (
    Report,
    ReportContext,
    duel_in_words,
    html_report,
    json_report,
    verdict,
    write_html_report,
    write_json_report,
)
from levibot_core.backtest.simulation_funding import FundingUse
from levibot_core.backtest.simulation_market import Market
from levibot_core.market.timeframe import Timeframe
from levibot_core.schemas import TIMESTAMP

BARS = 24 * 40
_HOUR = Timeframe.parse("1h")
_CONTEXT = ReportContext(
    title="Backtest of <a model>",
    model_name="levibot-1h-h1",
    model_version=3,
    snapshot_id="20250101T000000Z-0123456789ab",
    source="a test",
    reasons=("the backtest lost",),
)


def _backtest(promise: float, seed: int = 7) -> ModelBacktest:
    """Forty days over a month's end of a market whose next return is partly known; `promise` scales the edges."""
    random = np.random.default_rng(seed)
    known = random.normal(0.0, 1.0, BARS)
    returns = 0.004 * random.normal(0.0, 1.0, BARS)
    returns[1:] += 0.006 * known[:-1]
    closes = 100.0 * np.exp(np.cumsum(returns))
    candles = pl.DataFrame(
        {
            "symbol": "A/<B>",
            "ts": pl.Series(1_735_689_600_000 + 3_600_000 * np.arange(BARS)).cast(TIMESTAMP),
            "open": np.concatenate([[100.0], closes[:-1]]),
            "close": closes,
            "volume": np.full(BARS, 1e4),
        }
    )
    beliefs = 1.0 / (1.0 + np.exp(-1.5 * known))
    edges = (2.0 * beliefs - 1.0) * 0.8 * promise
    forecasts = candles.select(
        "symbol",
        "ts",
        prob_up=pl.Series(beliefs),
        volatility=pl.lit(0.007),
        edge=pl.Series(edges),
        pays=pl.Series(np.abs(edges) > 0.004),
    )
    acted = forecasts.select("symbol", "ts", "volatility", prob_up=pl.when("pays").then("prob_up"))
    market = Market.of(candles, acted, _HOUR)
    use = FundingUse(counted=True, settlements=120, note="120 settlements, each on the position held at its instant")
    return ModelBacktest(run_on(market, LIVE_ACCOUNT), market, forecasts, use)


def _report(backtest: ModelBacktest) -> Report:
    closes = pl.DataFrame(
        {"symbol": "A/<B>", "ts": backtest.market.times_ms, "close": backtest.market.arrays.planes[3, :, 0]}
    ).with_columns(pl.col("ts").cast(TIMESTAMP))
    trials = np.random.default_rng(1).normal(0.0, 0.01, (20, 90))
    champion = compare_accounts(backtest, _backtest(0.006, seed=8), ("version 3", "the champion, version 2"))
    analysis = analyse(backtest, closes, trials, champion)
    summary = backtest_metrics(backtest.result)
    return Report(_CONTEXT, backtest.result, summary, backtest.funding, analysis, backtest.result.buy_and_hold)


@pytest.fixture(scope="module", params=["trades", "no trades"])
def report(request: pytest.FixtureRequest) -> Report:
    return _report(_backtest(0.007 if request.param == "trades" else 0.001))


@pytest.fixture(scope="module")
def page(report: Report) -> str:
    return html_report(report)


def test_the_page_needs_nothing_from_outside_and_escapes_text(page: str) -> None:
    links = re.findall(r"(?:src|href)=[\"']([^\"'#]*)", page)
    assert links == []
    assert "<script" not in page
    assert "@import" not in page
    assert re.findall(r"https?://[^\"\s<]*", page) == []
    assert "&lt;a model&gt;" in page
    assert "A/<B>" not in page
    assert 'name="viewport"' in page
    assert "prefers-color-scheme: dark" in page
    assert len(page) < 500_000


def test_the_page_of_trades_has_every_part_and_that_without_any_says_why(page: str, report: Report) -> None:
    if report.summary.strategy.trades:
        assert page.count("<svg") == 8
        for part in ("By month", "Random entries", "Deflated Sharpe ratio", "costs", "money put in", "First and last"):
            assert part in page
        assert "Why nothing was traded" not in page
        return
    assert page.count("<svg") == 3
    edges = report.analysis.edges
    assert f"{edges.takes_side:,} take a side" in page
    assert "What if trading cost less?" in page
    for part in ("By month", "Random entries", "money put in", "Where the money went", "-0.00%"):
        assert part not in page


def test_drawings_are_numbers_all_over(page: str) -> None:
    for drawing in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        assert not re.search(r"\b(nan|inf|None)\b", drawing), drawing[:200]


def test_the_page_shows_the_figures_and_no_minus_before_a_zero(page: str, report: Report) -> None:
    strategy, holding = report.summary.strategy, report.summary.buy_and_hold
    for figure in (strategy.total_return, holding.total_return):
        assert f">{figure:+.2%}<" in page
    assert f"<b>{strategy.trades:,}</b>" in page
    assert re.findall(r">-0\.?0*%?<", page) == []


def test_the_same_result_gives_the_same_files(tmp_path: Path, report: Report) -> None:
    for name in ("one", "two"):
        write_html_report(tmp_path / f"{name}.html", report)
        write_json_report(tmp_path / f"{name}.json", report)
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


def test_the_json_holds_every_trade_and_all_figures(report: Report) -> None:
    found = json.loads(json.dumps(json_report(report), allow_nan=False))
    assert len(found["trades"]) == report.result.strategy.trades.height
    assert found["metrics"] == report.summary.model_dump(mode="json")
    assert found["analysis"] == report.analysis.model_dump(mode="json")
    assert found["funding"]["settlements"] == 120
    assert found["context"]["model_version"] == 3
    assert found["start"].startswith("2025-01-01T01:00:00")


def test_the_verdict_says_a_loss_first(report: Report) -> None:
    text = verdict(report.summary)
    if not report.summary.strategy.trades:
        assert text.startswith("It made no trade")
    else:
        assert text.startswith("It earned" if report.summary.strategy.total_return > 0 else "It lost")


def test_an_account_against_itself_is_the_same_and_against_a_better_one_worse() -> None:
    one, better = _backtest(0.006), _backtest(0.006)
    equity = better.result.strategy.equity
    risen = equity.with_columns(pl.col("equity") * (1.0 + 1e-5 * pl.int_range(pl.len())))
    better = replace(better, result=replace(better.result, strategy=replace(better.result.strategy, equity=risen)))

    same = compare_accounts(one, one, ("one", "one"))
    worse = compare_accounts(one, better, ("one", "better"))

    assert duel_in_words(same) == "Both accounts were the same on all 40 days."
    assert (worse.days_better, worse.days_worse) == (0, 40)
    assert worse.upper_95 is not None
    assert worse.upper_95 < 0.0
    assert "more than chance" in duel_in_words(worse)


def _by_hand(opened: np.ndarray, close: np.ndarray, volume: float, parameters: BacktestParameters) -> Report:
    """A model that is sure of a fall at every bar, without a champion or a trial."""
    market = Market.of_arrays(
        ("A/B",),
        _HOUR,
        1_735_689_600_000 + 3_600_000 * np.arange(close.size),
        open=opened[:, None],
        close=close[:, None],
        prob_up=np.full((close.size, 1), 0.1),
        volume=np.full((close.size, 1), volume),
    )
    closes = pl.DataFrame({"symbol": "A/B", "ts": pl.Series(market.times_ms).cast(TIMESTAMP), "close": close})
    sure = closes.select("symbol", "ts", prob_up=pl.lit(0.1), edge=pl.lit(-0.01), pays=pl.lit(True))
    unpaid = FundingUse(counted=False, settlements=0, note="no funding rates are known")
    backtest = ModelBacktest(run_on(market, parameters), market, sure, unpaid)
    summary = backtest_metrics(backtest.result)
    return Report(_CONTEXT, backtest.result, summary, unpaid, analyse(backtest, closes))


@pytest.mark.parametrize("bars", [1, 2, 48])
def test_an_account_that_is_ruined_is_told_as_it_is(bars: int) -> None:
    close = np.full(bars, 100.0)
    close[3:] = 400.0
    opened = np.concatenate([[100.0], close[:-1]])

    ruined = _by_hand(opened, close, 1e6, BacktestParameters(equity_fraction=1.0))

    text, page = verdict(ruined.summary), html_report(ruined)
    assert text.startswith({1: "It made no trade", 2: "It lost 0.40%", 48: "It lost 301"}[bars])
    json.dumps(json_report(ruined), allow_nan=False)
    for drawing in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        assert not re.search(r"\b(nan|inf|None)\b", drawing)


def test_where_nothing_could_be_filled_the_page_does_not_blame_the_forecasts() -> None:
    flat = np.full(48, 100.0)
    still = _by_hand(flat, flat, 0.0, LIVE_ACCOUNT)
    assert "48 forecasts were acted on, but nothing could be filled" in html_report(still)


def test_funding_that_could_not_be_paid_is_said_at_the_top(report: Report) -> None:
    unpaid = FundingUse(counted=False, settlements=0, note="no funding rates are known")
    assert "Funding is not in these figures: no funding rates are known" in html_report(replace(report, funding=unpaid))
