import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levibot_core.models.card_charts import reliability_svg
from levibot_core.models.reliability_bands import reliability_bands, wilson_interval

SHARES = st.floats(0.0, 1.0)


@settings(max_examples=50, deadline=None)
@given(share=SHARES, observations=st.floats(0.0, 1e6))
def test_the_interval_holds_its_share_and_stays_a_share(share: float, observations: float) -> None:
    lower, upper = wilson_interval(share, observations)
    assert 0.0 <= lower <= share + 1e-12
    assert share - 1e-12 <= upper <= 1.0


@settings(max_examples=50, deadline=None)
@given(share=SHARES, observations=st.floats(1.0, 1e5))
def test_more_observations_narrow_it(share: float, observations: float) -> None:
    few, many = wilson_interval(share, observations), wilson_interval(share, 2.0 * observations)
    assert many[1] - many[0] <= few[1] - few[0]


def test_the_interval_is_the_one_of_scipy() -> None:
    from scipy.stats import binomtest

    theirs = binomtest(45, 120).proportion_ci(0.95, method="wilson")
    assert wilson_interval(45 / 120, 120) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_rows_that_share_their_future_count_as_one() -> None:
    assert reliability_bands([0.4], [1200], 12) == [wilson_interval(0.4, 100.0)]


def test_bands_are_drawn_where_they_are_given_and_fit_the_plot() -> None:
    curve = ([0.45, 0.55], [0.4, 0.6], [100, 300], 0.5)
    plain, banded = reliability_svg(*curve), reliability_svg(*curve, [(0.2, 0.6), (0.5, 0.7)])
    assert 'class="band"' not in plain
    assert banded.count('class="band"') == 2
