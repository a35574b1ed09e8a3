import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import isotonic_regression

from levibot_core.models.calibration import sigmoid
from levibot_core.models.venn_abers import MOST_STEPS, fit_venn_abers


def refitted(scores: np.ndarray, labels: np.ndarray, score: float, label: float) -> float:
    """Isotonic regression on the calibration rows and one more, at that one: the definition."""
    values, places = np.unique(np.append(scores, score), return_inverse=True)
    rows, rises = np.bincount(places), np.bincount(places, weights=np.append(labels, label))
    fitted = isotonic_regression(rises / rows, sample_weight=rows)
    return float(fitted[np.searchsorted(values, score)])


@settings(max_examples=150, deadline=None)
@given(data=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 1)), min_size=1, max_size=40))
def test_both_probabilities_are_those_of_refitting_with_either_label(data: list[tuple[int, int]]) -> None:
    scores = np.array([score for score, _ in data]) / 12.0
    labels = np.array([label for _, label in data], dtype=np.float64)
    calibrator = fit_venn_abers(scores, labels)
    levels = np.unique(scores)
    lower, upper = calibrator.interval(levels)
    assert lower == pytest.approx([refitted(scores, labels, score, 0.0) for score in levels], abs=1e-12)
    assert upper == pytest.approx([refitted(scores, labels, score, 1.0) for score in levels], abs=1e-12)
    assert (lower < upper).all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(2, 300), slope=st.floats(-2, 4))
def test_weighted_levels_give_the_same_as_refitting(seed: int, rows: int, slope: float) -> None:
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 30, rows) / 30.0
    labels = (generator.random(rows) < sigmoid(slope * (scores - 0.5))).astype(np.float64)
    score = float(generator.choice(scores))
    lower, upper = fit_venn_abers(scores, labels).interval(np.array([score]))
    assert lower[0] == pytest.approx(refitted(scores, labels, score, 0.0), abs=1e-12)
    assert upper[0] == pytest.approx(refitted(scores, labels, score, 1.0), abs=1e-12)


def test_many_scores_are_pooled_to_levels_of_about_equally_many_rows() -> None:
    generator = np.random.default_rng(0)
    scores = generator.random(20_000)
    labels = (generator.random(20_000) < scores).astype(np.float64)
    calibrator = fit_venn_abers(scores, labels)
    assert len(calibrator.lower) == MOST_STEPS
    assert len(calibrator.to_json()) < 40_000
    levels = np.searchsorted(np.array(calibrator.edges), scores)
    assert np.bincount(levels).min() > 0.9 * 20_000 / MOST_STEPS
    grid = np.linspace(0.05, 0.95, 50)
    assert calibrator.apply(grid) == pytest.approx(grid, abs=0.07)
    lower, upper = calibrator.interval(grid)
    assert np.median(upper - lower) < 0.02


def test_one_of_both_probabilities_holds_in_the_long_run() -> None:
    """Among rows answered with p0 to p1, the share of rises lies between their means."""
    generator = np.random.default_rng(1)
    logits = generator.normal(size=60_000)
    labels = (generator.random(60_000) < sigmoid(0.4 * logits + 0.3)).astype(np.float64)
    scores = sigmoid(3.0 * logits)
    lower, upper = fit_venn_abers(scores[:3000], labels[:3000]).interval(scores[3000:])
    assert lower.mean() - 0.02 < labels[3000:].mean() < upper.mean() + 0.02


def test_a_score_beyond_all_others_is_answered_like_the_outermost() -> None:
    calibrator = fit_venn_abers(np.array([0.4, 0.5, 0.6]), np.array([0.0, 1.0, 1.0]))
    assert calibrator.apply(np.array([0.0, 1.0])).tolist() == calibrator.apply(np.array([0.4, 0.6])).tolist()


def test_a_single_level_is_answered_with_the_base_rate_and_one_row_more() -> None:
    calibrator = fit_venn_abers(np.full(9, 0.7), np.array([1.0] * 6 + [0.0] * 3))
    assert (calibrator.lower, calibrator.upper) == (pytest.approx((0.6,)), pytest.approx((0.7,)))
    assert calibrator.apply(np.array([0.1]))[0] == pytest.approx(0.7 / 1.1)
