import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from levibot_core.errors import BundleError
from levibot_core.models.calibration import (
    Calibrator,
    IdentityCalibrator,
    IsotonicCalibrator,
    PlattCalibrator,
    calibrator_from_json,
    logit,
    sigmoid,
)
from levibot_core.models.calibration_fitting import fit_isotonic, fit_platt
from levibot_core.models.venn_abers import VennAbersCalibrator, fit_venn_abers

scores = arrays(np.float64, st.integers(2, 40), elements=st.floats(0, 1))


@st.composite
def labelled_scores(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Scores and labels with both classes."""
    raw = draw(scores)
    labels = np.array(draw(st.lists(st.integers(0, 1), min_size=raw.size, max_size=raw.size)), dtype=np.float64)
    labels[0], labels[1] = 0.0, 1.0
    return raw, labels


def simulated(slope: float, rows: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores whose logit has to be multiplied by `slope` to be right, and labels."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(scale=0.8, size=rows)
    return sigmoid(logits), (generator.random(rows) < sigmoid(slope * logits + 0.1)).astype(np.float64)


@settings(max_examples=40, deadline=None)
@given(data=labelled_scores())
def test_fitted_calibrators_are_probabilities_that_never_fall_and_survive_json(
    data: tuple[np.ndarray, np.ndarray],
) -> None:
    raw, labels = data
    grid = np.sort(np.concatenate([np.linspace(0, 1, 50), raw]))
    calibrators: list[Calibrator] = [fit_platt(raw, labels), fit_isotonic(raw, labels), fit_venn_abers(raw, labels)]
    for calibrator in calibrators:
        calibrated = calibrator.apply(grid)
        assert ((calibrated >= 0) & (calibrated <= 1)).all()
        assert (np.diff(calibrated) >= -1e-12).all()
        restored = calibrator_from_json(calibrator.to_json())
        assert restored == calibrator
        assert restored.apply(grid).tobytes() == calibrated.tobytes()
    for never_certain in calibrators[1:]:
        calibrated = never_certain.apply(grid)
        assert ((calibrated > 0) & (calibrated < 1)).all()


@pytest.mark.parametrize("slope", [0.3, 1.0, 2.0])
def test_platt_finds_the_curve_that_made_the_labels(slope: float) -> None:
    fitted = fit_platt(*simulated(slope, rows=40_000))
    assert fitted.slope == pytest.approx(slope, abs=0.06)
    assert fitted.intercept == pytest.approx(0.1, abs=0.05)


def test_platt_agrees_with_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    raw, labels = simulated(0.5)
    reference = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logit(raw)[:, None], labels)
    fitted = fit_platt(raw, labels)
    assert fitted.slope == pytest.approx(reference.coef_[0, 0], abs=2e-3)
    assert fitted.intercept == pytest.approx(reference.intercept_[0], abs=2e-3)


def test_platt_never_inverts_a_model_that_is_wrong_but_makes_it_constant() -> None:
    raw, labels = simulated(-1.0)
    fitted = fit_platt(raw, labels)
    assert fitted.slope == 0.0
    assert fitted.apply(raw) == pytest.approx(np.full(raw.size, labels.mean()), abs=1e-3)


def test_platt_of_a_constant_score_is_the_base_rate() -> None:
    labels = np.array([1.0, 0.0, 0.0, 0.0] * 100)
    fitted = fit_platt(np.full(400, 0.7), labels)
    assert fitted.slope == 0.0
    assert fitted.apply(np.array([0.7]))[0] == pytest.approx(0.25, abs=5e-3)


def test_platt_stays_finite_where_scores_separate_the_classes() -> None:
    fitted = fit_platt(np.array([0.1, 0.2, 0.8, 0.9]), np.array([0.0, 0.0, 1.0, 1.0]))
    assert np.isfinite(fitted.slope)
    assert fitted.apply(np.array([0.0, 1.0])) == pytest.approx([0.0, 1.0], abs=1e-3)


def test_isotonic_agrees_with_scikit_learn_up_to_the_drawing_in() -> None:
    from sklearn.isotonic import IsotonicRegression

    raw, labels = simulated(1.0, rows=20_000)
    reference = IsotonicRegression(out_of_bounds="clip").fit(raw, labels)
    grid = np.quantile(raw, np.linspace(0.05, 0.95, 50))
    assert fit_isotonic(raw, labels).apply(grid) == pytest.approx(reference.predict(grid), abs=0.02)


def test_isotonic_is_never_certain_after_a_few_rows_of_one_class() -> None:
    fitted = fit_isotonic(np.array([0.1, 0.2, 0.3, 0.9]), np.array([0.0, 0.0, 0.0, 1.0]))
    rate = 2 / 6
    assert fitted.probabilities == pytest.approx((2 * rate / 5, 2 * rate / 5, (1 + 2 * rate) / 3))


def test_isotonic_of_a_wrong_model_is_constant() -> None:
    fitted = fit_isotonic(np.array([0.1, 0.2, 0.8, 0.9]), np.array([1.0, 1.0, 0.0, 0.0]))
    assert set(fitted.probabilities) == {0.5}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "{}",
        '{"method": "venn_abers"}',
        '{"method": "venn_abers", "edges": [], "lower": [], "upper": []}',
        '{"method": "venn_abers", "edges": [], "lower": [0.4], "upper": [0.3]}',
        '{"method": "venn_abers", "edges": [], "lower": [1.0], "upper": [1.0]}',
        '{"method": "venn_abers", "edges": [0.2, 0.1], "lower": [0.1, 0.2, 0.3], "upper": [0.4, 0.5, 0.6]}',
        '{"method": "venn_abers", "edges": [0.1], "lower": [0.2, 0.1], "upper": [0.4, 0.5]}',
        '{"method": "venn_abers", "edges": [0.1], "lower": [0.1, 0.2], "upper": [0.4]}',
        '{"method": "platt", "slope": 1.0}',
        '{"method": "platt", "slope": -1.0, "intercept": 0.0}',
        '{"method": "platt", "slope": NaN, "intercept": 0.0}',
        '{"method": "platt", "slope": "1.0", "intercept": 0.0}',
        '{"method": "isotonic", "scores": [], "probabilities": []}',
        '{"method": "isotonic", "scores": [0.1, 0.1], "probabilities": [0.2, 0.3]}',
        '{"method": "isotonic", "scores": [0.1, 0.2], "probabilities": [0.3, 0.2]}',
        '{"method": "isotonic", "scores": [0.1, 0.2], "probabilities": [0.0, 0.2]}',
        '{"method": "isotonic", "scores": [0.1], "probabilities": [0.2, 0.3]}',
        '{"method": "isotonic", "scores": [[0.1]], "probabilities": [0.2]}',
    ],
)
def test_a_calibrator_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(BundleError):
        calibrator_from_json(text)


def test_the_identity_leaves_scores_alone() -> None:
    raw = np.array([0.0, 0.3, 1.0])
    assert IdentityCalibrator().apply(raw).tolist() == raw.tolist()
    assert calibrator_from_json(IdentityCalibrator().to_json()) == IdentityCalibrator()


def test_extreme_logits_neither_overflow_nor_leave_the_unit_interval() -> None:
    assert sigmoid(np.array([-1e9, -40.0, 0.0, 40.0, 1e9])) == pytest.approx([0, 0, 0.5, 1, 1])
    assert np.isfinite(logit(np.array([0.0, 1.0]))).all()
    assert PlattCalibrator(50.0, 0.0).apply(np.array([0.0, 1.0])) == pytest.approx([0.0, 1.0])
    assert IsotonicCalibrator((0.5,), (0.4,)).apply(np.array([0.0, 1.0])).tolist() == [0.4, 0.4]
    assert VennAbersCalibrator((), (0.2,), (0.4,)).apply(np.array([0.0, 1.0])) == pytest.approx([1 / 3, 1 / 3])
