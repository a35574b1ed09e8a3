import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings

from levibot_core.backtest.engine import Account, BacktestParameters, account_of
from levibot_core.backtest.metrics import account_metrics
from levibot_core.backtest.simulation import simulate
from levibot_core.backtest.simulation_market import Market
from levibot_core.backtest.sweep import rolling_windows, sweep
from levibot_core.errors import ConfigurationError, DataQualityError
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY, Timeframe
from levibot_core.risk.sizing import SizingRule
from tests.unit.backtest.cases import Case, cases

_HOUR = Timeframe.parse("1h")
_START = 1_735_689_600_000
_SHARED = ("total_return", "sharpe", "sortino", "volatility", "max_drawdown", "calmar", "hit_rate", "profit_factor")


def _market(days: int = 40, symbols: int = 2, seed: int = 0) -> Market:
    random = np.random.default_rng(seed)
    shape = (days * 24, symbols)
    close = 100.0 * np.exp(np.cumsum(random.normal(0.0, 0.01, shape), axis=0))
    opened = np.vstack([np.full((1, symbols), 100.0), close[:-1]])
    return Market.of_arrays(
        ("A/B", "C/D", "E/F")[:symbols],
        _HOUR,
        _START + _HOUR.milliseconds * np.arange(shape[0]),
        open=opened,
        close=close,
        prob_up=random.random(shape),
    )


@given(cases())
@settings(deadline=None, max_examples=12, derandomize=True)
def test_a_sweep_gives_the_figures_of_single_runs(case: Case) -> None:
    market = Market.of(case.candles, case.predictions, case.timeframe, case.funding)
    other = case.parameters.model_copy(update={"taker_fee": 0.003, "latency_bars": 2})

    swept = sweep(market, [case.parameters, other], threads=2)

    for row, parameters in enumerate((case.parameters, other)):
        figures = swept.row(row, named=True)
        simulation = simulate(market, parameters)
        account: Account = account_of(simulation)
        expected = account_metrics(account, case.timeframe, parameters.initial_equity)
        assert figures["final_equity"] == account.equity["equity"][-1]
        assert figures["trades"] == account.trades.height
        assert figures["fees_paid"] == pytest.approx(account.trades["fees"].sum())
        assert figures["funding_paid"] == pytest.approx(account.trades["funding"].sum(), abs=1e-9)
        assert figures["exposure"] == pytest.approx(expected.exposure)
        for name in _SHARED:
            assert figures[name] == _close_to(getattr(expected, name)), name


def _close_to(value: float | None) -> object:
    return None if value is None else pytest.approx(value, rel=1e-6, abs=1e-9)


def test_a_sweep_names_the_parameters_that_differ_and_is_the_same_on_two_threads() -> None:
    market = _market()
    grid = [
        BacktestParameters(long_threshold=long, sizing=sizing)
        for long in (0.55, 0.6, 0.7)
        for sizing in (None, SizingRule(), SizingRule(kelly_fraction=0.5))
    ]

    swept = sweep(market, grid)

    assert swept.columns[:3] == ["configuration", "kelly_fraction", "least_volatility_scale"]
    assert swept["long_threshold"].to_list() == [0.55] * 3 + [0.6] * 3 + [0.7] * 3
    assert swept["sizing"].to_list() == ["fixed", "kelly", "kelly"] * 3
    assert "taker_fee" not in swept.columns
    assert swept.equals(sweep(market, grid, threads=2))


def test_no_parameter_has_the_name_of_a_figure() -> None:
    """Else a sweep that varies it has a column twice."""
    figures = set(sweep(_market(), [BacktestParameters()]).columns)
    assert not figures & {*BacktestParameters.model_fields, *SizingRule.model_fields}


def test_windows_roll_to_the_end_of_the_data_each_with_its_own_account() -> None:
    market, parameters = _market(days=40), BacktestParameters()

    windows = rolling_windows(market, parameters, days=20, step_days=10)

    assert ((windows["end"] - windows["start"]).dt.total_days() == 20).all()
    assert [end.timestamp() * 1000 for end in windows["end"]] == [
        _START + days * MILLISECONDS_PER_DAY for days in (20, 30, 40)
    ]
    alone = simulate(market.between(_START + 10 * MILLISECONDS_PER_DAY, _START + 30 * MILLISECONDS_PER_DAY), parameters)
    assert windows["final_equity"][1] == alone.equity[-1]
    whole = rolling_windows(market, parameters)
    assert whole["final_equity"].to_list() == [simulate(market, parameters).equity[-1]]


def test_a_window_of_a_market_with_gaps_and_funding_is_a_market_of_its_own() -> None:
    market = _market(days=6, symbols=1)
    hourly = pl.DataFrame(
        {"symbol": ["A/B"] * 200, "ts": pl.Series(_START + _HOUR.milliseconds * np.arange(200)), "rate": [0.001] * 200}
    ).with_columns(pl.col("ts").cast(pl.Datetime("ms", "UTC")))
    planes = market.arrays.planes
    candles = pl.DataFrame(
        {"symbol": "A/B", "ts": market.times_ms, "open": planes[0, :, 0], "close": planes[3, :, 0]}
    ).with_columns(pl.col("ts").cast(pl.Datetime("ms", "UTC")))
    beliefs = candles.select("symbol", "ts", prob_up=pl.Series(planes[5, :, 0]))
    candles = candles.gather_every(3)
    start = _START + MILLISECONDS_PER_DAY
    late = pl.col("ts").dt.epoch("ms") >= start

    cut = Market.of(candles, beliefs, _HOUR, hourly).between(start, start + 99 * MILLISECONDS_PER_DAY)

    own = Market.of(candles.filter(late), beliefs, _HOUR, hourly)
    parameters = BacktestParameters(latency_bars=3)
    assert np.array_equal(simulate(cut, parameters).equity, simulate(own, parameters).equity)


def test_what_cannot_be_swept_is_refused() -> None:
    market = _market(days=2)
    with pytest.raises(ConfigurationError, match="a configuration and a thread at least"):
        sweep(market, [])
    with pytest.raises(DataQualityError, match="high and low"):
        sweep(market, [BacktestParameters(), BacktestParameters(order_kind="maker")])
    with pytest.raises(ConfigurationError, match="of a day or more"):
        rolling_windows(market, BacktestParameters(), days=0)
    with pytest.raises(DataQualityError, match="was none"):
        market.between(0, 1)
