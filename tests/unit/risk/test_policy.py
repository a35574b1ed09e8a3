"""The cost-aware policy: never a trade that is expected to lose."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from levibot_core.errors import DataQualityError
from levibot_core.risk.policy import CostAwarePolicy

PROBABILITIES = st.floats(0.0, 1.0)
VOLATILITIES = st.floats(1e-6, 1.0)


@given(probability=PROBABILITIES, volatility=VOLATILITIES)
def test_long_and_short_are_judged_alike(probability: float, volatility: float) -> None:
    policy = CostAwarePolicy()
    there, back = (policy.edges(np.array([p]), np.array([volatility]))[0] for p in (probability, 1.0 - probability))
    assert there == pytest.approx(-back, abs=1e-15)


@given(volatility=VOLATILITIES, fee=st.floats(0.0, 0.01), slippage=st.floats(0.0, 0.01))
def test_a_coin_flip_is_never_traded_and_no_cost_is_ever_earned_back_by_a_smaller_move(
    volatility: float, fee: float, slippage: float
) -> None:
    policy = CostAwarePolicy(taker_fee=fee, slippage=slippage)
    assert not policy.pays(np.array([0.5]), np.array([volatility])).any()
    if policy.round_trip_cost >= volatility:
        assert not policy.pays(np.array([0.0, 1.0]), np.full(2, volatility)).any()


@given(probability=PROBABILITIES, volatility=VOLATILITIES, more=st.floats(1.0, 10.0))
def test_what_pays_still_pays_when_the_market_moves_more(probability: float, volatility: float, more: float) -> None:
    policy = CostAwarePolicy()
    pays = policy.pays(np.full(2, probability), np.array([volatility, volatility * more]))
    assert pays[1] or not pays[0]


def test_the_expected_return_is_that_of_simulated_moves() -> None:
    generator = np.random.default_rng(7)
    sizes = np.abs(generator.normal(0.0, 0.02, 400_000))
    rises = generator.random(sizes.size) < 0.6
    simulated = np.where(rises, sizes, -sizes).mean()
    assert CostAwarePolicy().edges(np.array([0.6]), np.array([0.02]))[0] == pytest.approx(simulated, rel=0.05)


def test_twenty_basis_points_a_side_need_a_certain_forecast_of_a_half_percent_move() -> None:
    policy = CostAwarePolicy()
    assert policy.round_trip_cost == pytest.approx(0.004)
    assert policy.pays(np.array([0.99, 0.80]), np.array([0.0055, 0.0055])).tolist() == [True, False]


@pytest.mark.parametrize(("probability", "volatility"), [(1.1, 0.01), (np.nan, 0.01), (0.5, 0.0), (0.5, np.inf)])
def test_what_is_no_probability_or_no_volatility_is_refused(probability: float, volatility: float) -> None:
    with pytest.raises(DataQualityError, match="Expected"):
        CostAwarePolicy().edges(np.array([probability]), np.array([volatility]))
