import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from levibot_core.config import TrainingProfile
from levibot_core.errors import BundleError, SnapshotError
from levibot_core.models import retraining
from levibot_core.models.bundle import BundleIdentity, ModelBundle
from levibot_core.models.candidate import (
    CalibratedCandidate,
    Candidate,
    TrialStore,
    calibrate_candidate,
    train_candidate,
)
from levibot_core.models.rebuild import RebuildReport, Scope, rebuild
from levibot_core.models.recipe import (
    Environment,
    Recipe,
    environment_differences,
    read_recipe,
    trials_digest,
)
from levibot_core.models.retraining import FamilyTraining, Retrained, train_boosted
from levibot_core.stores.lake import Lake
from levibot_core.stores.snapshot_manifest import SnapshotManifest
from levibot_core.stores.snapshots import SnapshotStore
from levibot_core.stores.trial_ledger import TrialLedger
from levibot_core.validation.split import SplitResult, chronological_split

Rebuild = Callable[..., RebuildReport]


@pytest.fixture
def store(snapshot_store: tuple[SnapshotStore, SnapshotManifest], tmp_path: Path) -> SnapshotStore:
    """A store of its own with that snapshot."""
    return SnapshotStore(Path(shutil.copytree(snapshot_store[0].root, tmp_path / "snapshots")))


@pytest.fixture
def again(
    calibrated: CalibratedCandidate,
    candidate: Candidate,
    recipe: Recipe,
    store: SnapshotStore,
    environment: Environment,
    tmp_path: Path,
) -> Rebuild:
    """Rebuild the planted model; keyword arguments replace what it is rebuilt from."""

    def run(
        recipe: Recipe = recipe,
        bundle: ModelBundle = calibrated.bundle,
        trials: pl.DataFrame = candidate.tuning.trials,
        now: Environment = environment,
        scope: Scope = "winner",
    ) -> RebuildReport:
        return rebuild(bundle, recipe, trials, store, Lake(tmp_path / "lake"), now, tmp_path / "clean", scope)

    return run


def test_the_winning_trial_gives_the_same_bytes_and_bits(again: Rebuild, calibrated: CalibratedCandidate) -> None:
    report = again()
    assert (report.identical, report.mismatches, report.differences) == (True, (), ())
    assert report.found == report.expected
    assert {"booster.txt", "calibrator.json", "test forecasts"} == set(report.found)
    assert report.found["booster.txt"] == calibrated.bundle.manifest.files["booster.txt"]
    assert report.snapshot == "verified files"


def test_the_whole_study_gives_the_same_trials(again: Rebuild) -> None:
    report = again(scope="study")
    assert (report.identical, report.mismatches) == (True, ())


def test_a_model_of_another_boosted_family_gives_the_same_too(
    again: Rebuild, split: SplitResult, recipe: Recipe, tmp_path: Path
) -> None:
    trials = TrialStore(tmp_path / "trials", TrialLedger(tmp_path / "ledger"))
    other = train_candidate(split, recipe.identity, "xgboost", recipe.profile, 1, trials)
    changes = {
        "family": "xgboost",
        "parameters": other.tuning.best_parameters,
        "rounds": other.tuning.best_rounds,
        "study_name": other.tuning.study_name,
        "validation_log_loss": other.tuning.best_value,
        "trials_digest": trials_digest(other.tuning.trials),
    }
    bundle = calibrate_candidate(other, split).bundle
    for scope in ("winner", "study"):
        report = again(recipe.model_copy(update=changes), bundle, other.tuning.trials, scope=scope)
        assert (report.identical, report.mismatches) == (True, ())
        assert {"xgboost.json", "calibrator.json", "test forecasts"} == set(report.found)


def test_another_model_is_told_apart_by_file_and_forecast(
    again: Rebuild, split: SplitResult, identity: BundleIdentity, profile: TrainingProfile, tmp_path: Path
) -> None:
    trials = TrialStore(tmp_path / "trials", TrialLedger(tmp_path / "ledger"))
    other = train_candidate(split, identity.model_copy(update={"seed": 12}), "lightgbm", profile, 1, trials)
    report = again(bundle=calibrate_candidate(other, split).bundle)
    assert not report.identical
    named = {mismatch.partition(":")[0] for mismatch in report.mismatches}
    assert {"seed", "booster.txt", "test forecasts"} <= named
    assert report.largest_difference > 0.0


