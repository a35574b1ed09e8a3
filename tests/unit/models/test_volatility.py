import json
from collections.abc import Callable

import numpy as np
import pytest

from levibot_core.errors import BundleError, DataQualityError, MissingFeatureError
from levibot_core.models.booster_text import check_booster_text
from levibot_core.models.volatility import VolatilitySettings, read_volatility, volatility_settings_text
from levibot_core.models.volatility_baselines import (
    DiurnalPattern,
    HarModel,
    ewma_volatility,
    qlike,
    trailing_volatility,
)
from levibot_core.models.volatility_fitting import TrainedVolatility, train_volatility

FEATURES = ("calm", "noise")
Rows = tuple[np.ndarray, np.ndarray]


def made_up(rows: int, seed: int) -> Rows:
    """A matrix, and volatilities whose logarithm follows its first column with an error of 0.4."""
    generator = np.random.default_rng(seed)
    matrix = np.column_stack([generator.normal(size=(rows, 2)), generator.integers(0, 2, rows)])
    return matrix, np.exp(-6.0 - 0.7 * matrix[:, 0] + 0.2 * matrix[:, 2] + 0.4 * generator.normal(size=rows))


@pytest.fixture(scope="module")
def trained() -> TrainedVolatility:
    return train_volatility(made_up(4000, 0), made_up(2000, 1), FEATURES, 12, seed=7, max_rounds=150)


def test_the_forecast_is_positive_and_of_its_square_there_is_no_bias(trained: TrainedVolatility) -> None:
    matrix, volatility = made_up(20_000, 2)
    forecast = trained.head().predict(matrix)
    assert forecast.dtype == np.float64
    assert (forecast > 0.0).all()
    assert np.mean((volatility / forecast) ** 2) == pytest.approx(1.0, abs=0.06)
    # The bare exponential forecasts the median, and the smearing factor is what normal errors of 0.4 ask for.
    assert json.loads(trained.settings_text)["smearing"] == pytest.approx(np.exp(0.4**2), rel=0.05)
    assert trained.validation_rmse == pytest.approx(0.4, rel=0.1)
    assert np.corrcoef(np.log(forecast), -matrix[:, 0])[0, 1] > 0.9


def test_the_same_seed_gives_the_same_texts_with_one_thread_and_with_two() -> None:
    train, later = made_up(600, 0), made_up(300, 1)
    once, again, twice, other = (
        train_volatility(train, later, FEATURES, 12, seed=seed, threads=threads, max_rounds=4)
        for seed, threads in ((7, 1), (7, 1), (7, 2), (8, 1))
    )
    assert once == again == twice
    assert once != other


def test_the_texts_give_the_same_forecasts(trained: TrainedVolatility) -> None:
    head, matrix = trained.head(), made_up(50, 3)[0]
    assert volatility_settings_text(head.settings) == trained.settings_text
    restored = read_volatility(trained.booster_text, volatility_settings_text(head.settings))
    assert restored.predict(matrix).tobytes() == head.predict(matrix).tobytes()
    assert head.settings.features == FEATURES


def test_a_missing_feature_is_never_answered_with_a_guess(trained: TrainedVolatility) -> None:
    with pytest.raises(MissingFeatureError):
        trained.head().predict(np.array([[np.nan, 0.0, 0.0]]))


def test_rows_without_a_trade_are_left_out_and_nothing_else_is_an_error() -> None:
    matrix, volatility = made_up(500, 4)
    with_halts = np.where(np.arange(500) % 5 == 0, 0.0, volatility)
    traded = with_halts > 0.0
    later = made_up(200, 5)
    found = train_volatility((matrix, with_halts), later, FEATURES, 12, seed=1, max_rounds=5)
    assert found == train_volatility((matrix[traded], volatility[traded]), later, FEATURES, 12, seed=1, max_rounds=5)
    with pytest.raises(DataQualityError, match="validation rows"):
        train_volatility((matrix, volatility), (matrix, np.zeros(500)), FEATURES, 12, seed=1)


@pytest.mark.parametrize(
    "change",
    [
        lambda settings: settings[:-9],
        lambda settings: settings.replace("levibot-volatility/1", "levibot-volatility/2"),
        lambda settings: settings.replace('"calm"', '"other"'),
        lambda settings: settings.replace('"calm"', "1"),
        lambda settings: settings.replace('"horizon_bars": 12', '"horizon_bars": 0'),
        lambda settings: settings.replace('"smearing": ', '"smearing": -'),
        lambda settings: settings.replace('"smearing": ', '"lost": '),
    ],
)
def test_settings_that_cannot_be_are_refused(trained: TrainedVolatility, change: Callable[[str], str]) -> None:
    with pytest.raises(BundleError):
        read_volatility(trained.booster_text, change(trained.settings_text))


