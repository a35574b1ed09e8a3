"""Window statistics: right against one window at a time, and the same bits wherever a window stands."""

import math
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from levibot_core.features import folds
from levibot_core.features.folds import FloatArray
from levibot_core.features.order_statistics import bars_since_maximum, window_order_statistics
from levibot_core.features.series import WindowedSeries, exponential_mean

_numbers = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))
_values = arrays(np.float64, st.integers(1, 60), elements=_numbers)
_windows = st.integers(1, 40)

STATISTICS: dict[str, Callable[[FloatArray, int], Any]] = {
    "sum": lambda values, window: (folds.window_sum(values, window),),
    "maximum": lambda values, window: (folds.window_maximum(values, window),),
    "minimum": lambda values, window: (folds.window_minimum(values, window),),
    "moments": folds.window_moments,
    "comoments": lambda values, window: folds.window_comoments(values, np.sqrt(np.abs(values)), window),
    "trend": lambda values, window: (folds.window_trend(values, window),),
    "exponential": lambda values, window: (folds.window_exponential_sum(values, 0.9, window),),
    "order": lambda values, window: window_order_statistics(values, window, 0.2),
    "place": lambda values, window: (bars_since_maximum(values, window),),
}


def close_to(expected: float, scale: float) -> Any:
    return pytest.approx(expected, rel=1e-9, abs=1e-9 * (1.0 + scale))


@pytest.mark.parametrize("name", STATISTICS)
@settings(max_examples=40, deadline=None)
@given(values=_values, window=_windows, hole=st.integers(0, 200))
def test_a_window_alone_has_the_bits_it_has_in_a_history_and_a_nan_spoils_only_its_windows(
    name: str, values: FloatArray, window: int, hole: int
) -> None:
    if window > values.size or (name == "order" and window < 2):
        return
    if hole < values.size:
        values[hole] = np.nan
    for whole in zip(*[STATISTICS[name](values, window)], strict=True):
        assert whole[0].shape == (values.size - window + 1,)
    full = STATISTICS[name](values, window)
    for row in range(values.size - window + 1):
        part = values[row : row + window].copy()
        alone = STATISTICS[name](part, window)
        for statistic, single in zip(full, alone, strict=True):
            if np.isnan(part).any():
                assert np.isnan(statistic[row])
                assert np.isnan(single[0])
            else:
                assert statistic[row].tobytes() == single[0].tobytes()


@settings(max_examples=150, deadline=None)
@given(values=_values)
def test_statistics_are_those_of_the_window(values: FloatArray) -> None:
    window = values.size
    part = values.tolist()
    scale = max(map(abs, part))
    assert folds.window_sum(values, window)[0] == close_to(math.fsum(part), scale * window)
    assert folds.window_maximum(values, window)[0] == max(part)
    assert folds.window_minimum(values, window)[0] == min(part)
    total, squares = folds.window_moments(values, window)
    assert total.tobytes() == folds.window_sum(values, window).tobytes()
    assert squares[0] == close_to(statistics.pvariance(part) * window, scale * scale * 1e-3 * window)
    centre = (window - 1) / 2
    trend = math.fsum(value * (number - centre) for number, value in enumerate(part))
    assert folds.window_trend(values, window)[0] == close_to(trend, scale * window * window)
    weighted = math.fsum(value * 0.9 ** (window - 1 - number) for number, value in enumerate(part))
    assert folds.window_exponential_sum(values, 0.9, window)[0] == close_to(weighted, scale * 10)
    newest_of_largest = max(number for number, value in enumerate(part) if value == max(part))
    assert bars_since_maximum(values, window)[0] == window - 1 - newest_of_largest


@settings(max_examples=100, deadline=None)
@given(first=arrays(np.float64, 20, elements=_numbers), second=arrays(np.float64, 20, elements=_numbers))
def test_comoments_are_those_of_the_window(first: FloatArray, second: FloatArray) -> None:
    scale = float(np.abs(first).max() * np.abs(second).max())
    _, _, squares, other_squares, products = folds.window_comoments(first, second, 20)
    assert products[0] == close_to(float(np.cov(first, second, bias=True)[0, 1]) * 20, scale * 20)
    assert squares.tobytes() == folds.window_moments(first, 20)[1].tobytes()
    assert other_squares.tobytes() == folds.window_moments(second, 20)[1].tobytes()


