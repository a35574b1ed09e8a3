from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from levibot_core.backtest.engine import Account, BacktestParameters, run_backtest
from levibot_core.backtest.metrics import (
    AccountMetrics,
    BacktestSummary,
    account_metrics,
    in_percent,
    reasons_against_trading,
)
from levibot_core.market.timeframe import Timeframe
from levibot_core.models import metrics as forecast_metrics
from levibot_core.risk.policy import CostAwarePolicy
from levibot_core.schemas import TIMESTAMP

_DAY = Timeframe.parse("1d")


def _account(equity: list[float], trades: pl.DataFrame | None = None) -> Account:
    start = datetime(2025, 1, 2, tzinfo=UTC)
    curve = pl.DataFrame(
        {
            "ts": pl.Series([start + timedelta(days=day) for day in range(len(equity))], dtype=TIMESTAMP),
            "equity": equity,
            "cash": equity,
            "exposure": [0.5] * len(equity),
        }
    )
    drawdown = pl.col("equity") / pl.col("equity").cum_max().clip(lower_bound=100.0) - 1.0
    empty = run_backtest(
        pl.DataFrame({"symbol": ["A/B"], "ts": [start], "open": [1.0], "close": [1.0]}).cast({"ts": TIMESTAMP}),
        pl.DataFrame(schema={"symbol": pl.String, "ts": TIMESTAMP, "prob_up": pl.Float64}),
        _DAY,
        BacktestParameters(),
    ).strategy.trades
    return Account(curve.with_columns(drawdown=drawdown), empty if trades is None else trades)


def test_figures_of_a_short_curve_are_those_computed_by_hand() -> None:
    figures = account_metrics(_account([110.0, 99.0, 108.9, 108.9]), _DAY, 100.0)

    returns = [0.1, -0.1, 0.1, 0.0]
    mean, deviation = 0.025, (sum((value - 0.025) ** 2 for value in returns) / 3) ** 0.5
    assert figures.total_return == pytest.approx(0.089)
    assert figures.annualised_return == pytest.approx(1.089 ** (365 / 4) - 1)
    assert figures.volatility == pytest.approx(deviation * 365**0.5)
    assert figures.sharpe == pytest.approx(mean / deviation * 365**0.5)
    assert figures.sortino == pytest.approx(mean / (0.01 / 4) ** 0.5 * 365**0.5)
    assert figures.max_drawdown == pytest.approx(-0.1)
    assert figures.max_drawdown_days == 3
    assert figures.exposure == 0.5


def test_figures_of_trades_are_those_computed_by_hand() -> None:
    trades = pl.DataFrame(
        {
            "quantity": [1.0, 2.0, 1.0],
            "entry_price": [10.0, 10.0, 20.0],
            "exit_price": [14.0, 9.0, 20.0],
            "gross_pnl": [4.0, -2.0, 0.0],
            "fees": [0.5, 0.5, 0.5],
            "slippage_cost": [0.5, 0.5, 0.5],
            "funding": [0.0, 0.0, 0.0],
            "net_pnl": [3.0, -3.0, -1.0],
            "return": [0.3, -0.15, -0.05],
        }
    )

    figures = account_metrics(_account([110.0, 90.0], trades), _DAY, 100.0)

    filled = 24.0 + 38.0 + 40.0
    assert figures.trades == 3
    assert figures.hit_rate == pytest.approx(1 / 3)
    assert figures.profit_factor == pytest.approx(3 / 4)
    assert figures.turnover == pytest.approx(filled / 100.0)
    assert figures.average_trade_return == pytest.approx(0.1 / 3)
    assert (figures.gross_pnl, figures.fees_paid, figures.slippage_paid, figures.net_pnl) == (2.0, 1.5, 1.5, -1.0)
    assert figures.break_even_cost_bps == pytest.approx(2.0 / filled * 1e4)


def test_value_at_risk_is_the_loss_that_95_of_100_steps_stay_below() -> None:
    # Falls of 1 to 21 %, each of which is equally likely: the 5 % quantile is the second deepest.
    equity = [100.0]
    for percent in range(1, 22):
        equity.append(equity[-1] * (1 - percent / 100))

    figures = account_metrics(_account(equity[1:]), _DAY, 100.0)

    assert figures.var_95_bar == pytest.approx(0.20)
    assert figures.var_95_day == pytest.approx(0.20)