def test_a_classifier_is_no_volatility_head_and_the_head_no_classifier(trained: TrainedVolatility) -> None:
    with pytest.raises(BundleError, match="objective"):
        check_booster_text(trained.booster_text, (*FEATURES, "symbol_code"))
    classifier = trained.booster_text.replace("objective=regression\n", "objective=binary sigmoid:1\n")
    with pytest.raises(BundleError, match="objective"):
        read_volatility(classifier, trained.settings_text)
    with pytest.raises(BundleError, match="smearing"):
        VolatilitySettings(12, FEATURES, 0.0)


def test_qlike_is_zero_for_the_truth_and_punishes_too_little_more_than_too_much() -> None:
    realized = np.array([0.01, 0.02, 0.03])
    assert qlike(realized, realized) == pytest.approx(np.zeros(3))
    assert (qlike(realized, realized / 2) > qlike(realized, realized * 2)).all()
    assert qlike(np.array([2.0]), np.array([1.0]))[0] == pytest.approx(4.0 - np.log(4.0) - 1.0)
    with pytest.raises(DataQualityError, match="forecast"):
        qlike(realized, np.array([0.01, 0.0, 0.02]))


def test_qlike_is_lowest_at_the_root_of_the_mean_variance() -> None:
    realized = np.exp(np.random.default_rng(0).normal(size=5000))
    best = float(np.sqrt(np.mean(realized**2)))
    losses = [qlike(realized, np.full(5000, best * factor)).mean() for factor in (0.95, 1.0, 1.05)]
    assert losses[1] == min(losses)


def test_ewma_is_the_weighted_sum_of_squares_and_skips_missing_bars() -> None:
    returns = np.array([np.nan, 0.01, 0.03, np.nan, -0.02])
    first, second = 0.01**2, 0.94 * 0.01**2 + 0.06 * 0.03**2
    last = 0.94 * second + 0.06 * 0.02**2
    found = ewma_volatility(returns, horizon_bars=4)
    assert np.isnan(found[0])
    assert found[1:] == pytest.approx(np.sqrt(4 * np.array([first, second, second, last])))


def test_the_trailing_volatility_needs_every_bar_and_some_move() -> None:
    found = trailing_volatility(np.array([0.0, 0.0, 0.03, 0.04, np.nan, 0.01]), 2)
    assert found == pytest.approx([np.nan, np.nan, 0.03 / np.sqrt(2), 0.05 / np.sqrt(2), np.nan, np.nan], nan_ok=True)


def test_har_finds_the_coefficients_that_made_the_market() -> None:
    generator = np.random.default_rng(1)
    returns = np.exp(0.3 * np.cumsum(generator.normal(size=4000)) / 8.0 - 6.0) * generator.normal(size=4000)
    logs = [np.log(trailing_volatility(returns, bars)) for bars in (6, 24)]
    realized = np.exp(0.5 + 0.6 * logs[0] + 0.3 * logs[1] + 0.2 * generator.normal(size=4000))
    model = HarModel.fit(returns, realized, (6, 24), 12)
    assert model.coefficients == pytest.approx([0.5, 0.6, 0.3], abs=0.15)
    assert model.smearing == pytest.approx(np.exp(0.2**2), rel=0.02)
    forecast = model.predict(returns)
    assert np.isnan(forecast[:23]).all()
    assert (forecast[23:] > 0.0).all()
    assert np.nanmean((realized / forecast)[23:] ** 2) == pytest.approx(1.0, abs=0.02)
    with pytest.raises(DataQualityError, match="at least 30 rows"):
        HarModel.fit(returns[:40], realized[:40], (6, 24), 12)
    with pytest.raises(DataQualityError, match="rising length"):
        HarModel.fit(returns, realized, (24, 6), 12)


def test_the_pattern_of_the_day_is_found_and_looks_ahead_over_midnight() -> None:
    generator, bars_per_day = np.random.default_rng(2), 24
    place = np.arange(24 * 400) % bars_per_day
    loud = np.where(place < 12, 2.0, 1.0)
    pattern = DiurnalPattern.fit(0.01 * loud * generator.normal(size=place.size), place, bars_per_day, smooth_bars=0)
    assert np.mean(pattern.factors**2) == pytest.approx(1.0)
    assert pattern.factors[:12].mean() / pattern.factors[12:].mean() == pytest.approx(2.0, rel=0.03)
    ahead = pattern.ahead(np.array([22, 23]), 3)
    squares = pattern.factors**2
    assert ahead**2 == pytest.approx([(squares[23] + squares[0] + squares[1]) / 3, squares[:3].mean()])
    whole_days = pattern.ahead(np.arange(24), 72)
    assert whole_days == pytest.approx(np.ones(24))
    with pytest.raises(DataQualityError, match="every time of the day"):
        DiurnalPattern.fit(np.ones(3), np.array([0, 1, 2]), bars_per_day, smooth_bars=0)
