from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from levibot_core.config import TrainingProfile
from levibot_core.errors import (
    BundleError,
    ConfigurationError,
    DataQualityError,
    MissingFeatureError,
    UnknownSymbolError,
)
from levibot_core.models.bundle import BundleIdentity, ModelBundle
from levibot_core.models.candidate import (
    CalibratedCandidate,
    Candidate,
    TrialStore,
    calibrate_candidate,
    load_report,
    train_candidate,
)
from levibot_core.models.design import design_matrix
from levibot_core.validation.split import SplitResult, chronological_split


def flipped(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(label=(1 - pl.col("label")).cast(pl.Int8))


def test_a_planted_edge_is_found(calibrated: CalibratedCandidate) -> None:
    test = calibrated.report.metrics["test"]
    assert test["auc"] > 0.6
    assert test["log_loss"] < calibrated.report.base_rate_log_loss["test"]
    assert calibrated.report.importance[0].feature == "momentum"
    assert set(calibrated.report.metrics) == set(calibrated.report.base_rate_log_loss)


def test_without_an_edge_the_calibrated_model_is_hardly_worse_than_the_base_rate(
    make_rows: Callable[..., pl.DataFrame], identity: BundleIdentity, profile: TrainingProfile, store: TrialStore
) -> None:
    split = chronological_split(make_rows(edge=0.0, seed=4))
    trained = train_candidate(split, identity, "lightgbm", profile, 1, store)
    report = calibrate_candidate(trained, split).report
    assert abs(report.metrics["test"]["auc"] - 0.5) < 0.1
    assert report.metrics["test"]["log_loss"] < report.base_rate_log_loss["test"] + 0.03


def test_each_step_can_be_picked_up_by_another_process(
    candidate: Candidate, calibrated: CalibratedCandidate, split: SplitResult, tmp_path: Path
) -> None:
    candidate.save(tmp_path)
    loaded = Candidate.load(tmp_path)
    assert loaded.predictor_files == candidate.predictor_files
    assert loaded.family == candidate.family
    assert loaded.identity == candidate.identity
    assert loaded.profile == candidate.profile
    assert loaded.tuning.trials.equals(candidate.tuning.trials)
    assert replace(loaded.tuning, trials=candidate.tuning.trials) == candidate.tuning
    assert type(loaded.tuning.best_parameters["num_leaves"]) is int

    calibrate_candidate(loaded, split).save(tmp_path)
    assert load_report(tmp_path) == calibrated.report
    bundle = ModelBundle.load(tmp_path / "bundle")
    assert bundle.manifest == calibrated.bundle.manifest
    matrix = design_matrix(split.test, bundle.manifest.features, bundle.manifest.symbols)
    assert bundle.predict(matrix).tobytes() == calibrated.test_probabilities.tobytes()


def test_training_twice_gives_the_same_model(
    candidate: Candidate, split: SplitResult, identity: BundleIdentity, profile: TrainingProfile, store: TrialStore
) -> None:
    again = train_candidate(split, identity, "lightgbm", profile, 2, store)
    assert again.predictor_files == candidate.predictor_files


def test_training_does_not_look_at_calibration_or_test_rows(
    candidate: Candidate, split: SplitResult, identity: BundleIdentity, profile: TrainingProfile, store: TrialStore
) -> None:
    attacked = replace(split, calibration=flipped(split.calibration), test=flipped(split.test))
    trained = train_candidate(attacked, identity, "lightgbm", profile, 1, store)
    assert trained.predictor_files == candidate.predictor_files


def test_calibration_does_not_look_at_test_rows(
    candidate: Candidate, calibrated: CalibratedCandidate, split: SplitResult
) -> None:
    attacked = calibrate_candidate(candidate, replace(split, test=flipped(split.test)))
    assert attacked.bundle.manifest == calibrated.bundle.manifest
    assert attacked.report.metrics["test"]["auc"] == pytest.approx(1 - calibrated.report.metrics["test"]["auc"])


def test_a_model_that_is_wrong_on_the_calibration_rows_becomes_constant(
    candidate: Candidate, split: SplitResult
) -> None:
    wrong = replace(split, calibration=flipped(split.calibration), validation=flipped(split.validation))
    found = calibrate_candidate(candidate, wrong)
    assert np.ptp(found.test_probabilities) < 0.35
    assert found.report.metrics["test"]["log_loss"] < 0.75


@pytest.mark.parametrize("name", ["booster.txt", "trials.parquet", "tuning.json"])
def test_an_altered_or_missing_file_is_refused(candidate: Candidate, tmp_path: Path, name: str) -> None:
    candidate.save(tmp_path)
    original = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(original[:-20])
    with pytest.raises(BundleError, match="Train it again"):
        Candidate.load(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(BundleError, match="Train it again"):
        Candidate.load(tmp_path)


def test_a_missing_report_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="Calibrate it again"):
        load_report(tmp_path)


def test_rows_that_cannot_be_learnt_from_are_refused(
    split: SplitResult, identity: BundleIdentity, profile: TrainingProfile, store: TrialStore
) -> None:
    def refused(error: type[Exception], match: str, bad: SplitResult, who: BundleIdentity = identity) -> None:
        with pytest.raises(error, match=match):
            train_candidate(bad, who, "lightgbm", profile, 1, store)

    one_class = replace(split, validation=split.validation.with_columns(label=pl.lit(1, dtype=pl.Int8)))
    refused(DataQualityError, "both classes in the validation part", one_class)
    for hole in (float("nan"), float("inf")):
        refused(MissingFeatureError, "noise", replace(split, train=split.train.with_columns(noise=pl.lit(hole))))
    refused(UnknownSymbolError, "ETH/USDT", split, identity.model_copy(update={"symbols": ("BTC/USDT",)}))
    refused(DataQualityError, "at least 100 rows to train on, was 40", replace(split, train=split.train.head(40)))
    flat = split.train.with_columns(pl.lit(1.5).alias(name) for name in identity.features)
    refused(DataQualityError, "all 3 are constant", replace(split, train=flat))
    assert not store.ledger.folder.parent.exists()


def test_an_unknown_family_and_weights_that_do_not_fit_are_refused(
    split: SplitResult, identity: BundleIdentity, profile: TrainingProfile, store: TrialStore
) -> None:
    with pytest.raises(ConfigurationError, match="lightgbm, xgboost, was 'forest'"):
        train_candidate(split, identity, "forest", profile, 1, store)
    for weights in (np.ones(3), np.full(split.train.height, np.nan), np.zeros(split.train.height)):
        with pytest.raises(DataQualityError, match="weight"):
            train_candidate(split, identity, "lightgbm", profile, 1, store, weights=weights)


@pytest.mark.parametrize("family", ["lightgbm", "xgboost"])
def test_every_family_finds_the_planted_edge_and_its_bundle_explains_itself(
    split: SplitResult, identity: BundleIdentity, profile: TrainingProfile, store: TrialStore, family: str
) -> None:
    few = profile.model_copy(update={"trials": 2})
    trained = train_candidate(split, identity, family, few, 1, store)
    found = calibrate_candidate(trained, split)

    assert found.bundle.manifest.family == trained.family == family
    assert found.report.metrics["test"]["auc"] > 0.6
    assert found.report.importance[0].feature == "momentum"
    matrix = design_matrix(split.test, identity.features, identity.symbols)
    raw = found.bundle.predict_raw(matrix)
    # SHAP values of a row add up to its log-odds less the mean, which is one number for all rows.
    left = np.log(raw / (1.0 - raw)) - found.bundle.contributions(matrix).sum(axis=1)
    assert np.ptp(left) < 1e-4


def test_row_weights_change_the_study_and_the_model(
    candidate: Candidate, split: SplitResult, identity: BundleIdentity, profile: TrainingProfile, store: TrialStore
) -> None:
    weights = np.linspace(0.1, 1.0, split.train.height)
    weighted = train_candidate(split, identity, "lightgbm", profile, 1, store, weights=weights)
    assert weighted.tuning.study_name != candidate.tuning.study_name
    assert weighted.predictor_files != candidate.predictor_files
    again = train_candidate(split, identity, "lightgbm", profile, 2, store, weights=weights)
    assert (again.tuning.resumed, again.predictor_files) == (profile.trials, weighted.predictor_files)
