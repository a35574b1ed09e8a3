"""Regimes that look at nothing later, and what a result hangs on, against what can be computed by hand."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levibot_core.backtest.breakdown import by_regime, by_symbol
from levibot_core.backtest.engine import BacktestParameters, run_on
from levibot_core.backtest.metrics import backtest_metrics
from levibot_core.backtest.regimes import market_regimes
from levibot_core.backtest.sensitivity import capacity_curve, cost_ladder, cost_surface, forecast_edges
from levibot_core.backtest.simulation import simulate
from levibot_core.backtest.simulation_market import Market
from levibot_core.errors import DataQualityError
from levibot_core.market.timeframe import Timeframe
from levibot_core.schemas import TIMESTAMP

_HOUR = Timeframe.parse("1h")
_START = 1_735_689_600_000
_FREE = BacktestParameters(taker_fee=0.0, slippage=0.0)


def _candles(returns: np.ndarray, symbol: str = "A/B") -> pl.DataFrame:
    closes = 100.0 * np.exp(np.cumsum(returns))
    return pl.DataFrame(
        {
            "symbol": symbol,
            "ts": pl.Series(_START + _HOUR.milliseconds * np.arange(returns.size)).cast(TIMESTAMP),
            "open": np.concatenate([[100.0], closes[:-1]]),
            "close": closes,
            "volume": 100.0,
        }
    )


def _market(days: int = 20, seed: int = 3) -> tuple[Market, pl.DataFrame, pl.DataFrame]:
    random = np.random.default_rng(seed)
    frames = [_candles(random.normal(0.0, 0.01, days * 24), symbol) for symbol in ("A/B", "C/D")]
    candles = pl.concat(frames)
    beliefs = random.random(candles.height)
    edges = (2.0 * beliefs - 1.0) * 0.01
    forecasts = candles.select(
        "symbol", "ts", prob_up=pl.Series(beliefs), edge=pl.Series(edges), pays=pl.Series(np.abs(edges) > 0.004)
    )
    return Market.of(candles, forecasts.select("symbol", "ts", "prob_up"), _HOUR), candles, forecasts


@given(st.integers(0, 2**32 - 1), st.integers(24, 24 * 16 - 1))
@settings(deadline=None, max_examples=10, derandomize=True)
def test_a_regime_is_the_same_whatever_happens_from_its_bar_on(seed: int, bar: int) -> None:
    random = np.random.default_rng(seed)
    returns = random.normal(0.0, 0.01, 24 * 16)
    other = returns.copy()
    other[bar:] = random.normal(0.0, 0.2, returns.size - bar)

    told, changed = (market_regimes(_candles(series), _HOUR) for series in (returns, other))

    assert told.head(bar + 1).equals(changed.head(bar + 1))


def test_a_regime_is_what_the_days_before_were() -> None:
    quiet, loud = np.tile([0.001, -0.001], 12 * 10), np.tile([0.02, -0.02], 24)
    rise = np.full(24 * 10, 0.002) + quiet
    told = market_regimes(_candles(np.concatenate([quiet, loud, rise])), _HOUR)

    assert told["trend"][: 7 * 24].null_count() == told["roughness"][: 7 * 24].null_count() == 7 * 24
    assert told.row(24 * 10 - 1) == (told["ts"][24 * 10 - 1], "sideways", "usual")
    assert told["roughness"][24 * 11 + 12] == "wild"
    assert told["trend"][-1] == "rising"
    assert told["roughness"][-1] == "calm"


def test_regimes_and_symbols_share_out_what_was_earned() -> None:
    market, candles, _ = _market()
    result = run_on(market, BacktestParameters())
    regimes, symbols = by_regime(result, candles), by_symbol(result, market)

    for kind in ("trend", "roughness"):
        own = [row for row in regimes if row.kind == kind]
        # Seven of the twenty days are of no regime.
        assert sum(row.share_of_bars for row in own) == pytest.approx(13 / 20)
    assert sum(row.net_pnl for row in symbols) == pytest.approx(backtest_metrics(result).strategy.net_pnl)
    assert sum(row.trades for row in symbols) == result.strategy.trades.height
    first, last = (
        candles.filter(pl.col("symbol") == "C/D")[name][place] for name, place in (("open", 0), ("close", -1))
    )
    assert symbols[1].price_change == pytest.approx(last / first - 1.0)


def test_the_cost_surface_holds_what_single_runs_give() -> None:
    market, _, _ = _market()
    surface = cost_surface(market, BacktestParameters(taker_fee=0.0007, slippage=0.0005))

    assert surface.fees_bps == (0.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0)
    assert surface.slippages_bps == (0.0, 2.0, 5.0, 10.0, 20.0)
    alone = simulate(market, BacktestParameters(taker_fee=0.0007, slippage=0.0005))
    assert surface.total_return[2][2] == pytest.approx(alone.equity[-1] / 10_000.0 - 1.0)
    assert all(row == tuple(sorted(row, reverse=True)) for row in surface.total_return)


def test_more_money_finds_less_room() -> None:
    market, _, _ = _market()
    points = capacity_curve(market, BacktestParameters(participation_cap=0.05, impact=1.0), (1e2, 1e4, 1e6))

    exposures = [point.exposure for point in points]
    assert exposures == sorted(exposures, reverse=True)
    assert points[0].slippage_bps is not None
    assert points[1].slippage_bps is not None
    assert points[0].slippage_bps < points[1].slippage_bps
    bare = Market.of(
        _candles(np.zeros(48)).drop("volume"), _candles(np.zeros(48)).select("symbol", "ts", prob_up=0.5), _HOUR
    )
    with pytest.raises(DataQualityError, match="volume of every bar"):
        capacity_curve(bare, _FREE)


def test_the_ladder_trades_at_each_cost_what_pays_there() -> None:
    market, _, forecasts = _market()
    ladder = cost_ladder(market, forecasts, BacktestParameters(), (0.0, 20.0, 60.0))

    sizes = forecasts["edge"].abs()
    assert [level.forecasts for level in ladder] == [int((sizes > 2e-4 * cost).sum()) for cost in (0.0, 20.0, 60.0)]
    assert ladder[2].forecasts == ladder[2].trades == 0
    assert ladder[2].total_return == 0.0
    pays = forecasts.select("symbol", "ts", prob_up=pl.when(pl.col("edge").abs() > 0.004).then("prob_up"))
    alone = simulate(
        market.believing(market.places(pays, "prob_up")), BacktestParameters(taker_fee=0.002, slippage=0.0)
    )
    assert ladder[1].total_return == pytest.approx(alone.equity[-1] / 10_000.0 - 1.0)


def test_how_many_forecasts_would_pay_falls_with_the_cost() -> None:
    _, _, forecasts = _market()
    edges = forecast_edges(forecasts, BacktestParameters())

    assert edges.round_trip_bps == pytest.approx(40.0)
    assert edges.pays == forecasts["pays"].sum()
    assert edges.curve_share[0] == 1.0
    assert edges.curve_share[-1] == 0.0
    assert list(edges.curve_share) == sorted(edges.curve_share, reverse=True)
    beyond = forecasts.filter((pl.col("prob_up") >= 0.55) | (pl.col("prob_up") <= 0.45))
    assert edges.takes_side == beyond.height
    assert edges.acted_on == beyond["pays"].sum()
    nothing = forecast_edges(forecasts.clear(), BacktestParameters())
    assert (nothing.forecasts, nothing.median_bps, nothing.curve_share) == (0, None, ())
