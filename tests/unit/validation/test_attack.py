"""The attacks by themselves: what they compare, and what they find in a finished training."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from levibot_core.backtest.engine import BacktestParameters, run_backtest
from levibot_core.features.compute import compute_features
from levibot_core.labels.direction import direction_labels
from levibot_core.market.timeframe import Timeframe
from levibot_core.models.base_rate import fit_base_rate
from levibot_core.models.bundle import BundleIdentity, ModelBundle
from levibot_core.models.calibration import PlattCalibrator
from levibot_core.models.predictors import LIGHTGBM
from levibot_core.validation.attack.bits import bits
from levibot_core.validation.attack.fitting import attack_fit
from levibot_core.validation.attack.instants import attacked_instants
from levibot_core.validation.attack.market import small_market
from levibot_core.validation.attack.pipeline import Pipeline
from levibot_core.validation.attack.trading import check_fills, positions_by_bar
from levibot_core.validation.attack.trained import TrainedModel
from levibot_core.validation.leak_report import LeakReport
from levibot_core.validation.leakage import check_leakage
from levibot_core.validation.perturbation import PERTURBATIONS, MarketTables
from levibot_core.validation.split import SplitResult, chronological_split

FIVE_MINUTES = Timeframe.parse("5m")
PIPELINE = Pipeline()
SETTINGS = PIPELINE.settings


@pytest.fixture(scope="module")
def market() -> MarketTables:
    return small_market(3, 0.15, SETTINGS.symbols, SETTINGS.timeframe, corrections=0)


@pytest.fixture(scope="module")
def split(market: MarketTables) -> SplitResult:
    features = compute_features(market.candles, market.funding, SETTINGS.feature_set, FIVE_MINUTES)
    labels = direction_labels(market.candles, FIVE_MINUTES, SETTINGS.horizon_bars)
    whole = features.filter(pl.all_horizontal(pl.col(SETTINGS.feature_set.names).is_not_nan()))
    return chronological_split(whole.join(labels, on=["symbol", "ts"], maintain_order="left"))


@pytest.fixture(scope="module")
def trained(split: SplitResult) -> TrainedModel:
    """A model without a scaler, as a training leaves it."""
    unscaled = replace(PIPELINE.scale(SETTINGS, split), centers=(0.0,) * 4, spreads=(1.0,) * 4)
    model = PIPELINE.fit(SETTINGS, split, unscaled)
    calibrator = PIPELINE.calibrate(SETTINGS, split, model)
    identity = BundleIdentity(
        model_name="levibot-5m-h12",
        timeframe="5m",
        horizon_bars=SETTINGS.horizon_bars,
        symbols=SETTINGS.symbols,
        feature_set="v1",
        features=SETTINGS.feature_set.names,
        snapshot_id="none",
        source_kind="simulated",
        created_at=datetime(2025, 1, 5, tzinfo=UTC),
        seed=SETTINGS.seed,
    )
    bundle = ModelBundle.build(identity, LIGHTGBM, {"booster.txt": model.booster.text.encode()}, calibrator)
    return TrainedModel(bundle, fit_base_rate(split.train["label"].to_numpy()))


def check(market: MarketTables, split: SplitResult, trained: TrainedModel) -> LeakReport:
    return check_leakage(
        market.candles,
        market.funding,
        SETTINGS.feature_set,
        FIVE_MINUTES,
        SETTINGS.horizon_bars,
        split,
        seed=1,
        trained=trained,
    )


def test_a_finished_training_raises_no_alarm_and_is_attacked_beyond_its_features(
    market: MarketTables, split: SplitResult, trained: TrainedModel
) -> None:
    report = check(market, split, trained)
    assert report.failures == ()
    assert {
        "boundaries_ignore_values",
        "statistics_ignore_later_rows",
        "calibration_ignores_later_rows",
        "forecasts_ignore_the_future",
        "positions_ignore_the_future",
        "fills_follow_their_forecasts",
    } < {found.name for found in report.checks}


def test_a_base_rate_and_a_calibrator_of_other_rows_are_caught(
    market: MarketTables, split: SplitResult, trained: TrainedModel
) -> None:
    everything = pl.concat(list(split.parts.values()))
    other = ModelBundle.build(
        BundleIdentity(**{name: getattr(trained.bundle.manifest, name) for name in BundleIdentity.model_fields}),
        LIGHTGBM,
        {"booster.txt": PIPELINE.fit(SETTINGS, split, PIPELINE.scale(SETTINGS, split)).booster.text.encode()},
        PlattCalibrator(0.7, 0.01),
    )
    report = check(market, split, TrainedModel(other, fit_base_rate(everything["label"].to_numpy())))
    failed = [found.name for found in report.checks if not found.passed]
    assert failed == ["statistics_ignore_later_rows", "calibration_ignores_later_rows"]


def test_what_cannot_be_fitted_without_later_rows_is_a_finding(split: SplitResult) -> None:
    def mean_of_the_last(found: SplitResult) -> dict[str, bytes]:
        return {"mean": repr(1.0 / found.test.height).encode()}

    report = attack_fit("fits", mean_of_the_last, split, "train", np.random.default_rng(0))
    assert not report.passed
    assert "mean cannot be fitted when what follows the train part is cut off" in report.detail


def test_instants_are_aimed_at_events_and_drawn_by_chance() -> None:
    market = small_market(3, 0.0, SETTINGS.symbols, FIVE_MINUTES)
    decisions, bar = market.candles["known_at"], FIVE_MINUTES.milliseconds
    instants = attacked_instants(market, decisions, FIVE_MINUTES, 6, np.random.default_rng(2))
    assert instants == sorted(set(instants))
    assert len(instants) <= 6
    opened, known = (market.candles[name].dt.epoch("ms") for name in ("ts", "known_at"))
    corrected = known.filter(known > opened + bar).to_list()
    settled = market.funding["known_at"].dt.epoch("ms").to_list()
    published = market.fear_greed["known_at"].dt.epoch("ms").to_list()  # type: ignore[index]
    for events in (corrected, settled, published):
        assert {instant + bar for instant in instants} & set(events)
    alone = attacked_instants(market, decisions, FIVE_MINUTES, 1, np.random.default_rng(2))
    assert len(alone) == 1


@pytest.mark.parametrize("words", PERTURBATIONS)
def test_a_perturbation_changes_what_is_known_later_and_nothing_else(words: str) -> None:
    market = small_market(4, 0.0, SETTINGS.symbols, FIVE_MINUTES)
    known = market.candles["known_at"].dt.epoch("ms").unique().sort()
    instant = int(known[known.len() // 3])
    changed = market.perturbed(PERTURBATIONS[words], instant, np.random.default_rng(0))
    for before, after in (
        (market.candles, changed.candles),
        (market.funding, changed.funding),
        (market.fear_greed, changed.fear_greed),
    ):
        assert before is not None
        assert after is not None
        earlier = pl.col("known_at").dt.epoch("ms") <= instant
        assert after.filter(earlier).equals(before.filter(earlier))
        assert after.schema == before.schema
    assert not changed.candles.equals(market.candles)


def test_bits_tell_apart_what_compares_equal() -> None:
    zeros = pl.Series([0.0, -0.0, float("nan"), 1.0])
    assert len(set(bits(zeros)[:2].tolist())) == 2
    assert (bits(zeros) == bits(zeros.clone())).all()
    assert bits(pl.Series([1, None, 0], dtype=pl.Int8)).tolist() == [1, 0, 0]


def test_positions_by_bar_and_fills_agree_with_the_engine(market: MarketTables) -> None:
    candles = market.candles.head(300).select("symbol", "ts", "open", "close", "known_at")
    forecasts = candles.select("symbol", "ts", "known_at", prob_up=pl.Series(np.tile([0.9, 0.5, 0.1], 100)))
    result = run_backtest(candles, forecasts, FIVE_MINUTES, BacktestParameters())
    held = positions_by_bar(result, candles)
    assert held["side"].to_list() == [0.0, *np.tile([1.0, 0.0, -1.0], 100).tolist()][:300]
    assert check_fills(result, candles, forecasts).passed
    dearer = check_fills(result, candles.with_columns(pl.col("open") * 1.01), forecasts)
    assert "trades are not entered at the open" in dearer.detail
    opposite = check_fills(result, candles, forecasts.with_columns(prob_up=1.0 - pl.col("prob_up")))
    assert "are not what the forecast of the bar before asked for" in opposite.detail


def test_a_market_without_an_index_is_perturbed_too(make_market: Callable[..., MarketTables]) -> None:
    tables = make_market(bars=20)
    market = MarketTables(tables.candles, tables.funding)
    assert market.perturbed(PERTURBATIONS["cut off"], 0, np.random.default_rng(0)).candles.is_empty()
