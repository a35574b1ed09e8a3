"""What docs/backtest.md refuses, and what it says happens instead."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from levibot_core.backtest.engine import LIVE_POLICY, BacktestParameters, BacktestResult, run_backtest, run_on
from levibot_core.backtest.metrics import backtest_metrics
from levibot_core.backtest.simulation import simulate
from levibot_core.backtest.simulation_market import Market
from levibot_core.errors import DataQualityError
from levibot_core.market.timeframe import Timeframe
from levibot_core.schemas import TIMESTAMP

_HOUR = Timeframe.parse("1h")
_START = 1_735_689_600_000
_BARS = 48


def _arrays(**changes: Any) -> dict[str, Any]:
    flat = np.full((_BARS, 1), 100.0)
    return {
        "symbols": ("A/B",),
        "timeframe": _HOUR,
        "times_ms": _START + _HOUR.milliseconds * np.arange(_BARS),
        "open": flat,
        "high": flat * 1.01,
        "low": flat * 0.99,
        "close": flat,
        "prob_up": np.full((_BARS, 1), 0.9),
        "volume": np.full((_BARS, 1), 10.0),
    } | changes


def _with(name: str, value: float) -> dict[str, Any]:
    changed = _arrays()[name].copy()
    changed[5] = value
    return {name: changed}


def _funding(hours: list[float], **columns: list[float | None]) -> pl.DataFrame:
    settled = pl.Series([_START + round(hour * 3_600_000) for hour in hours]).cast(TIMESTAMP)
    return pl.DataFrame({"symbol": "A/B", "ts": settled, "rate": [0.001] * len(hours)} | columns)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (_with("open", np.nan), r"positive prices, was nan and 100 of A/B at 2025-01-01 05:00 UTC"),
        (_with("close", 0.0), "positive prices"),
        (_with("high", 99.0), "a high at or above open and close, was 99 of A/B"),
        (_with("low", 100.5), "a low at or below open and close"),
        (_with("high", np.nan), "a positive high"),
        (_with("volume", -1.0), "a volume of 0 or above, was -1"),
        (_with("volume", np.nan), "a volume of 0 or above"),
        (_with("prob_up", 1.2), "a probability from 0 to 1, was 1.2"),
        ({"volatility": np.full((_BARS, 1), -0.1)}, "a volatility of 0 or above"),
        ({"prob_up": np.full((_BARS - 1, 1), 0.9)}, r"prob_up of shape \(48, 1\).*was \(47, 1\)"),
        ({"volume": np.full(_BARS, 1.0)}, r"volume of shape \(48, 1\)"),
        ({"times_ms": np.arange(_BARS)[::-1]}, "rising times at least 1h apart"),
        ({"symbols": ()}, "was none"),
        ({"symbols": ("C/D", "A/B")}, "symbols in order"),
    ],
)
def test_arrays_that_are_none_are_refused_with_symbol_and_time(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataQualityError, match=message):
        Market.of_arrays(**_arrays(**changes))


@pytest.mark.parametrize(
    ("funding", "message"),
    [
        (_funding([0, 8, 16, 32, 40, 48]), "of A/B every 8 hours, was none from 2025-01-01 16:00 to 2025-01-02 08:00"),
        (_funding([16, 24, 32, 40, 48]), "was none from 2025-01-01 00:00 to 2025-01-01 16:00"),
        (_funding([0, 8, 16, 24]), "was none from 2025-01-02 00:00 to 2025-01-03 00:00"),
        (_funding([]), "funding of A/B, was none"),
        (_funding([0, 8, 8, 16, 24, 32, 40]), "was two of A/B"),
        (_funding([0, 8], rate=[0.001, float("nan")]), "was no number"),
        (_funding([0, 8], mark_price=[100.0, -1.0]), "was no number"),
        (_funding([0, 8, 16]).with_columns(ts=pl.lit(None, TIMESTAMP)), "the time of every funding settlement of A/B"),
    ],
)
def test_a_missing_settlement_is_refused(funding: pl.DataFrame, message: str) -> None:
    with pytest.raises(DataQualityError, match=message):
        Market.of_arrays(**_arrays(funding=funding))


def test_funding_is_paid_on_the_position_before_the_fills_of_its_instant() -> None:
    # Long from the open of bar 8 on, where a settlement is due: the first that is paid is that of bar 16.
    beliefs = np.full((_BARS, 1), 0.5)
    beliefs[7:20] = 0.9
    market = Market.of_arrays(**_arrays(prob_up=beliefs, funding=_funding([0, 8, 16, 24, 32, 40])))

    run = simulate(market, BacktestParameters(taker_fee=0.0, slippage=0.0))

    assert run.totals["funding"] == pytest.approx(1000.0 * 0.001)
    assert run.equity[15] == pytest.approx(10_000.0)
    assert run.equity[16] == pytest.approx(9_999.0)


def test_what_a_rule_needs_has_to_be_given() -> None:
    bare = Market.of_arrays(
        **{name: value for name, value in _arrays().items() if name not in ("high", "low", "volume")}
    )
    with pytest.raises(DataQualityError, match="high and low of every bar for maker orders"):
        simulate(bare, BacktestParameters(order_kind="maker"))
    for needs_volume in (BacktestParameters(participation_cap=0.1), BacktestParameters(impact=1.0)):
        with pytest.raises(DataQualityError, match="the volume of every bar"):
            simulate(bare, needs_volume)


def test_a_bar_without_volume_fills_nothing_and_the_order_waits() -> None:
    volume = np.full((_BARS, 1), 10.0)
    volume[1:4] = 0.0

    fills = simulate(Market.of_arrays(**_arrays(volume=volume)), BacktestParameters()).fills()

    assert fills["bar"].to_list() == [4, _BARS - 1]


def test_a_cap_fills_in_parts_until_all_is_filled() -> None:
    # A tenth of a bar's 1,000, for an order of 250.
    rules = BacktestParameters(participation_cap=0.1, equity_fraction=0.025, taker_fee=0.0, slippage=0.0)

    fills = simulate(Market.of_arrays(**_arrays()), rules).fills()

    assert fills["bar"].to_list() == [1, 2, 3, _BARS - 1]
    assert fills["quantity"].to_list() == pytest.approx([1.0, 1.0, 0.5, -2.5])


def test_a_maker_order_waits_until_the_price_trades_through_its_limit() -> None:
    low = np.full((_BARS, 1), 100.0)
    low[6] = 99.9

    fills = simulate(Market.of_arrays(**_arrays(low=low)), BacktestParameters(order_kind="maker")).fills()

    assert fills["bar"].to_list() == [6, _BARS - 1]
    assert fills["price"].to_list()[0] == 100.0
    assert fills["fee"].to_list()[0] == pytest.approx(1.0)


def test_a_daily_loss_stops_the_day_and_the_next_begins_anew() -> None:
    close = np.full((_BARS, 1), 100.0)
    close[3:] = 90.0
    opened = np.vstack([[[100.0]], close[:-1]])
    rules = BacktestParameters(daily_loss_limit=0.03, equity_fraction=0.5, taker_fee=0.0, slippage=0.0)
    market = Market.of_arrays(**_arrays(open=opened, close=close, high=opened * 1.2, low=opened * 0.8))

    fills = simulate(market, rules).fills()

    assert list(zip(fills["bar"], fills["reason"], strict=True)) == [
        (1, "signal"),
        (4, "stop"),
        (25, "signal"),
        (_BARS - 1, "end"),
    ]


def test_an_account_below_zero_keeps_figures_that_are_numbers_or_none() -> None:
    close = np.full((_BARS, 1), 100.0)
    close[3:] = 400.0
    opened = np.vstack([[[100.0]], close[:-1]])
    market = Market.of_arrays(
        **_arrays(open=opened, close=close, high=None, low=None, prob_up=np.full((_BARS, 1), 0.1))
    )

    result = run_on(market, BacktestParameters(equity_fraction=1.0))

    assert result.strategy.equity["equity"][-1] < 0.0
    assert result.strategy.trades["exit_reason"].to_list() == ["liquidation"]
    figures = backtest_metrics(result).strategy
    assert figures.total_return < -1.0
    assert figures.annualised_return is None


def test_tables_take_the_limits_of_the_live_policy_and_name_what_is_there_twice() -> None:
    ts = pl.Series(_START + _HOUR.milliseconds * np.arange(_BARS)).cast(TIMESTAMP)
    candles = pl.DataFrame({"symbol": "A/B", "ts": ts, "open": 100.0, "close": 100.0})
    beliefs = candles.select("symbol", "ts", prob_up=pl.lit(0.9), volatility=pl.lit(0.001))

    result: BacktestResult = run_backtest(candles, beliefs, _HOUR, LIVE_POLICY, _funding([0, 8, 16, 24, 32, 40]))

    assert result.strategy.trades["notional"].to_list() == pytest.approx([2000.0])
    assert result.strategy.trades["funding"].to_list() == pytest.approx([5 * 2.0], rel=1e-3)
    with pytest.raises(DataQualityError, match="one candle per symbol and time, was two of A/B at 2025-01-01 03:00"):
        run_backtest(pl.concat([candles, candles[3:4]]), beliefs, _HOUR, LIVE_POLICY)


def test_forecasts_that_no_candle_can_have_are_refused_not_left_out() -> None:
    ts = pl.Series(_START + _HOUR.milliseconds * np.arange(_BARS)).cast(TIMESTAMP)
    candles = pl.DataFrame({"symbol": "A/B", "ts": ts, "open": 100.0, "close": 100.0})
    beliefs = candles.select("symbol", "ts", prob_up=pl.lit(0.9))
    wrong = {
        "Expected forecasts of A/B, whose candles there are, was none: they are of AB": beliefs.with_columns(
            symbol=pl.lit("AB")
        ),
        "opens of 1h bars, was A/B at 2025-01-01 00:15:00": beliefs.with_columns(pl.col("ts").dt.offset_by("15m")),
        "a symbol and a time of every prediction, was none of 1": beliefs.with_columns(
            pl.when(pl.int_range(pl.len()) != 3).then("ts").alias("ts")
        ),
        "was two of A/B at 2025-01-01 03:00": pl.concat([beliefs, beliefs[3:4]]),
    }
    for message, predictions in wrong.items():
        with pytest.raises(DataQualityError, match=message):
            run_backtest(candles, predictions, _HOUR, BacktestParameters())
    nameless = candles.with_columns(pl.when(pl.int_range(pl.len()) != 3).then("symbol").alias("symbol"))
    with pytest.raises(DataQualityError, match="every candle, was none of 1"):
        run_backtest(nameless, beliefs, _HOUR, BacktestParameters())
    # Earlier and later than the candles is no mistake: a model forecasts more rows than are traded.
    late = run_backtest(candles.tail(10), beliefs, _HOUR, BacktestParameters())
    assert late.strategy.trades.height == 1


@pytest.mark.parametrize("name", ["taker_fee", "slippage", "initial_equity", "impact", "daily_loss_limit"])
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_parameters_that_are_no_amounts_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValidationError):
        BacktestParameters(**{name: value})
