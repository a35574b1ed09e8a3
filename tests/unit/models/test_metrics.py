import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr
from sklearn import metrics as reference

from levibot_core.errors import DataQualityError
from levibot_core.models.metrics import (
    BANDWIDTH_PER_OVERLAP,
    classification_metrics,
    expected_calibration_error,
    log_losses,
    mean_with_interval,
    paired_log_loss_difference,
    reliability_curve,
)


@st.composite
def forecasts(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Forecasts, often equal ones, and labels of both classes."""
    rows = draw(st.integers(2, 60))
    values = st.floats(0.01, 0.99) | st.sampled_from([0.25, 0.5, 0.75])
    p = np.array(draw(st.lists(values, min_size=rows, max_size=rows)))
    y = np.array(draw(st.lists(st.integers(0, 1), min_size=rows, max_size=rows)))
    y[0], y[1] = 0, 1
    return p, y


@settings(max_examples=80, deadline=None)
@given(data=forecasts())
def test_scores_agree_with_scikit_learn(data: tuple[np.ndarray, np.ndarray]) -> None:
    p, y = data
    scores = classification_metrics(p, y)
    assert scores["auc"] == pytest.approx(reference.roc_auc_score(y, p))
    assert scores["pr_auc"] == pytest.approx(reference.average_precision_score(y, p))
    assert scores["accuracy"] == pytest.approx(reference.accuracy_score(y, p >= 0.5))
    assert scores["kappa"] == pytest.approx(reference.cohen_kappa_score(y, p >= 0.5), abs=1e-12)
    assert scores["log_loss"] == pytest.approx(reference.log_loss(y, p))
    assert scores["brier"] == pytest.approx(reference.brier_score_loss(y, p))
    assert scores["base_rate"] == pytest.approx(y.mean())
    assert scores["rows"] == y.size


def test_a_constant_forecast_has_no_skill_and_finite_scores() -> None:
    y = np.array([1, 0, 0, 0] * 25)
    scores = classification_metrics(np.full(100, 0.25), y)
    assert (scores["auc"], scores["pr_auc"], scores["kappa"]) == (0.5, 0.25, 0.0)
    assert scores["ece"] == pytest.approx(0.0)
    assert scores["hit_rate"] == 0.75
    assert "hit_rate" not in classification_metrics(np.full(100, 0.5), y)


@pytest.mark.parametrize("labels", [[], [1, 1, 1], [0, 0]])
def test_rows_of_one_class_cannot_be_scored(labels: list[int]) -> None:
    with pytest.raises(DataQualityError, match="both classes"):
        classification_metrics(np.full(len(labels), 0.5), np.array(labels))


def test_hits_are_counted_among_called_rows_only() -> None:
    p = np.array([0.55, 0.45, 0.60, 0.50, 0.54])
    y = np.array([1, 0, 0, 1, 0])
    scores = classification_metrics(p, y)
    assert scores["calls_share"] == pytest.approx(3 / 5)
    assert scores["hit_rate"] == pytest.approx(2 / 3)


def test_certain_forecasts_that_are_wrong_have_a_finite_loss() -> None:
    assert np.isfinite(log_losses(np.array([0.0, 1.0]), np.array([1, 0]))).all()


def test_calibration_error_weighs_bins_of_equal_width() -> None:
    p = np.array([0.05, 0.05, 0.95, 1.0])
    y = np.array([0, 1, 1, 1])
    assert expected_calibration_error(p, y) == pytest.approx((2 * 0.45 + 2 * 0.025) / 4)
    assert expected_calibration_error(np.array([0.1, 0.1]), np.array([0, 0])) == pytest.approx(0.1)


@settings(max_examples=50, deadline=None)
@given(data=forecasts())
def test_a_reliability_curve_holds_every_row_once(data: tuple[np.ndarray, np.ndarray]) -> None:
    p, y = data
    curve = reliability_curve(p, y)
    counts = np.array(curve.counts)
    assert counts.sum() == y.size
    assert 1 <= counts.size <= 10
    assert np.array(curve.observed) @ counts == pytest.approx(y.sum())
    assert np.array(curve.predicted) @ counts == pytest.approx(p.sum())
    assert list(curve.predicted) == sorted(curve.predicted)


def test_without_dependence_the_standard_error_is_the_textbook_one() -> None:
    values = np.random.default_rng(0).normal(size=500)
    found = mean_with_interval(values, np.arange(500), lag=0)
    assert found.mean == pytest.approx(values.mean())
    assert found.standard_error == pytest.approx(values.std() / np.sqrt(500))


def test_the_standard_error_is_the_double_sum_of_newey_and_west() -> None:
    values = np.convolve(np.random.default_rng(1).normal(size=200), np.ones(6), "valid")
    lag, rows = 12, values.size
    distance = np.abs(np.arange(rows)[:, None] - np.arange(rows)[None, :])
    weights = np.maximum(0.0, 1.0 - distance / (lag + 1))
    residuals = values - values.mean()
    expected = np.sqrt(residuals @ weights @ residuals) / rows
    assert mean_with_interval(values, np.arange(rows), lag).standard_error == pytest.approx(expected)


def test_rows_of_one_time_count_as_one_observation() -> None:
    values = np.random.default_rng(2).normal(size=400)
    once = mean_with_interval(values, np.arange(400), 5)
    thrice = mean_with_interval(np.tile(values, 3), np.tile(np.arange(400), 3), 5)
    assert thrice.mean == pytest.approx(once.mean)
    assert thrice.standard_error == pytest.approx(once.standard_error)


def test_the_order_of_rows_does_not_matter() -> None:
    generator = np.random.default_rng(3)
    values, times = generator.normal(size=300), np.repeat(np.arange(150), 2)
    shuffled = generator.permutation(300)
    ordered, mixed = mean_with_interval(values, times, 4), mean_with_interval(values[shuffled], times[shuffled], 4)
    assert mixed.mean == pytest.approx(ordered.mean)
    assert mixed.standard_error == pytest.approx(ordered.standard_error)


@pytest.mark.parametrize("kind", ["overlapping labels", "autoregression"])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(kind: str) -> None:
    generator, overlap, bars, symbols, markets = np.random.default_rng(4), 12, 1500, 3, 300
    hits = 0
    for _ in range(markets):
        shared, own = generator.normal(size=bars + overlap), generator.normal(size=(symbols, bars + overlap))
        shocks = 0.8 * shared + 0.6 * own
        if kind == "overlapping labels":
            values = np.stack([np.convolve(row, np.ones(overlap) / overlap, "valid")[:bars] for row in shocks])
        else:
            values = np.empty((symbols, bars))
            values[:, 0] = shocks[:, 0]
            for bar in range(1, bars):
                values[:, bar] = 0.7 * values[:, bar - 1] + shocks[:, bar]
        found = mean_with_interval(values.ravel(), np.tile(np.arange(bars), symbols), BANDWIDTH_PER_OVERLAP * overlap)
        hits += found.lower_95 <= 0.0 <= found.upper_95
    assert 0.90 <= hits / markets <= 0.99


@pytest.mark.parametrize("share", [0.02, 0.2, 1.0])
def test_the_truth_is_above_the_upper_bound_once_in_a_thousand(share: float) -> None:
    # The mean of white noise is independent of its standard error: how likely the bound holds is known of every series.
    generator, bars, series = np.random.default_rng(9), 200, 1500
    missed = []
    for _ in range(series):
        found = mean_with_interval(generator.normal(size=bars), np.arange(bars), round(share * bars) - 1)
        missed.append(1.0 - ndtr((found.upper_999 - found.mean) * np.sqrt(bars)))
    assert np.mean(missed) == pytest.approx(0.001, rel=0.3)


def test_a_better_forecaster_has_a_difference_below_zero() -> None:
    generator = np.random.default_rng(5)
    truth = generator.uniform(0.3, 0.7, 3000)
    y = (generator.random(3000) < truth).astype(int)
    times = np.repeat(np.arange(1000), 3)
    better = paired_log_loss_difference(truth, np.full(3000, 0.5), y, 1, times)
    assert better.upper_95 < 0.0
    worse = paired_log_loss_difference(np.full(3000, 0.5), truth, y, 1, times)
    assert worse.mean == pytest.approx(-better.mean)
    assert worse.lower_95 > 0.0


def test_a_forecaster_compared_with_itself_is_no_better() -> None:
    p = np.array([0.4, 0.6, 0.5])
    found = paired_log_loss_difference(p, p, np.array([0, 1, 1]), 12, np.arange(3))
    assert (found.mean, found.standard_error, found.lower_95, found.upper_95) == (0.0, 0.0, 0.0, 0.0)


def test_one_time_is_too_few_to_compare_on() -> None:
    with pytest.raises(DataQualityError, match="two times"):
        mean_with_interval(np.ones(3), np.zeros(3), 1)
