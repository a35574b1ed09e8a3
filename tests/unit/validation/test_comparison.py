"""Comparing forecasts: what knows nothing does not pass for better than a constant."""

import numpy as np
import pytest

from levibot_core.validation.comparison import compare_with_constants


@pytest.mark.parametrize(("base_rate", "harder"), [(0.55, "a half"), (0.5, "the base rate")])
def test_being_near_a_half_is_no_skill_where_the_base_rate_is_off(base_rate: float, harder: str) -> None:
    generator = np.random.default_rng(3)
    labels = (generator.random(4000) < 0.49).astype(np.float64)
    forecasts = np.clip(generator.normal(0.5, 0.002, labels.size), 0.01, 0.99)
    found = compare_with_constants(forecasts, labels, np.arange(labels.size), 1, base_rate)
    assert harder in found.reference
    assert found.upper_999 > 0.0


def test_skill_beats_both_constants_and_is_bounded_more_carefully_than_by_the_interval() -> None:
    generator = np.random.default_rng(4)
    truth = generator.uniform(0.3, 0.7, 6000)
    labels = (generator.random(truth.size) < truth).astype(np.float64)
    found = compare_with_constants(truth, labels, np.arange(truth.size), 1, 0.5)
    assert found.lower_95 < found.mean < found.upper_95 < found.upper_999 < 0.0