def test_expected_shortfall_is_the_mean_of_the_worst_twentieth() -> None:
    equity = [100.0]
    for percent in range(1, 41):
        equity.append(equity[-1] * (1 - percent / 100))

    figures = account_metrics(_account(equity[1:]), _DAY, 100.0)

    # The two deepest falls of forty, as the quantile lies between the second and the third.
    assert figures.expected_shortfall_95_bar == pytest.approx(0.395)
    assert figures.expected_shortfall_95_day == pytest.approx(0.395)
    assert account_metrics(_account([100.0, 100.0]), _DAY, 100.0).expected_shortfall_95_bar == 0.0


def test_a_ruined_account_has_figures() -> None:
    figures = account_metrics(_account([100.0, 0.0, -20.0, -20.0]), _DAY, 100.0)

    assert figures.total_return == pytest.approx(-1.2)
    assert (figures.annualised_return, figures.calmar) == (None, None)
    assert figures.max_drawdown == pytest.approx(-1.2)
    assert account_metrics(_account([-20.0]), _DAY, 100.0).turnover is None


def test_what_is_undefined_is_none_and_never_infinite() -> None:
    flat = account_metrics(_account([100.0, 100.0]), _DAY, 100.0)
    lost = account_metrics(_account([50.0, 0.0]), _DAY, 100.0)
    rich = account_metrics(_account([1e9]), Timeframe.parse("1m"), 100.0)

    assert (flat.sharpe, flat.sortino, flat.calmar, flat.hit_rate, flat.profit_factor) == (None,) * 5
    assert (flat.break_even_cost_bps, flat.var_95_day) == (None, None)
    assert lost.annualised_return is None
    assert rich.annualised_return is None


def _summary(strategy: dict[str, float | None], holding: dict[str, float | None]) -> BacktestSummary:
    base = account_metrics(_account([100.0, 101.0]), _DAY, 100.0)
    defaults: dict[str, float | None] = {"trades": 5}
    return BacktestSummary(
        strategy=AccountMetrics.model_validate(base.model_dump() | defaults | strategy),
        buy_and_hold=AccountMetrics.model_validate(base.model_dump() | defaults | holding),
    )


@pytest.mark.parametrize(
    ("strategy", "holding", "mentioned"),
    [
        ({"total_return": 0.2, "sharpe": 2.0}, {"total_return": 0.1, "sharpe": 1.0}, []),
        ({"total_return": -0.1, "sharpe": -1.0}, {"total_return": -0.2, "sharpe": -2.0}, ["lost 10.00%"]),
        ({"total_return": 0.1, "sharpe": 2.0}, {"total_return": 0.2, "sharpe": 1.0}, ["buying and holding +20.00%"]),
        ({"total_return": 0.2, "sharpe": 1.0}, {"total_return": 0.1, "sharpe": 2.0}, ["Sharpe ratio is 1.00"]),
        (
            {"total_return": 0.0, "trades": 0},
            {"total_return": -0.1},
            ["no forecast that takes a side was expected to pay its costs"],
        ),
    ],
)
def test_a_model_that_lost_or_was_beaten_by_holding_is_not_tradable_and_says_why(
    strategy: dict[str, float | None], holding: dict[str, float | None], mentioned: list[str]
) -> None:
    reasons = reasons_against_trading(_summary(strategy, holding))

    assert len(reasons) == len(mentioned)
    assert all(text in reason for text, reason in zip(mentioned, reasons, strict=True))


def test_the_thresholds_and_costs_of_backtest_scores_and_serving_are_the_same() -> None:
    from levibot_serving import predictor

    parameters = BacktestParameters()
    for module in (forecast_metrics, predictor):
        assert parameters.long_threshold == module.LONG_THRESHOLD
        assert parameters.short_threshold == module.SHORT_THRESHOLD
    for policy in (CostAwarePolicy(), predictor.POLICY):
        assert (policy.taker_fee, policy.slippage) == (parameters.taker_fee, parameters.slippage)


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (0.0, "+0.00%"),
        (-1e-12, "+0.00%"),
        (0.0123456, "+1.23%"),
        (-0.00005, "-0.01%"),
        (-0.0000487, "-0.0049%"),
        (0.00000123, "+0.00012%"),
    ],
)
def test_a_small_return_is_not_shown_as_none(share: float, shown: str) -> None:
    assert in_percent(share, "+") == shown
