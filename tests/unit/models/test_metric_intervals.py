import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levibot_core.errors import DataQualityError
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY
from levibot_core.models.block_bootstrap import BlockBootstrap
from levibot_core.models.metric_intervals import metric_intervals, reliability_band
from levibot_core.models.metrics import classification_metrics

BAR_MS = 300_000


def weights_of(bootstrap: BlockBootstrap) -> np.ndarray:
    return np.concatenate(list(bootstrap.time_weights()))


@settings(max_examples=40, deadline=None)
@given(times=st.integers(2, 60), block=st.integers(1, 30), seed=st.integers(0, 99))
def test_a_draw_is_as_long_as_the_rows_and_made_of_whole_blocks(times: int, block: int, seed: int) -> None:
    step = MILLISECONDS_PER_DAY // block
    bootstrap = BlockBootstrap(step * np.arange(times), 0, seed, resamples=20)
    weights = weights_of(bootstrap)
    assert weights.shape == (20, times)
    assert (weights.sum(axis=1) == times).all()
    # Round the circle, a draw goes up or down only where one of its blocks begins or ends.
    changes = np.abs(weights - np.roll(weights, 1, axis=1)).sum(axis=1)
    assert (changes <= 2 * -(-times // bootstrap.block)).all()
    assert bootstrap.block <= max(1, times // 5)


def test_blocks_are_a_day_long_or_as_long_as_a_label_reaches() -> None:
    times = BAR_MS * np.arange(30 * 288)
    assert BlockBootstrap(times, 12 * BAR_MS, 0).block == 288
    assert BlockBootstrap(times, 3 * MILLISECONDS_PER_DAY, 0).block == 3 * 288


def test_the_same_seed_draws_the_same_and_every_time_equally_often() -> None:
    times = np.arange(50)
    weights = weights_of(BlockBootstrap(times, 1, 3, resamples=4000))
    assert (weights == weights_of(BlockBootstrap(times, 1, 3, resamples=4000))).all()
    assert (weights != weights_of(BlockBootstrap(times, 1, 4, resamples=4000))).any()
    assert weights.mean(axis=0) == pytest.approx(np.ones(50), abs=0.12)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), ties=st.booleans())
def test_every_resampled_score_is_the_score_of_the_rows_drawn(seed: int, ties: bool) -> None:
    generator = np.random.default_rng(seed)
    p = generator.random(90)
    p = np.round(p, 1) if ties else p
    y = np.append(generator.integers(0, 2, 88), [0, 1])
    times = np.arange(90) // 2
    bootstrap = BlockBootstrap(times, 1, seed, resamples=40)
    found = metric_intervals(p, y, bootstrap)
    drawn = []
    for weights in weights_of(bootstrap):
        rows = np.repeat(np.arange(90), weights[times].astype(int))
        drawn.append(classification_metrics(p[rows], y[rows]))
    for name in ("auc", "log_loss", "brier"):
        expected = np.quantile([scores[name] for scores in drawn], [0.025, 0.975])
        assert (found[name].lower_95, found[name].upper_95) == pytest.approx(tuple(expected))
    assert found["ece"].upper_95 == pytest.approx(np.quantile([scores["ece"] for scores in drawn], 0.975))
    for name, score in classification_metrics(p, y).items():
        if name in found:
            assert found[name].value == pytest.approx(score)


def test_intervals_cover_the_truth_although_labels_overlap() -> None:
    """Two symbols that move together, labels over 6 bars: rows taken one by one would be far too sure."""
    generator, bars, overlap, markets = np.random.default_rng(0), 1200, 6, 60
    times = np.repeat(np.arange(bars) * (MILLISECONDS_PER_DAY // 24), 2)
    hits = naive_hits = 0
    for market in range(markets):
        path = np.convolve(generator.normal(size=bars + overlap), np.ones(overlap), "valid")[:bars]
        y = (np.repeat(path, 2) + 0.3 * generator.normal(size=2 * bars) > 0).astype(float)
        p = np.full(2 * bars, 0.4)
        found = BlockBootstrap(times, overlap, market, resamples=300).mean((p - y) ** 2)
        hits += found.lower_95 <= 0.26 <= found.upper_95
        naive_hits += abs(found.value - 0.26) <= 1.96 * ((p - y) ** 2).std() / np.sqrt(y.size)
    assert naive_hits / markets < 0.75 < 0.85 <= hits / markets


def test_a_calibrated_forecast_may_have_no_calibration_error_and_a_wrong_one_has() -> None:
    generator = np.random.default_rng(1)
    p = 0.5 + 0.05 * generator.normal(size=6000)
    times = BAR_MS * 12 * (np.arange(6000) // 3)
    y = (generator.random(6000) < p).astype(float)
    right, wrong = (metric_intervals(q, y, BlockBootstrap(times, BAR_MS, 0)) for q in (p, p + 0.1))
    for name in ("ece", "ece_equal_count", "ece_debiased"):
        assert right[name].lower_95 == 0.0
        assert wrong[name].lower_95 > 0.03
        assert wrong[name].lower_95 < 0.1 < wrong[name].upper_95
    assert right["ece_debiased"].value < right["ece_equal_count"].value
    assert wrong["ece_debiased"].value == pytest.approx(0.1, abs=0.015)


def test_the_band_of_a_calibrated_forecast_holds_the_diagonal() -> None:
    generator = np.random.default_rng(2)
    p = generator.uniform(0.3, 0.7, 6000)
    y = (generator.random(6000) < p).astype(float)
    band = reliability_band(p, y, BlockBootstrap(BAR_MS * 12 * (np.arange(6000) // 3), BAR_MS, 0))
    lower, upper, predicted = (np.array(side) for side in (band.lower_95, band.upper_95, band.curve.predicted))
    assert (lower < band.curve.observed).all()
    assert (band.curve.observed < upper).all()
    assert ((lower <= predicted) & (predicted <= upper)).mean() >= 0.8


def test_one_time_is_too_few_to_resample() -> None:
    with pytest.raises(DataQualityError, match="two times"):
        BlockBootstrap(np.zeros(5), 1, 0)
