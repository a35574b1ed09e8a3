import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levibot_core.errors import DataQualityError
from levibot_core.market.timeframe import Timeframe
from levibot_core.risk.sizing import SizingRule, annual_volatility

RULE = SizingRule()
probabilities = st.floats(0, 1)
volatilities = st.floats(0, 1e6)


def test_the_size_is_the_one_of_the_formula() -> None:
    kelly = 0.7 - 0.3 / 1.2
    assert RULE.size(0.7, "long", 0.6) == pytest.approx(0.25 * kelly * (0.15 / 0.6) * (0.5 + 0.5 * 0.4))
    assert RULE.size(1.0, "long", 0.01) == 0.20
    assert RULE.size(0.7, "long", 0.0) == pytest.approx(0.25 * kelly * 0.5 * 0.7)


@given(p=probabilities, volatility=volatilities)
def test_a_short_is_staked_as_a_long_of_the_opposite_forecast(p: float, volatility: float) -> None:
    opposite = 1.0 - p
    assert RULE.size(p, "short", volatility) == -RULE.size(opposite, "long", volatility)
    assert RULE.size(0.2, "short", 0.6) < 0.0
    assert RULE.size(p, "flat", volatility) == 0.0


@given(p=probabilities, more=probabilities, volatility=volatilities, wilder=volatilities)
def test_a_size_keeps_its_cap_and_rises_with_the_forecast_and_falls_with_volatility(
    p: float, more: float, volatility: float, wilder: float
) -> None:
    size = RULE.size(p, "long", volatility)
    assert 0.0 <= size <= RULE.symbol_cap
    assert RULE.size(max(p, more), "long", volatility) >= size
    if 0.0 < volatility <= wilder:
        assert RULE.size(p, "long", wilder) <= size * (1.0 + 1e-12)


@pytest.mark.parametrize("p", [0.0, 0.3, 0.45])
def test_nothing_is_staked_on_a_side_that_is_not_expected_to_win(p: float) -> None:
    assert RULE.size(p, "long", 0.5) == 0.0
    assert math.copysign(1.0, RULE.size(1.0 - p, "short", 0.5)) == 1.0


@pytest.mark.parametrize(("p", "volatility"), [(-0.1, 0.5), (1.1, 0.5), (math.nan, 0.5), (0.6, -0.1), (0.6, math.inf)])
def test_what_cannot_be_is_refused(p: float, volatility: float) -> None:
    with pytest.raises(DataQualityError):
        RULE.size(p, "flat", volatility)


def test_a_volatility_grows_with_the_root_of_time() -> None:
    assert annual_volatility(0.01, 12, Timeframe.parse("5m")) == pytest.approx(0.01 * math.sqrt(365 * 24))
