"""Windows over rows of bars, and what a forecast of quantiles says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levibot_core.errors import ConfigurationError
from levibot_core.models.tft.configuration import QUANTILE_LEVELS
from levibot_core.models.tft.features import TFT_FEATURES, tft_features, volatility_feature
from levibot_core.models.tft.quantile_function import normal_spread, probability_above, rearranged
from levibot_core.models.tft.windows import RowWindows

BAR_MS = 300_000
ROWS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 12)), min_size=1, max_size=24, unique=True)
FORECASTS = st.lists(st.floats(-5.0, 5.0), min_size=len(QUANTILE_LEVELS), max_size=len(QUANTILE_LEVELS))


def windows_of(rows: list[tuple[int, int]], length: int) -> RowWindows:
    symbols, bars = (np.array(column) for column in zip(*rows, strict=True))
    return RowWindows.over((100.0 * symbols + bars)[:, np.newaxis], symbols, bars * BAR_MS, length, BAR_MS)


@settings(max_examples=60, deadline=None)
@given(ROWS, st.integers(1, 4))
def test_a_window_is_the_successive_bars_of_one_symbol_up_to_its_row(rows: list[tuple[int, int]], length: int) -> None:
    windows = windows_of(rows, length)
    for number, (symbol, bar) in enumerate(rows):
        bars = [(symbol, earlier) for earlier in range(bar - length + 1, bar + 1)]
        assert bool(windows.complete[number]) == all(one in rows for one in bars)
        if windows.complete[number]:
            expected = [100.0 * one + earlier for one, earlier in bars]
            assert windows.at(np.array([number]))[0, :, 0].tolist() == expected


@settings(max_examples=40, deadline=None)
@given(ROWS, st.integers(1, 4), st.integers(0, 12))
def test_rows_after_an_instant_change_no_window_at_or_before_it(
    rows: list[tuple[int, int]], length: int, instant: int
) -> None:
    earlier = [row for row in rows if row[1] <= instant]
    later = [row for row in rows if row[1] > instant]
    if not earlier:
        return
    alone, together = windows_of(earlier, length), windows_of([*earlier, *later], length)
    numbers = np.arange(len(earlier))
    assert np.array_equal(alone.complete, together.complete[numbers])
    ends = numbers[alone.complete]
    assert np.array_equal(alone.at(ends), together.at(ends))


@settings(max_examples=80, deadline=None)
@given(FORECASTS)
def test_a_probability_is_one_that_falls_as_the_threshold_rises_and_crossed_quantiles_are_put_in_order(
    forecast: list[float],
) -> None:
    values = np.array([forecast])
    thresholds = np.linspace(-8.0, 8.0, 41)
    curve = np.array([probability_above(values, QUANTILE_LEVELS, threshold)[0] for threshold in thresholds])
    assert ((curve > 0.0) & (curve < 1.0)).all()
    assert (np.diff(curve) <= 1e-12).all()
    assert np.array_equal(
        probability_above(values, QUANTILE_LEVELS), probability_above(rearranged(values), QUANTILE_LEVELS)
    )
    assert normal_spread(values, QUANTILE_LEVELS)[0] >= 0.0


def test_the_distribution_meets_its_quantiles_is_straight_between_them_and_logistic_beyond() -> None:
    levels = (0.1, 0.5, 0.9)
    forecast = np.array([[-2.0, 0.0, 1.0]])
    found = [float(probability_above(forecast, levels, at)[0]) for at in (-2.0, -1.0, 0.0, 0.5, 1.0)]
    assert found == pytest.approx([0.9, 0.7, 0.5, 0.3, 0.1])
    # The log-odds of 0.9 are ln 9; one more piece of the same slope gives 2 ln 9, which is 81 to 1.
    assert probability_above(forecast, levels, 2.0)[0] == pytest.approx(1.0 / 82.0)
    assert probability_above(forecast, levels, -4.0)[0] == pytest.approx(81.0 / 82.0)


def test_the_spread_of_a_normal_forecast_is_its_standard_deviation() -> None:
    of_normal = [-2.0537, -1.28155, -0.67449, 0.0, 0.67449, 1.28155, 2.0537]
    forecast = 0.3 + 2.5 * np.array([of_normal, of_normal[::-1]])
    assert normal_spread(forecast, QUANTILE_LEVELS) == pytest.approx([2.5, 2.5], rel=1e-4)


def test_features_keep_their_order_and_one_has_to_be_a_volatility() -> None:
    assert tft_features(["other", "realized_volatility_48", "log_return_1"]) == (
        "log_return_1",
        "realized_volatility_48",
    )
    assert volatility_feature(TFT_FEATURES) == "realized_volatility_288"
    assert 16 <= len(TFT_FEATURES) == len(set(TFT_FEATURES)) <= 24
    with pytest.raises(ConfigurationError, match="realized_volatility_288"):
        tft_features(["log_return_1"])