def test_what_is_not_as_it_was_is_reported_and_the_rebuild_goes_on(again: Rebuild, environment: Environment) -> None:
    libraries = {**environment.libraries, "numpy": "0.1"}
    now = environment.model_copy(update={"code_version": "later", "constraints_sha256": None, "libraries": libraries})
    report = again(now=now)
    assert report.identical
    assert [difference.partition(":")[0] for difference in report.differences] == [
        "code version",
        "constraints.txt",
        "numpy",
    ]
    dirty = environment.model_copy(update={"uncommitted_changes": True})
    assert "uncommitted" in environment_differences(dirty, environment)[0]


def test_a_changed_recipe_is_noticed(again: Rebuild, recipe: Recipe) -> None:
    assert "rounds" in again(recipe=recipe.model_copy(update={"rounds": recipe.rounds + 1})).mismatches[0]
    with pytest.raises(BundleError, match="family that can be trained again"):
        again(recipe=recipe.model_copy(update={"family": "oracle"}))
    with pytest.raises(BundleError, match="among the 4 recorded trials"):
        again(recipe=recipe.model_copy(update={"parameters": {**recipe.parameters, "num_leaves": 1000}}))


def test_altered_trials_are_refused_and_durations_do_not_count(again: Rebuild, candidate: Candidate) -> None:
    trials = candidate.tuning.trials
    assert trials_digest(trials.with_columns(pl.col("seconds") + 1)) == trials_digest(trials)
    series = trials.with_columns(returns=pl.Series([[0.1, None], [0.2], [], [0.3]]), finished_at=pl.lit("today"))
    last_bit = series.with_columns(returns=pl.Series([[np.nextafter(0.1, 1.0), None], [0.2], [], [0.3]]))
    assert trials_digest(series) == trials_digest(series.clone().with_columns(finished_at=pl.lit("tomorrow")))
    assert trials_digest(series) != trials_digest(last_bit)
    with pytest.raises(BundleError, match="altered after the training"):
        again(trials=trials.with_columns(pl.col("log_loss") - 0.01))


def test_a_damaged_snapshot_is_never_trained_on(again: Rebuild, store: SnapshotStore, recipe: Recipe) -> None:
    path = store.root / recipe.snapshot.snapshot_id / "rows.parquet"
    pl.read_parquet(path).with_columns(pl.col("momentum") + 1e-9).write_parquet(path)
    with pytest.raises(SnapshotError, match="window and inputs"):  # the manifest of this one names neither
        again()


def test_a_snapshot_that_was_altered_together_with_its_manifest_is_found_out(again: Rebuild, recipe: Recipe) -> None:
    foreign = recipe.snapshot.model_copy(update={"checksum": "0" * 64})
    with pytest.raises(SnapshotError):
        again(recipe=recipe.model_copy(update={"snapshot": foreign}))


@pytest.mark.parametrize(("tolerance", "identical"), [(0.5, True), (1e-6, False)])
def test_a_family_with_a_tolerance_is_held_to_it(
    again: Rebuild, monkeypatch: pytest.MonkeyPatch, tolerance: float, identical: bool
) -> None:
    def nearly(train: pl.DataFrame, validation: pl.DataFrame, *given: Any) -> tuple[Retrained, ...]:
        identity, parameters, profile, seeds, threads = given
        return train_boosted("lightgbm", train, validation, identity, parameters, profile, [seeds[0] + 1], threads)

    monkeypatch.setitem(retraining.TRAININGS, "lightgbm", FamilyTraining(nearly, tolerance))  # type: ignore[arg-type]

    report = again()

    assert report.found["booster.txt"] != report.expected["booster.txt"]
    assert 1e-6 < report.largest_difference < 0.5
    assert report.identical is identical


def test_a_recipe_survives_its_file_to_the_last_bit(recipe: Recipe) -> None:
    odd = recipe.model_copy(update={"parameters": {"a": 0.1 + 0.2, "b": 3, "c": np.nextafter(1.0, 2.0), "d": 1.0}})
    restored = read_recipe(odd.text().encode())
    assert restored == odd
    assert [type(value) for value in restored.parameters.values()] == [float, int, float, float]
    with pytest.raises(BundleError, match=r"Expected recipe\.json"):
        read_recipe(b'{"format": "levibot-recipe/9"}')


def test_other_rows_give_another_model(
    make_rows: Callable[..., pl.DataFrame], recipe: Recipe, candidate: Candidate
) -> None:
    later = chronological_split(make_rows().filter(pl.col("ts") > pl.col("ts").min() + timedelta(minutes=5)))
    identity, seeds = recipe.identity, (recipe.identity.seed,)
    (found,) = train_boosted(
        "lightgbm", later.train, later.validation, identity, recipe.parameters, recipe.profile, seeds, 1
    )
    assert found.files["booster.txt"] != candidate.predictor_files["booster.txt"]
