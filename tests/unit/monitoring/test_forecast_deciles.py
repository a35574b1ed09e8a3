from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levibot_core.monitoring.forecast_deciles import closes_of_forecasts, closes_of_lake, confidence_deciles
from levibot_core.stores.lake import Lake
from levibot_core.stores.prediction_log import LoggedForecast

HOUR = 3_600_000


def forecast(number: int, prob_up: float, price: float = 100.0, symbol: str = "BTC/USDT") -> LoggedForecast:
    return LoggedForecast(
        served_at_ms=number * HOUR + 1_000,
        role="champion",
        model="m",
        model_version=1,
        symbol=symbol,
        as_of_ms=number * HOUR,
        horizon_ms=HOUR,
        price=price,
        prob_up=prob_up,
        confidence=2 * abs(prob_up - 0.5),
        side="flat",
        price_target=None,
        source="exchange",
        tradable=False,
        abstain=False,
        fallback=False,
    )


def test_hits_are_counted_where_the_outcome_is_known() -> None:
    given_out = [forecast(0, 0.6, 100.0), forecast(1, 0.4, 101.0), forecast(2, 0.7, 100.0), forecast(3, 0.5, 100.0)]
    tenths = confidence_deciles(given_out, closes_of_forecasts(given_out))
    assert sum(tenth.forecasts for tenth in tenths) == 4
    # 100 -> 101 was foreseen, 101 -> 100 too; 100 -> 100 is no rise; nobody knows what follows the last, which leans
    # nowhere.
    assert (sum(tenth.settled for tenth in tenths), sum(tenth.hits for tenth in tenths)) == (3, 2)
    assert [tenth.confidence_from for tenth in tenths] == sorted(tenth.confidence_from for tenth in tenths)


def test_a_forecast_given_twice_counts_once_and_another_version_is_another() -> None:
    first = forecast(0, 0.6)
    again = replace(first, served_at_ms=5_000, tradable=True)
    other = replace(first, model_version=2)
    assert sum(tenth.forecasts for tenth in confidence_deciles([first, again, other], {})) == 2


def test_without_outcomes_there_is_no_rate() -> None:
    (tenth,) = confidence_deciles([forecast(0, 0.6)], {})
    assert (tenth.hit_rate, tenth.interval, tenth.settled) == (None, None, 0)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=80), st.floats(50.0, 150.0))
def test_tenths_are_even_ordered_and_whole(probabilities: list[float], after: float) -> None:
    given_out = [forecast(number, prob_up) for number, prob_up in enumerate(probabilities)]
    tenths = confidence_deciles(given_out, {("BTC/USDT", (number + 1) * HOUR): after for number in range(80)})
    sizes = [tenth.forecasts for tenth in tenths]
    assert sum(sizes) == len(probabilities)
    assert max(sizes) - min(sizes) <= 1
    assert all(one.confidence_to <= two.confidence_from for one, two in pairwise(tenths))
    for tenth in tenths:
        if tenth.interval is not None:
            assert 0.0 <= tenth.interval[0] <= (tenth.hit_rate or 0.0) + 1e-12
            assert tenth.interval[1] <= 1.0


def test_the_interval_is_wilsons() -> None:
    given_out = [forecast(number, 0.6, 100.0) for number in range(10)]
    closes = {("BTC/USDT", (number + 1) * HOUR): 101.0 if number < 8 else 99.0 for number in range(10)}
    tenths = confidence_deciles(given_out, closes)
    assert sum(tenth.hits for tenth in tenths) == 8
    lower, upper = replace(tenths[0], settled=10, hits=8).interval or (0.0, 0.0)
    assert (lower, upper) == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_a_lake_without_data_knows_no_close(tmp_path: Path) -> None:
    assert closes_of_lake(Lake(tmp_path), "spot", "5m", ["BTC/USDT"], 0) == {}
