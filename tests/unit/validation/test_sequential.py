import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from levibot_core.errors import DataQualityError
from levibot_core.validation.sequential import (
    DECISIVE,
    BettingProcess,
    expected_observations,
    mean_interval,
)

_BOUND = 0.5
values = arrays(np.float64, st.integers(0, 40), elements=st.floats(-_BOUND, _BOUND))


def _path(observations: np.ndarray) -> np.ndarray:
    return BettingProcess.begin(_BOUND).after(observations)[1]


def test_evidence_begins_at_1() -> None:
    process = BettingProcess.begin(_BOUND)

    assert process.e_value == pytest.approx(1.0, rel=1e-12)
    assert process.after(np.empty(0))[0].e_value == process.e_value


@settings(max_examples=60, deadline=None)
@given(values, st.data())
def test_cut_into_any_nights_the_evidence_has_the_same_bits(observations: np.ndarray, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, observations.size), max_size=4)))
    process, pieces = BettingProcess.begin(_BOUND), []
    for part in np.split(observations, cuts):
        process, path = process.after(part)
        pieces.append(path)
    whole, at_once = BettingProcess.begin(_BOUND).after(observations)

    assert np.array_equal(np.concatenate(pieces), at_once)
    assert np.array_equal(process.log_wealth, whole.log_wealth)
    assert process.observations == observations.size


@settings(max_examples=60, deadline=None)
@given(values, st.randoms(use_true_random=False))
def test_the_order_of_the_observations_does_not_matter(observations: np.ndarray, random: object) -> None:
    shuffled = observations.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    ours, theirs = (BettingProcess.begin(_BOUND).after(part)[0].e_value for part in (observations, shuffled))
    assert ours == pytest.approx(theirs, rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(values)
def test_evidence_is_never_negative_and_a_fair_coin_of_any_size_adds_none(observations: np.ndarray) -> None:
    """The property that makes it a supermartingale: over both signs of a next observation it does not rise."""
    process, path = BettingProcess.begin(_BOUND).after(observations)
    assert bool(np.all(path >= 0.0))

    for size in (1e-9, 0.1, _BOUND):
        after = [process.after(np.array([sign * size]))[0].e_value for sign in (-1.0, 1.0)]
        assert sum(after) / 2.0 == pytest.approx(process.e_value, rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(values, st.floats(0.0, 0.2))
def test_more_gain_is_more_evidence(observations: np.ndarray, gain: float) -> None:
    raised = np.minimum(observations + gain, _BOUND)

    assert bool(np.all(_path(raised) >= _path(observations) * (1.0 - 1e-12)))


def test_under_the_null_decisive_evidence_is_as_rare_as_promised() -> None:
    """Whoever looks after every one of 500 skewed observations is wrong at most once in twenty times."""
    random = np.random.default_rng(1)
    chance = 0.1
    gains = np.where(random.random((600, 500)) < chance, 1.0 - chance, -chance) * _BOUND
    highest = np.array([_path(market).max() for market in gains])
    means = np.array([_path(market)[-1] for market in gains])

    assert np.mean(highest >= DECISIVE) <= 1.0 / DECISIVE
    assert means.mean() <= 1.0 + 3.0 * means.std() / math.sqrt(means.size)


def test_a_mean_that_wanders_around_zero_is_no_evidence() -> None:
    """First worse, then better by as much: never better on average, though for half of the time it is."""
    random = np.random.default_rng(2)
    drift = np.repeat([-0.05, 0.05], 400)
    noise = random.choice([-0.2, 0.2], size=(300, drift.size))
    highest = np.array([_path(market).max() for market in noise + drift])

    assert np.mean(highest >= DECISIVE) <= 1.0 / DECISIVE


def test_a_gain_is_found_about_when_it_was_expected() -> None:
    random = np.random.default_rng(3)
    mean, deviation = 0.02, 0.1
    needed = []
    for _ in range(200):
        path = _path(np.clip(random.normal(mean, deviation, 2_000), -_BOUND, _BOUND))
        needed.append(int(np.argmax(path >= DECISIVE)) + 1)
    expected = expected_observations(mean, deviation, _BOUND)

    assert expected is not None
    assert np.median(needed) == pytest.approx(expected, rel=0.2)
    assert expected_observations(-mean, deviation, _BOUND) is None
    assert expected_observations(0.0, deviation, _BOUND) is None
    assert expected_observations(1e-12, deviation, _BOUND) is None


def test_the_interval_holds_the_mean_at_all_times_together() -> None:
    random = np.random.default_rng(4)
    mean = 0.03
    missed = 0
    for _ in range(40):
        market = mean + random.choice([-0.3, 0.3], size=200)
        intervals = [mean_interval(market[:size], _BOUND, confidence=0.8) for size in (10, 40, 90, 200)]
        missed += any(not lower <= mean <= upper for lower, upper in intervals)

    assert missed / 40 <= 0.2
    lower, upper = mean_interval(mean + random.choice([-0.3, 0.3], size=4_000), _BOUND)
    assert 0.0 < lower < mean < upper < 2.0 * mean


def test_without_observations_the_mean_may_be_anything_within_the_bound() -> None:
    assert mean_interval(np.empty(0), _BOUND) == pytest.approx((-_BOUND, _BOUND))


def test_evidence_beyond_all_numbers_stays_a_number() -> None:
    assert math.isfinite(_path(np.full(5_000, _BOUND))[-1])


@pytest.mark.parametrize("beyond", [0.51, -0.51, math.nan, math.inf])
def test_an_observation_beyond_the_bound_is_refused_and_changes_nothing(beyond: float) -> None:
    process, _ = BettingProcess.begin(_BOUND).after(np.array([0.1]))
    before = process.log_wealth.copy()

    with pytest.raises(DataQualityError, match=r"within 0\.5 of 0"):
        process.after(np.array([0.1, beyond]))
    with pytest.raises(DataQualityError, match=r"within 0\.5 of 0"):
        mean_interval(np.array([0.1, beyond]), _BOUND)
    assert np.array_equal(process.log_wealth, before)


@pytest.mark.parametrize("bound", [0.0, -1.0, math.nan, math.inf])
def test_a_bound_has_to_be_a_positive_number(bound: float) -> None:
    with pytest.raises(DataQualityError, match="positive bound"):
        BettingProcess.begin(bound)
