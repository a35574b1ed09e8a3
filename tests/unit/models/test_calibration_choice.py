"""Choosing a calibrator, and how little of a fit is kept where rows are few observations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levibot_core.errors import DataQualityError
from levibot_core.models.calibration import PlattCalibrator, logit, sigmoid
from levibot_core.models.calibration_fitting import (
    CalibrationChoice,
    evidence_of,
    fit_calibrator,
    fit_cautious_platt,
    fit_platt,
    purged_blocks,
)
from levibot_core.models.metrics import log_losses

BAR_MS = 300_000


def chosen(scores: np.ndarray, labels: np.ndarray, horizon: int = 1) -> CalibrationChoice:
    known_at_ms = BAR_MS * np.arange(scores.size)
    return fit_calibrator(scores, labels, known_at_ms, known_at_ms + horizon * BAR_MS)


def test_platt_is_kept_where_nothing_is_clearly_better() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(scale=0.8, size=3000)
    labels = (generator.random(3000) < sigmoid(logits)).astype(np.float64)
    choice = chosen(sigmoid(logits), labels)
    assert choice.calibrator.method == "platt"
    assert set(choice.validation_loss) == {"none", "platt", "isotonic", "venn_abers"}


def test_a_step_that_no_logistic_curve_has_is_left_to_another_method() -> None:
    generator = np.random.default_rng(2)
    scores = generator.random(8000)
    labels = (generator.random(8000) < np.where(scores > 0.5, 0.9, 0.2)).astype(np.float64)
    choice = chosen(scores, labels)
    assert choice.calibrator.method in ("isotonic", "venn_abers")
    assert choice.validation_loss[choice.calibrator.method] < choice.validation_loss["platt"] - 0.01


def test_the_order_of_rows_does_not_matter() -> None:
    generator = np.random.default_rng(3)
    scores = generator.random(900)
    labels = (generator.random(900) < scores).astype(np.float64)
    known_at_ms = BAR_MS * (np.arange(900) // 3)
    shuffled = generator.permutation(900)
    straight = fit_calibrator(scores, labels, known_at_ms, known_at_ms + 4 * BAR_MS)
    mixed = fit_calibrator(
        scores[shuffled], labels[shuffled], known_at_ms[shuffled], known_at_ms[shuffled] + 4 * BAR_MS
    )
    assert mixed.calibrator.method == straight.calibrator.method
    assert mixed.validation_loss == pytest.approx(straight.validation_loss)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 80), st.integers(1, 12)), min_size=1, max_size=60), blocks=st.integers(1, 6)
)
def test_no_label_of_the_fit_overlaps_one_of_the_block_and_every_other_row_is_used(
    rows: list[tuple[int, int]], blocks: int
) -> None:
    known_at, reach = (np.array(column) for column in zip(*rows, strict=True))
    label_end = known_at + reach
    scored = []
    for fit_on, block in purged_blocks(known_at, label_end, blocks):
        first, last_end = known_at[block].min(), label_end[block].max()
        apart = (label_end <= first) | (known_at >= last_end)
        assert np.flatnonzero(apart).tolist() == fit_on.tolist()
        assert fit_on.size > 0
        scored += block.tolist()
    assert len(scored) == len(set(scored))


def test_rows_that_span_less_than_a_label_are_refused() -> None:
    with pytest.raises(DataQualityError, match="labels of 50 bars"):
        chosen(np.linspace(0.1, 0.9, 20), np.arange(20) % 2.0, 50)


def cautious(scores: np.ndarray, labels: np.ndarray, horizon: int = 1) -> PlattCalibrator:
    known_at_ms = BAR_MS * np.arange(scores.size)
    return fit_cautious_platt(scores, labels, evidence_of(known_at_ms, known_at_ms + horizon * BAR_MS))


def test_the_trend_of_a_few_weeks_and_noise_are_not_served() -> None:
    """Scores without skill: fitted on rows whose labels share most of their future, served on later ones."""
    generator = np.random.default_rng(5)
    horizon, rows = 48, 2400
    costs = []
    for _ in range(30):
        path = np.cumsum(generator.normal(size=2 * rows + horizon))
        labels = (path[horizon:] > path[:-horizon]).astype(np.float64)
        scores = sigmoid(0.05 * np.convolve(generator.normal(size=labels.size + 47), np.ones(48), "valid") / 7.0)
        fitted, shrunk = fit_platt(scores[:rows], labels[:rows]), cautious(scores[:rows], labels[:rows], horizon)
        later = labels[rows:]
        costs.append([log_losses(each.apply(scores[rows:]), later).mean() - np.log(2.0) for each in (fitted, shrunk)])
    plain, after = np.mean(costs, axis=0)
    assert after < 0.1 * plain


def test_a_clear_signal_is_corrected_as_a_plain_fit_does() -> None:
    generator = np.random.default_rng(6)
    logits = generator.normal(size=20_000)
    labels = (generator.random(20_000) < sigmoid(0.9 * logits - 0.4)).astype(np.float64)
    fitted, shrunk = fit_platt(sigmoid(logits), labels), cautious(sigmoid(logits), labels)
    assert shrunk.slope == pytest.approx(fitted.slope, abs=0.03)
    assert shrunk.intercept == pytest.approx(fitted.intercept, abs=0.05)


@pytest.mark.parametrize("exaggeration", [0.0, 0.2, -1.0])
def test_a_model_that_exaggerates_or_is_wrong_does_not_lose_much_to_the_base_rate(exaggeration: float) -> None:
    generator = np.random.default_rng(7)
    logits = generator.normal(size=6000)
    labels = (generator.random(6000) < sigmoid(exaggeration * logits)).astype(np.float64)
    scores = sigmoid(logits)
    shrunk = cautious(scores[:3000], labels[:3000])
    lost = log_losses(shrunk.apply(scores[3000:]), labels[3000:]).mean() - np.log(2.0)
    raw = log_losses(scores[3000:], labels[3000:]).mean() - np.log(2.0)
    assert raw > 0.05
    assert lost < 0.004


def test_too_few_times_to_tell_leave_the_expectation_that_scores_are_worth_half() -> None:
    scores, labels = np.array([0.2, 0.8, 0.4, 0.6]), np.array([1.0, 1.0, 0.0, 1.0])
    assert cautious(scores, labels, horizon=48).apply(scores) == pytest.approx(sigmoid(0.5 * logit(scores)), abs=0.01)


@settings(max_examples=40, deadline=None)
@given(markets=st.integers(1, 4), times=st.integers(2, 40), reach=st.integers(1, 8))
def test_all_rows_together_are_as_much_evidence_as_labels_that_do_not_overlap(
    markets: int, times: int, reach: int
) -> None:
    known_at = np.repeat(np.arange(times), markets)
    assert evidence_of(known_at, known_at + reach).sum() == pytest.approx(times / reach)
