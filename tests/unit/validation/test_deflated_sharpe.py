"""Deflated Sharpe ratios: the published examples, and what counts as a trial."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levibot_core.errors import DataQualityError
from levibot_core.validation.deflated_sharpe import (
    ReturnShape,
    deflate,
    different_trials,
    effective_trials,
    expected_maximum_sharpe,
    minimum_track_record_length,
    probabilistic_sharpe,
)

NAN = float("nan")


@pytest.mark.parametrize(("trials", "published"), [(100, 0.900), (46, 0.951)])
def test_the_published_example_of_the_deflated_ratio(trials: int, published: float) -> None:
    # Bailey, Lopez de Prado (2014), "A numerical example": annual figures, 250 days a year.
    observed = ReturnShape(sharpe=2.5 / math.sqrt(250), periods=1250, skewness=-3.0, kurtosis=10.0)
    benchmark = expected_maximum_sharpe(0.5 / 250, trials)
    assert probabilistic_sharpe(observed, benchmark) == pytest.approx(published, abs=0.0006)
    if trials == 100:
        assert benchmark == pytest.approx(0.1132, abs=5e-5)


@pytest.mark.parametrize(("per_year", "published_years"), [(252, 2.73), (52, 2.83), (12, 3.24)])
def test_the_published_example_of_the_track_record(per_year: int, published_years: float) -> None:
    # Bailey, Lopez de Prado (2012): an annual ratio of 2 of normal returns, to be above 1 at 95 %.
    observed = ReturnShape(sharpe=2.0 / math.sqrt(per_year), periods=per_year)
    periods = minimum_track_record_length(observed, benchmark=1.0 / math.sqrt(per_year))
    assert periods / per_year == pytest.approx(published_years, abs=0.005)


@settings(max_examples=60, deadline=None)
@given(
    sharpe=st.floats(0.01, 0.5),
    skewness=st.floats(-2.0, 2.0),
    beyond=st.floats(1.0, 20.0),
    confidence=st.floats(0.55, 0.99),
)
def test_a_track_record_of_the_minimum_length_is_just_believed(
    sharpe: float, skewness: float, beyond: float, confidence: float
) -> None:
    shape = {"sharpe": sharpe, "skewness": skewness, "kurtosis": skewness**2 + beyond}
    needed = minimum_track_record_length(ReturnShape(periods=2, **shape), confidence=confidence)
    for periods, believed in ((math.ceil(needed) + 1, True), (math.floor(needed) - 1, False)):
        if periods >= 2:
            assert (probabilistic_sharpe(ReturnShape(periods=periods, **shape)) >= confidence) is believed


def test_the_expected_maximum_is_that_of_simulated_trials() -> None:
    random = np.random.default_rng(1)
    for trials in (10, 100):
        simulated = random.normal(0.0, 0.2, (4_000, trials)).max(axis=1).mean()
        assert expected_maximum_sharpe(0.04, trials) == pytest.approx(simulated, rel=0.03)
    assert [expected_maximum_sharpe(1.0, trials) for trials in (0, 1, 1.1)] == [0.0, 0.0, 0.0]


def test_moments_are_those_of_the_returns() -> None:
    returns = np.array([0.01, -0.02, 0.03, 0.0, 0.05])
    shape = ReturnShape.of(np.append(returns, NAN))
    assert shape is not None
    assert (shape.sharpe, shape.periods) == (pytest.approx(returns.mean() / returns.std(ddof=1)), 5)
    standard = (returns - returns.mean()) / returns.std()
    assert (shape.skewness, shape.kurtosis) == (
        pytest.approx((standard**3).mean()),
        pytest.approx((standard**4).mean()),
    )
    for flat in ([0.0] * 9, [0.1] * 9, [NAN, 0.1], []):
        assert ReturnShape.of(np.array(flat)) is None


_seeds = st.integers(0, 2**16)


@settings(max_examples=30, deadline=None)
@given(seed=_seeds, trials=st.integers(1, 12), copies=st.integers(1, 12), missing=st.floats(0.0, 0.3))
def test_copies_scaled_shifted_or_with_gaps_are_no_further_trials(
    seed: int, trials: int, copies: int, missing: float
) -> None:
    random = np.random.default_rng(seed)
    own = random.normal(size=(trials, 300))
    of = random.integers(0, trials, copies)
    again = own[of] * random.uniform(0.1, 9.0, (copies, 1)) + random.normal(size=(copies, 1))
    again[random.random(again.shape) < missing] = NAN
    flat = np.full((2, 300), [[0.0], [0.3]])
    unfinished = np.full((3, 300), NAN)
    assert effective_trials(own) == trials
    assert effective_trials(np.vstack([own, again, unfinished])) == trials
    assert effective_trials(np.vstack([own, flat, again, flat])) == trials + 1
    assert effective_trials(-own[:1]) == 1
    assert effective_trials(np.vstack([own, -own])) == 2 * trials


@settings(max_examples=30, deadline=None)
@given(seed=_seeds, trials=st.integers(2, 40), factor=st.floats(0.0, 5.0))
def test_a_ledger_that_grows_never_counts_fewer_trials(seed: int, trials: int, factor: float) -> None:
    random = np.random.default_rng(seed)
    ledger = random.normal(size=(trials, 60)) + factor * random.normal(size=60)
    counts = [effective_trials(ledger[:length]) for length in range(1, trials + 1)]
    assert all(before <= after <= before + 1 for before, after in pairwise(counts))
    assert different_trials(ledger)[0] == 0
    kept = np.corrcoef(ledger[different_trials(ledger)])
    assert (kept - 2 * np.eye(counts[-1]) <= 0.99 + 1e-9).all()


def test_many_trials_are_compared_across_chunks() -> None:
    random = np.random.default_rng(3)
    own = random.normal(size=(300, 100))
    assert effective_trials(np.vstack([own, own * 2.0, own[::-1]])) == 300


def test_trials_of_different_times_are_different() -> None:
    ledger = np.full((2, 60), NAN)
    ledger[0, :35] = ledger[1, 25:] = np.random.default_rng(0).normal(size=35)
    assert effective_trials(ledger) == 2


@pytest.mark.parametrize(("correlation", "naively"), [(0.0, 35), (0.6, 8), (0.97, 0)])
def test_the_best_of_worthless_trials_is_seldom_believed_however_alike_they_are(
    correlation: float, naively: int
) -> None:
    random = np.random.default_rng(7)
    fooled = naive = 0
    for _ in range(40):
        own, common = random.normal(size=(50, 120)), random.normal(size=120)
        trials = np.sqrt(1 - correlation) * own + np.sqrt(correlation) * common
        found = deflate(trials[trials.mean(axis=1).argmax()], trials)
        assert found is not None
        assert (found.trials, found.effective_trials) == (50, 50)
        naive += found.probabilistic >= 0.95
        fooled += found.deflated >= 0.95
    assert naive >= naively
    assert fooled <= 6  # 2 of 40 are to be expected


def test_a_trial_that_was_the_only_one_is_believed_as_it_stands() -> None:
    random = np.random.default_rng(7)
    skilled = random.normal(0.3, 1.0, 250)
    alone = deflate(skilled, skilled[np.newaxis])
    assert alone is not None
    assert alone.deflated == alone.probabilistic > 0.99
    assert alone.minimum_periods < 250


def test_a_flat_policy_has_nothing_to_deflate() -> None:
    assert deflate(np.zeros(50), np.zeros((3, 50))) is None


@pytest.mark.parametrize("trials", [np.empty((0, 5)), np.full((2, 5), NAN), np.array([[1.0, math.inf]]), np.ones(4)])
def test_trials_that_cannot_be_counted_are_refused(trials: np.ndarray) -> None:
    with pytest.raises(DataQualityError, match="one row"):
        effective_trials(trials)
