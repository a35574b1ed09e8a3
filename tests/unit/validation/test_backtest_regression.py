"""What counts as a drop of a backtest, and what as the same."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levibot_core.monitoring.regression_plots import regression_png
from levibot_core.validation.backtest_regression import MAXIMUM_SHARPE_DROP, BacktestRecord, judge_regression

_TRADE = {"exit_ts": "2026-01-01T00:05:00.000Z", "net_pnl": 12.5}


def _record(
    sharpe: float | None = 1.5, log_loss: float = 0.69, trades: int = 2, gain: float = 12.5, **more: Any
) -> BacktestRecord:
    strategy = {"sharpe": sharpe, "trades": trades, "total_return": 0.01}
    report = {"metrics": {"strategy": strategy}, "trades": [{**_TRADE, "net_pnl": gain}] * trades, **more}
    return BacktestRecord(sharpe=sharpe, trades=trades, total_return=0.01, log_loss=log_loss, report=report)


@given(recorded=st.floats(0.01, 50.0), share=st.floats(-2.0, 2.0))
def test_a_ratio_above_nothing_may_lose_a_tenth_and_no_more(recorded: float, share: float) -> None:
    now = recorded * (1.0 - share)
    verdict = judge_regression(_record(recorded), _record(now))
    assert verdict.rule == "sharpe"
    assert verdict.sharpe_drop == pytest.approx(share, abs=1e-9)
    if abs(share - MAXIMUM_SHARPE_DROP) > 1e-9:
        assert verdict.regressed == (share > MAXIMUM_SHARPE_DROP)
    assert verdict.identical == (now == recorded)


def test_a_champion_that_trades_no_more_dropped_altogether() -> None:
    verdict = judge_regression(_record(), _record(None, trades=0))
    assert (verdict.regressed, verdict.sharpe_drop) == (True, 1.0)
    assert "does not trade any more" in verdict.found
    assert "trades: were 2, are 0" in verdict.differences


@given(sharpe=st.one_of(st.none(), st.floats(-20.0, 0.0)), log_loss=st.floats(0.5, 0.8), up=st.booleans())
def test_where_a_share_means_nothing_a_single_bit_is_a_drop(sharpe: float | None, log_loss: float, up: bool) -> None:
    trades = 0 if sharpe is None else 2
    recorded = _record(sharpe, log_loss, trades)
    same = judge_regression(recorded, _record(sharpe, log_loss, trades))
    assert (same.rule, same.regressed, same.identical, same.sharpe_drop) == ("bits", False, True, None)
    assert "bit by bit: every bit is the same" in same.found
    another = math.nextafter(log_loss, math.inf if up else -math.inf)
    other = judge_regression(recorded, _record(sharpe, another, trades))
    assert other.regressed
    assert other.differences == (f"log_loss: was {log_loss!r}, is {another!r}",)


def test_one_trade_that_differs_is_named_and_no_drop_where_the_ratio_holds() -> None:
    other = _record(-1.0, gain=math.nextafter(12.5, 13.0))
    assert judge_regression(_record(-1.0), other).differences[0].startswith("trades[0].net_pnl: was 12.5, is 12.50000")
    held = judge_regression(_record(1.0), _record(1.0, gain=12.6))
    assert (held.regressed, held.identical) == (False, False)


def test_what_an_older_record_does_not_have_is_no_difference() -> None:
    richer = _record(-1.0, parameters={"taker_fee": 0.0015})
    richer.report["metrics"]["strategy"]["omega"] = 2.0
    assert judge_regression(_record(-1.0), richer).identical


@pytest.mark.parametrize("trades", [0, 2])
def test_the_picture_is_drawn_with_trades_and_without(trades: int) -> None:
    record = _record(1.0 if trades else None, trades=trades)
    assert regression_png(record, record, "version 2").startswith(b"\x89PNG")
