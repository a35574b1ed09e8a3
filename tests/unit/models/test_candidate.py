from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from levibot_core.config import TrainingProfile
from levibot_core.errors import BundleError, DataQualityError, MissingFeatureError, UnknownSymbolError
from levibot_core.models.bundle import BundleIdentity, ModelBundle
from levibot_core.models.candidate import (
    CalibratedCandidate,
    Candidate,
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
    make_rows: Callable[..., pl.DataFrame], identity: BundleIdentity, profile: TrainingProfile, tmp_path: Path
) -> None:
    split = chronological_split(make_rows(edge=0.0, seed=4))
    trained = train_candidate(split, identity, profile, 1, tmp_path / "study.journal", "no edge")
    report = calibrate_candidate(trained, split).report
    assert abs(report.metrics["test"]["auc"] - 0.5) < 0.1
    assert report.metrics["test"]["log_loss"] < report.base_rate_log_loss["test"] + 0.03


def test_each_step_can_be_picked_up_by_another_process(
    candidate: Candidate, calibrated: CalibratedCandidate, split: SplitResult, tmp_path: Path
) -> None:
    candidate.save(tmp_path)
    loaded = Candidate.load(tmp_path)
    assert loaded.booster_text == candidate.booster_text
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
    candidate: Candidate, split: SplitResult, identity: BundleIdentity, profile: TrainingProfile, tmp_path: Path
) -> None:
    again = train_candidate(split, identity, profile, 2, tmp_path / "study.journal", "planted")
    assert again.booster_text == candidate.booster_text


def test_training_does_not_look_at_calibration_or_test_rows(
    candidate: Candidate, split: SplitResult, identity: BundleIdentity, profile: TrainingProfile, tmp_path: Path
) -> None:
    attacked = replace(split, calibration=flipped(split.calibration), test=flipped(split.test))
    trained = train_candidate(attacked, identity, profile, 1, tmp_path / "study.journal", "planted")
    assert trained.booster_text == candidate.booster_text


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
    split: SplitResult, identity: BundleIdentity, profile: TrainingProfile, tmp_path: Path
) -> None:
    journal = tmp_path / "study.journal"
    one_class = replace(split, validation=split.validation.with_columns(label=pl.lit(1, dtype=pl.Int8)))
    with pytest.raises(DataQualityError, match="validation"):
        train_candidate(one_class, identity, profile, 1, journal, "refused")
    holes = replace(split, train=split.train.with_columns(noise=pl.lit(float("nan"))))
    with pytest.raises(MissingFeatureError, match="noise"):
        train_candidate(holes, identity, profile, 1, journal, "refused")
    with pytest.raises(UnknownSymbolError, match="ETH/USDT"):
        train_candidate(split, identity.model_copy(update={"symbols": ("BTC/USDT",)}), profile, 1, journal, "refused")
    assert not journal.exists()
