"""From returns to verdicts: luck is not traded, skill is, and a flat policy has nothing to show."""

import numpy as np
import pytest

from levibot_core.validation.gates import TradingFacts
from levibot_core.validation.trading_evidence import measure_trading

NAN = float("nan")


def noise(trials: int, days: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.0, 0.01, (trials, days))


def test_the_best_of_many_worthless_trials_is_not_believed() -> None:
    trials = noise(100, 365)
    best = trials[trials.mean(axis=1).argmax()]
    facts = measure_trading(best, trials, trials)
    assert (facts.days, facts.trials, facts.effective_trials, facts.trials_traded) == (365, 100, 100, 100)
    assert facts.probabilistic_sharpe is not None
    assert facts.deflated_sharpe is not None
    assert facts.deflated_sharpe < 0.95 < facts.probabilistic_sharpe


def test_a_skilled_trial_is_believed() -> None:
    trials = noise(100, 365)
    trials[3] += 0.005
    facts = measure_trading(trials[3], trials, trials)
    assert facts.deflated_sharpe is not None
    assert facts.deflated_sharpe > 0.99
    assert facts.overfitting == pytest.approx(0.0, abs=0.01)
    assert facts.minimum_track_record_days is not None
    assert facts.minimum_track_record_days < 100


def test_trials_of_other_trainings_count_against_a_policy() -> None:
    own = noise(20, 100)
    own[0] += 0.003
    ledger = np.full((220, 300), NAN)
    ledger[:200, 100:] = noise(200, 200, seed=1)
    ledger[200:, :100] = own
    alone, after_many = (measure_trading(own[0], trials, own) for trials in (own, ledger))
    assert (alone.effective_trials, after_many.effective_trials) == (20, 220)
    assert alone.deflated_sharpe is not None
    assert after_many.deflated_sharpe is not None
    assert after_many.deflated_sharpe < alone.deflated_sharpe


def test_a_flat_policy_among_trials_that_were_given_up() -> None:
    trials = np.vstack([np.zeros((3, 40)), np.full((5, 40), NAN)])
    assert measure_trading(np.zeros(40), trials, trials) == TradingFacts(
        days=40,
        sharpe=None,
        probabilistic_sharpe=None,
        deflated_sharpe=None,
        expected_maximum_sharpe=None,
        trials=3,
        effective_trials=1,
        minimum_track_record_days=None,
        trials_traded=0,
        overfitting=None,
    )


@pytest.mark.parametrize(("days", "estimated"), [(7, False), (8, True), (25, True)])
def test_few_days_give_fewer_blocks_and_too_few_no_estimate(days: int, estimated: bool) -> None:
    trials = noise(3, days)
    assert (measure_trading(trials[0], trials, trials).overfitting is not None) is estimated


def test_days_that_a_trial_lacks_are_left_out_for_all() -> None:
    trials = noise(4, 60)
    gaps = trials.copy()
    gaps[1, :20] = NAN
    found = measure_trading(trials[0], trials, gaps).overfitting
    assert found == measure_trading(trials[0], trials, trials[:, 20:]).overfitting
