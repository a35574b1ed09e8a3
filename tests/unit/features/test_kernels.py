"""Window kernels against loops over one window, bit by bit."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from levibot_core.features.elementary import FloatArray
from levibot_core.features.kernels import (
    ema_weights,
    lagged,
    weighted_sum,
    window_deviation,
    window_maximum,
    window_mean,
    window_minimum,
    window_sum,
)

_values = arrays(np.float64, st.integers(1, 60), elements=st.floats(-1e6, 1e6))
_windows = st.integers(1, 20)


def by_hand(values: FloatArray, window: int, total: str) -> FloatArray:
    """The same statistic, one window at a time, newest first."""
    result = np.full(values.size, np.nan)
    for row in range(window - 1, values.size):
        newest_first = values[row - window + 1 : row + 1][::-1].tolist()
        if any(math.isnan(value) for value in newest_first):
            continue
        if total == "sum":
            running = newest_first[0]
            for value in newest_first[1:]:
                running += value
            result[row] = running
        else:
            result[row] = max(newest_first) if total == "max" else min(newest_first)
    return result


@settings(max_examples=100, deadline=None)
@given(_values, _windows, st.integers(0, 59))
def test_sums_and_extremes_have_the_bits_of_one_window_at_a_time(values: FloatArray, window: int, hole: int) -> None:
    values[hole % values.size] = np.nan
    assert window_sum(values, window).tobytes() == by_hand(values, window, "sum").tobytes()
    np.testing.assert_array_equal(window_maximum(values, window), by_hand(values, window, "max"))
    np.testing.assert_array_equal(window_minimum(values, window), by_hand(values, window, "min"))


def test_blocks_leave_no_trace() -> None:
    values = np.random.default_rng(3).normal(size=9_000)
    whole = window_sum(values, 50), weighted_sum(values, ema_weights(12, 50))
    mean = window_mean(values, 50)
    for begin in (4_000, 4_047, 4_090, 8_180):
        part = values[begin : begin + 50]
        assert window_sum(part, 50)[-1] == whole[0][begin + 49]
        assert weighted_sum(part, ema_weights(12, 50))[-1] == whole[1][begin + 49]
        deviation = window_deviation(part, 50, window_mean(part, 50))[-1]
        assert deviation == window_deviation(values, 50, mean)[begin + 49]


@settings(max_examples=50, deadline=None)
@given(_values, st.integers(2, 20))
def test_the_deviation_is_that_of_the_window_or_nan_where_nothing_deviates(values: FloatArray, window: int) -> None:
    deviation = window_deviation(values, window, window_mean(values, window))
    for row in range(values.size):
        part = values[max(row - window + 1, 0) : row + 1]
        if part.size < window or np.ptp(part) == 0.0:
            assert math.isnan(deviation[row])
        elif part.std() > 1e-9 * np.abs(part).max():
            assert deviation[row] == pytest.approx(part.std(), rel=1e-9)


def test_rounding_of_equal_numbers_is_no_deviation() -> None:
    values = np.full(40, 0.1) * 93_661.2
    assert np.isnan(window_deviation(values, 20, window_mean(values, 20))).all()


@settings(max_examples=50, deadline=None)
@given(_values, st.integers(1, 70))
def test_a_lag_never_wraps_around(values: FloatArray, lag: int) -> None:
    shifted = lagged(values, lag)
    assert np.isnan(shifted[:lag]).all()
    assert shifted[lag:].tobytes() == values[: max(values.size - lag, 0)].tobytes()


def test_a_window_longer_than_the_history_has_no_value() -> None:
    values = np.ones(5)
    for result in (window_sum(values, 6), window_maximum(values, 6), weighted_sum(values, ema_weights(12, 6))):
        assert np.isnan(result).all()


@pytest.mark.parametrize(("span", "length"), [(9, 45), (12, 60), (26, 130)])
def test_weights_of_an_exponential_mean_sum_to_one_and_decay(span: int, length: int) -> None:
    weights = ema_weights(span, length)
    assert math.fsum(weights) == pytest.approx(1.0, abs=1e-15)
    np.testing.assert_allclose(weights[1:] / weights[:-1], 1 - 2 / (span + 1), rtol=1e-12)
