import math
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levibot_core.errors import BundleError, DataQualityError
from levibot_core.models.conformal import (
    AdaptiveConformal,
    OnlineIntervals,
    ReturnInterval,
    conformity_scores,
    interval_text,
    read_interval,
)
from levibot_core.models.conformal_coverage import coverage_report

BAR_MS = 300_000
DAY_MS = 86_400_000


@st.composite
def rows(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, decision times and ends of labels of some rows, several of one time, in any order."""
    many = draw(st.lists(st.tuples(st.floats(0, 9), st.integers(0, 40), st.integers(1, 12)), min_size=1, max_size=60))
    scores, known_at, reach = (np.array(column) for column in zip(*many, strict=True))
    return scores, known_at, known_at + reach


@settings(max_examples=80, deadline=None)
@given(data=rows(), now=st.integers(0, 40), seed=st.integers(0, 99))
def test_no_answer_depends_on_a_label_that_had_not_ended(
    data: tuple[np.ndarray, np.ndarray, np.ndarray], now: int, seed: int
) -> None:
    scores, known_at, label_end = data
    before = AdaptiveConformal(0.5, 0.05).run(scores, known_at, label_end)
    unknown = label_end > now
    changed = np.where(unknown, np.random.default_rng(seed).uniform(0, 20, scores.size), scores)
    after = AdaptiveConformal(0.5, 0.05).run(changed, known_at, label_end)
    decided = known_at <= now
    assert before.quantiles[decided].tolist() == after.quantiles[decided].tolist()
    assert before.judged[decided].tolist() == after.judged[decided].tolist()


@settings(max_examples=60, deadline=None)
@given(data=rows(), cut=st.integers(0, 40), seed=st.integers(0, 99))
def test_two_runs_that_follow_one_another_are_one_and_the_order_of_rows_does_not_matter(
    data: tuple[np.ndarray, np.ndarray, np.ndarray], cut: int, seed: int
) -> None:
    scores, known_at, label_end = data
    whole, parts = AdaptiveConformal(0.5, 0.05), AdaptiveConformal(0.5, 0.05)
    shuffled = np.random.default_rng(seed).permutation(scores.size)
    at_once = whole.run(scores[shuffled], known_at[shuffled], label_end[shuffled])
    for chosen in (known_at <= cut, known_at > cut):
        part = parts.run(scores[chosen], known_at[chosen], label_end[chosen])
        restored = np.empty(scores.size)
        restored[shuffled] = at_once.quantiles
        assert part.quantiles == pytest.approx(restored[chosen])
    whole.settle()
    parts.settle()
    assert whole.quantile == pytest.approx(parts.quantile)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), reach=st.integers(1, 6), growth=st.floats(-3, 3))
def test_the_share_of_misses_is_held_whatever_the_market_does(seed: int, reach: int, growth: float) -> None:
    """Proposition 4.1 of Gibbs and Candès; labels that come late widen its bound by what is on the way."""
    generator, times, level, gamma = np.random.default_rng(seed), 300, 0.8, 0.05
    scores = np.exp(growth * np.linspace(0, 1, times) ** 2) * generator.exponential(size=times)
    found = AdaptiveConformal(level, gamma).run(scores, np.arange(times), np.arange(times) + reach)
    judged = int(found.judged.sum())
    misses = 1.0 - found.covered[found.judged].mean()
    assert abs(misses - (1.0 - level)) <= (1.0 + 2.0 * gamma * (reach + 1)) / (gamma * judged)


def test_where_nothing_changes_the_interval_is_that_of_split_conformal_prediction() -> None:
    scores = np.random.default_rng(0).exponential(size=999)
    conformal = AdaptiveConformal(0.9, 0.0)
    conformal.run(scores, np.zeros(999, dtype=np.int64), np.ones(999, dtype=np.int64))
    conformal.settle()
    assert conformal.interval().quantile == np.sort(scores)[899]


def test_a_market_that_grows_wild_is_followed() -> None:
    generator = np.random.default_rng(1)
    scores = np.abs(generator.normal(size=3000)) * np.repeat([1.0, 2.0], 1500)
    times = np.arange(3000)
    still, adaptive = (AdaptiveConformal(0.9, gamma).run(scores, times, times + 12) for gamma in (0.0, 0.01))
    late = times >= 1500
    assert still.covered[late].mean() < 0.80
    assert adaptive.covered[late].mean() == pytest.approx(0.9, abs=0.02)
    assert AdaptiveConformal(0.9, 0.01).quantile == math.inf


def test_an_interval_needs_as_many_labels_as_its_level() -> None:
    conformal = AdaptiveConformal(0.9)
    conformal.run(np.ones(8), np.arange(8), np.arange(8) + 1)
    conformal.settle()
    with pytest.raises(DataQualityError, match="at least 9 known labels"):
        conformal.interval()
    conformal.run(np.ones(1), np.array([20]), np.array([21]))
    conformal.settle()
    assert conformal.interval() == ReturnInterval(0.9, 1.0, 0.005)


def test_limits_are_symmetric_in_log_price_and_never_below_a_price_of_zero() -> None:
    lower, upper = ReturnInterval(0.9, 1.5, 0.005).apply(np.array([0.01, 5.0]))
    assert np.log1p(lower) == pytest.approx([-0.015, -7.5])
    assert np.log1p(upper) == pytest.approx([0.015, 7.5])
    assert (lower > -1.0).all()


def test_the_level_is_held_by_returns_that_the_interval_was_made_for() -> None:
    generator = np.random.default_rng(2)
    volatility = np.exp(generator.normal(-6.0, 0.5, 4000))
    returns = np.expm1(volatility * generator.standard_t(4, 4000))
    conformal = AdaptiveConformal(0.9)
    conformal.run(conformity_scores(returns[:2000], volatility[:2000]), np.arange(2000), np.arange(2000) + 1)
    conformal.settle()
    lower, upper = conformal.interval().apply(volatility[2000:])
    assert ((lower <= returns[2000:]) & (returns[2000:] <= upper)).mean() == pytest.approx(0.9, abs=0.02)


@settings(max_examples=50, deadline=None)
@given(level=st.floats(0.01, 0.99), quantile=st.floats(1e-6, 1e6), gamma=st.floats(0, 0.99))
def test_an_interval_survives_its_text(level: float, quantile: float, gamma: float) -> None:
    interval = ReturnInterval(level, quantile, gamma)
    assert read_interval(interval_text(interval)) == interval


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "{}",
        '{"format": "levibot-interval/2", "level": 0.9, "quantile": 1.0, "gamma": 0.1}',
        '{"format": "levibot-interval/1", "level": 0.9, "quantile": 1.0}',
        '{"format": "levibot-interval/1", "level": 1.0, "quantile": 1.0, "gamma": 0.1}',
        '{"format": "levibot-interval/1", "level": 0.9, "quantile": 0.0, "gamma": 0.1}',
        '{"format": "levibot-interval/1", "level": 0.9, "quantile": Infinity, "gamma": 0.1}',
        '{"format": "levibot-interval/1", "level": 0.9, "quantile": 1.0, "gamma": NaN}',
        '{"format": "levibot-interval/1", "level": 0.9, "quantile": 1.0, "gamma": -0.1}',
    ],
)
def test_an_interval_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(BundleError):
        read_interval(text)


@pytest.mark.parametrize(("forward_return", "volatility"), [(-1.0, 0.1), (math.nan, 0.1), (0.1, 0.0), (0.1, math.inf)])
def test_scores_need_returns_and_volatilities_that_can_be(forward_return: float, volatility: float) -> None:
    with pytest.raises(DataQualityError):
        conformity_scores(np.array([forward_return]), np.array([volatility]))


def test_the_worst_week_and_month_are_found_among_full_ones() -> None:
    start = int(datetime(2025, 3, 3, tzinfo=UTC).timestamp() * 1000)  # A Monday.
    days = np.arange(58)
    covered = np.ones(58, dtype=bool)
    covered[7:11] = False  # Four days of the second week.
    covered[56:] = False  # The last week has two days only.
    intervals = OnlineIntervals(np.full(58, 2.0), covered, np.ones(58, dtype=bool))
    report = coverage_report(intervals, start + DAY_MS * days)
    assert (report.rows, report.mean_quantile, report.infinite) == (58, 2.0, 0)
    assert report.coverage == pytest.approx(52 / 58)
    assert report.worst_week.start == datetime(2025, 3, 10, tzinfo=UTC)
    assert report.worst_week.coverage == pytest.approx(3 / 7)
    assert (report.worst_month.start, report.worst_month.rows) == (datetime(2025, 3, 1, tzinfo=UTC), 29)


def test_without_a_judged_row_there_is_no_coverage() -> None:
    never = OnlineIntervals(np.full(3, math.inf), np.ones(3, dtype=bool), np.zeros(3, dtype=bool))
    with pytest.raises(DataQualityError):
        coverage_report(never, BAR_MS * np.arange(3))
