import numpy as np
import pytest

from levibot_core.backtest.simulation_market import Market
from levibot_core.backtest.simulation_parameters import BacktestParameters
from levibot_core.backtest.sweep_random_entries import random_entry_significance
from levibot_core.errors import ConfigurationError, DataQualityError
from levibot_core.market.timeframe import Timeframe

_HOUR = Timeframe.parse("1h")
_START = 1_735_689_600_000


def _market(edge: float, bars: int = 600, seed: int = 3) -> Market:
    """Returns that follow the forecasts made a bar before them as far as `edge` says."""
    random = np.random.default_rng(seed)
    beliefs = random.normal(0.0, 1.0, (bars, 1))
    returns = 0.01 * random.normal(0.0, 1.0, (bars, 1))
    returns[1:] += 0.01 * edge * beliefs[:-1]
    close = 100.0 * np.exp(np.cumsum(returns, axis=0))
    opened = np.vstack([[[100.0]], close[:-1]])
    return Market.of_arrays(
        ("A/B",),
        _HOUR,
        _START + _HOUR.milliseconds * np.arange(bars),
        open=opened,
        close=close,
        prob_up=1.0 / (1.0 + np.exp(-beliefs)),
    )


def test_timing_that_foresees_is_told_from_chance_and_chance_is_not() -> None:
    free = BacktestParameters(taker_fee=0.0, slippage=0.0)

    foreseen = random_entry_significance(_market(edge=1.0), free, draws=99)
    blind = [random_entry_significance(_market(edge=0.0, seed=seed), free, draws=19).p_value for seed in range(20)]

    assert foreseen.p_value == 0.01
    assert foreseen.total_return > max(foreseen.random_returns)
    assert list(foreseen.random_returns) == sorted(foreseen.random_returns)
    # Of twenty that foresee nothing, about one is below 0.05.
    assert sum(value <= 0.05 for value in blind) <= 4
    assert 0.3 < np.mean(blind) < 0.7


def test_the_same_seed_gives_the_same_answer_and_the_market_stays_as_it_was() -> None:
    market, rules = _market(edge=0.1), BacktestParameters()
    before = market.arrays.planes.copy()

    first, second = (random_entry_significance(market, rules, draws=5, seed=7) for _ in range(2))

    assert first == second
    assert np.array_equal(market.arrays.planes, before, equal_nan=True)


def test_what_cannot_be_judged_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="a random run at least"):
        random_entry_significance(_market(0.0), BacktestParameters(), draws=0)
    with pytest.raises(DataQualityError, match="100 bars or more"):
        random_entry_significance(_market(0.0, bars=50), BacktestParameters())
