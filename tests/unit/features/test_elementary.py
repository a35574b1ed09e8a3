"""Elementary functions: right to the last bits, and the same bits wherever a number stands."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levibot_core.features.elementary import MILLISECONDS_PER_HOUR, cycle, natural_log

DAY = 24 * MILLISECONDS_PER_HOUR
MONDAY = 1_735_516_800_000  # 2024-12-30T00:00Z


@settings(max_examples=300, deadline=None)
@given(st.floats(min_value=5e-324, allow_infinity=False, allow_nan=False))
def test_the_logarithm_is_right_to_one_unit_in_the_last_place(value: float) -> None:
    exact = math.log(value)
    assert abs(natural_log(np.array([value]))[0] - exact) <= np.spacing(abs(exact))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_the_logarithm_of_a_number_does_not_depend_on_where_it_stands(offset: int, length: int, seed: int) -> None:
    values = np.random.default_rng(seed).lognormal(0.0, 8.0, 100)
    part = values[offset : offset + length]
    assert natural_log(part).tobytes() == natural_log(values)[offset : offset + length].tobytes()
    assert natural_log(values[::-1])[::-1].tobytes() == natural_log(values).tobytes()


def test_the_logarithm_of_what_has_none_is_nan() -> None:
    assert np.isnan(natural_log(np.array([0.0, -0.0, -1.0, math.nan, math.inf, -math.inf]))).all()
    assert natural_log(np.array([1.0])).tolist() == [0.0]


@pytest.mark.parametrize(
    ("hours_since_monday", "period_days", "sine", "cosine"),
    [(0, 1, 0, 1), (6, 1, 1, 0), (36, 1, 0, -1), (0, 7, 0, 1), (42, 7, 1, 0), (126, 7, -1, 0), (168, 7, 0, 1)],
)
def test_a_cycle_begins_at_midnight_of_a_monday(
    hours_since_monday: int, period_days: int, sine: float, cosine: float
) -> None:
    time_ms = np.array([float(MONDAY + hours_since_monday * MILLISECONDS_PER_HOUR)])
    assert cycle(time_ms, period_days * DAY, "sine")[0] == pytest.approx(sine, abs=1e-12)
    assert cycle(time_ms, period_days * DAY, "cosine")[0] == pytest.approx(cosine, abs=1e-12)