@settings(max_examples=100, deadline=None)
@given(values=arrays(np.float64, st.integers(2, 40), elements=st.integers(-5, 5).map(float)), share=st.floats(0, 0.5))
def test_order_statistics_are_those_of_the_window(values: FloatArray, share: float) -> None:
    rank, lower, upper = (statistic[0] for statistic in window_order_statistics(values, values.size, share))
    below, equal = (values < values[-1]).sum(), (values == values[-1]).sum()
    assert rank == pytest.approx((below + 0.5 * equal) / values.size)
    assert lower == pytest.approx(np.quantile(values, share), abs=1e-9)
    assert upper == pytest.approx(np.quantile(values, 1 - share), abs=1e-9)


def test_compiled_merges_round_like_plain_python() -> None:
    """No fused multiply-add, no reordering: the compiled loops have the bits of the interpreter."""
    random = np.random.default_rng(5)
    newer, older = (tuple(random.lognormal(3.0, 2.0, 300) for _ in range(5)) for _ in range(2))
    for compiled, parts in ((folds._add_scaled, 1), (folds._moments, 2), (folds._trends, 2), (folds._comoments, 5)):
        arguments = (newer[:parts], older[:parts], 7.0, 3.0)
        for machine, plain in zip(compiled(*arguments), compiled.py_func(*arguments), strict=True):
            assert machine.tobytes() == plain.tobytes(), compiled.__name__


@pytest.mark.parametrize("name", STATISTICS)
def test_markets_side_by_side_have_the_bits_of_each_alone(name: str) -> None:
    values = np.random.default_rng(8).lognormal(3.0, 1.0, (50, 3))
    together = STATISTICS[name](values, 13)
    for market in range(3):
        alone = STATISTICS[name](np.ascontiguousarray(values[:, market]), 13)
        for statistic, single in zip(together, alone, strict=True):
            assert statistic[:, market].tobytes() == single.tobytes()


def test_rounding_of_equal_numbers_is_no_deviation() -> None:
    for price in (0.1 * 93_661.2, 1 / 3, 1e-9):
        series = WindowedSeries(np.full(80, price), 60, 80)
        for window in (5, 20, 30, 60):
            assert np.isnan(series.deviation(window)).all()
        squares, *_ = series.comoments(series, 30)
        assert np.isnan(squares).all()


@settings(max_examples=50, deadline=None)
@given(_values, st.integers(2, 20))
def test_the_deviation_is_that_of_the_window(values: FloatArray, window: int) -> None:
    padded = np.concatenate([np.full(window, np.nan), values])
    deviation = WindowedSeries(padded, window, padded.size).deviation(window)
    for row in range(window - 1, values.size):
        part = values[row - window + 1 : row + 1]
        if part.std() > 1e-9 * np.abs(part).max():
            assert deviation[row] == pytest.approx(part.std(), rel=1e-9)
    assert np.isnan(deviation[: window - 1]).all()


@pytest.mark.parametrize(("span", "length"), [(9, 45), (12, 60), (26, 130), (200, 1000)])
def test_the_exponential_mean_of_a_constant_is_the_constant(span: int, length: int) -> None:
    assert exponential_mean(np.full(length, 7.0), span, length)[0] == pytest.approx(7.0, rel=1e-14)


def test_a_statistic_is_computed_once_and_a_lag_reaches_back() -> None:
    series = WindowedSeries(np.arange(30.0), 10, 30)
    assert series.mean(5) is series.mean(5)
    assert series.lagged(3).tolist() == list(range(7, 27))
    assert series.extended(4).now.tolist() == list(range(6, 30))
    assert series.slope(5).tolist() == pytest.approx([1.0] * 20)
    assert series.order_statistics(5, 0.2).rank.tolist() == [0.9] * 20
