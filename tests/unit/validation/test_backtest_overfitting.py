"""The probability of backtest overfitting: by the definition, and what it says of luck and of skill."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata

from levibot_core.errors import DataQualityError
from levibot_core.validation.backtest_overfitting import probability_of_overfitting


def sharpe(returns: np.ndarray) -> float:
    return 0.0 if np.ptp(returns) == 0 else float(returns.mean() / returns.std())


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    trials=st.integers(2, 6),
    periods=st.integers(12, 30),
    idle=st.floats(0.0, 0.7),
    mean=st.sampled_from([0.0, 50.0]),
)
def test_logits_are_those_of_the_definition(seed: int, trials: int, periods: int, idle: float, mean: float) -> None:
    random = np.random.default_rng(seed)
    matrix = random.normal(mean, 1.0, (trials, periods))
    matrix[random.random(matrix.shape) < idle] = 0.0
    matrix[0, 0] = 0.5
    matrix[1, 0] = 1.5
    begins = np.linspace(0, periods, 7).astype(int)
    traded = matrix[np.ptp(matrix, axis=1) > 0]
    logits, before, after = [], [], []
    for chosen in combinations(range(6), 3):
        inside = np.isin(np.searchsorted(begins, np.arange(periods), side="right") - 1, chosen)
        seen, unseen = ([sharpe(row[part]) for row in traded] for part in (inside, ~inside))
        best = int(np.argmax(np.round(seen, 10)))
        rank = rankdata(np.round(unseen, 10))[best] / (len(traded) + 1)
        logits.append(math.log(rank / (1 - rank)))
        before.append(seen[best])
        after.append(unseen[best])
    found = probability_of_overfitting(matrix, blocks=6)
    assert found is not None
    assert found.logits == pytest.approx(logits, abs=1e-6)
    assert found.probability == np.mean(np.array(logits) <= 1e-9)
    assert found.loss_probability == pytest.approx(np.mean(np.array(after) < -1e-9))
    if np.std(before) > 1e-6:
        slope, intercept = np.polyfit(before, after, 1)
        assert (found.degradation_slope, found.degradation_intercept) == (
            pytest.approx(slope, rel=1e-4, abs=1e-4),
            pytest.approx(intercept, rel=1e-4, abs=1e-4),
        )


def test_luck_is_overfitted_half_the_time_and_skill_is_not() -> None:
    random = np.random.default_rng(5)
    luck = [probability_of_overfitting(random.normal(size=(40, 128)), blocks=8) for _ in range(60)]
    assert np.mean([found.probability for found in luck if found]) == pytest.approx(0.5, abs=0.06)
    skilled = random.normal(size=(40, 365))
    skilled[17] += 0.5
    found = probability_of_overfitting(skilled)
    assert found is not None
    assert found.probability < 0.01
    assert found.logits.shape == (12_870,)
    assert (found.trials, found.periods, found.loss_probability) == (40, 365, 0.0)


def test_trials_that_made_the_same_trade_share_their_rank() -> None:
    # One trade each: in a half that has it the ratio is the same for all, whatever it earned.
    matrix = np.zeros((3, 16))
    matrix[[0, 1, 2], [0, 1, 1]] = 0.01, 50.3, 7.7e-5
    found = probability_of_overfitting(matrix, blocks=2)
    assert found is not None
    assert found.logits.tolist() == [0.0, 0.0]


def test_trials_that_did_not_trade_are_left_out() -> None:
    matrix = np.random.default_rng(0).normal(size=(3, 40))
    flat = np.zeros((5, 40))
    with_flat, without = (probability_of_overfitting(part, 4) for part in (np.vstack([flat, matrix]), matrix))
    assert with_flat is not None
    assert without is not None
    assert with_flat.logits.tolist() == without.logits.tolist()
    assert probability_of_overfitting(np.vstack([flat, matrix[:1]]), 4) is None


@pytest.mark.parametrize(
    ("trials", "blocks", "message"),
    [
        (np.ones((2, 40)), 5, "even number"),
        (np.ones((2, 7)), 4, "Take more days"),
        (np.array([[1.0, float("nan")]]), 2, "1 that are not"),
        (np.ones(40), 4, "trials, periods"),
    ],
)
def test_returns_that_cannot_be_combined_are_refused(trials: np.ndarray, blocks: int, message: str) -> None:
    with pytest.raises(DataQualityError, match=message):
        probability_of_overfitting(trials, blocks)
