"""Exact limits of shares against published values and against the binomial distribution they come from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from levibot_core.validation.exact_share import exact_share_95, upper_bound


@pytest.mark.parametrize(("of", "bound"), [(20, 0.1391), (59, 0.0495), (100, 0.0295), (200, 0.0149)])
def test_none_of_many_has_the_bound_of_the_textbook(of: int, bound: float) -> None:
    assert upper_bound(0, of) == pytest.approx(bound, abs=5e-5)
    assert upper_bound(0, of) == pytest.approx(1 - 0.05 ** (1 / of))


@pytest.mark.parametrize(
    ("found", "of", "limits"),
    [(0, 10, (0.0, 0.3085)), (5, 10, (0.1871, 0.8129)), (1, 20, (0.0013, 0.2487)), (10, 10, (0.6915, 1.0))],
)
def test_two_sided_intervals_are_those_of_the_tables(found: int, of: int, limits: tuple[float, float]) -> None:
    assert exact_share_95(found, of) == pytest.approx(limits, abs=5e-5)


@given(of=st.integers(1, 400), share=st.floats(0, 0.999))
def test_at_the_bound_as_few_are_seen_once_in_twenty(of: int, share: float) -> None:
    found = int(share * of)
    bound = upper_bound(found, of)
    assert binom.cdf(found, of, bound) == pytest.approx(0.05)
    assert found / of < bound <= exact_share_95(found, of)[1]


def test_all_of_some_have_no_upper_bound() -> None:
    assert upper_bound(3, 3) == 1.0
