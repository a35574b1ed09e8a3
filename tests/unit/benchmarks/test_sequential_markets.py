"""The simulated differences are what the benchmark says: within the bound, and 0 on average where they should be."""

import numpy as np
import pytest

from benchmarks.sequential_markets import BEYOND, NULLS, claims_too_much, knows_more
from benchmarks.sequential_test import Found, following_bets
from levibot_core.validation.paired_blocks import LOG_LOSS_BOUND

_BLOCKS = 20_160


@pytest.mark.parametrize("name", [*NULLS, *BEYOND])
def test_where_there_is_nothing_to_find_nobody_is_better_on_average(name: str) -> None:
    differences = {**NULLS, **BEYOND}[name](np.random.default_rng(1), _BLOCKS)

    assert np.abs(differences).max() <= LOG_LOSS_BOUND
    assert abs(differences.mean()) < 4.0 * 2.0 * differences.std() / np.sqrt(_BLOCKS)


def test_who_knows_more_is_better_and_who_claims_too_much_is_worse() -> None:
    gains = [knows_more(size)(np.random.default_rng(2), _BLOCKS).mean() for size in (0.1, 0.3)]
    harms = [claims_too_much(factor)(np.random.default_rng(3), _BLOCKS).mean() for factor in (2.0, 6.0)]

    assert 0.0 < gains[0] < gains[1]
    assert 0.0 < harms[0] < harms[1]


def test_bets_that_follow_use_nothing_of_the_block_they_are_on() -> None:
    differences = np.random.default_rng(4).normal(0.02, 0.1, 200)
    changed = differences.copy()
    changed[100:] *= -1.0

    before, after = (following_bets(values, LOG_LOSS_BOUND) for values in (differences, changed))
    assert np.array_equal(before[:100], after[:100])
    assert before[0] == 1.0


def test_a_share_is_below_its_upper_bound() -> None:
    found = Found(np.array([5.0, np.inf, np.inf, np.inf]), np.full(4, np.inf), 0.0, 1.0, 20.0)

    assert found.share == 0.25
    assert found.upper_95 == pytest.approx(0.7514, abs=1e-4)
    assert Found(np.ones(4), np.ones(4), 0.0, 1.0, 20.0).upper_95 == 1.0
