"""From members to a verdict: an edge that only the combination sees is taken, and without one the best member stays."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from levibot_core.config import TrainingProfile
from levibot_core.errors import DataQualityError
from levibot_core.models.bundle import BundleIdentity
from levibot_core.models.candidate import Candidate, calibrate_candidate
from levibot_core.models.ensemble_bundle import members_of
from levibot_core.models.ensemble_candidate import fit_ensemble, judge_ensemble
from levibot_core.models.ensemble_folds import Member, forecast_out_of_fold, thinned
from levibot_core.models.retraining import train_boosted
from levibot_core.models.tuning import TuningResult
from levibot_core.stores.trial_ledger import TrialLedger
from levibot_core.validation.split import SplitResult, chronological_split

PARAMETERS = {"learning_rate": 0.15}
SEEN = {"lightgbm": ("momentum", "noise"), "xgboost": ("volatility", "noise")}
Rows = Callable[..., pl.DataFrame]


def market(make_rows: Rows, both: bool) -> SplitResult:
    """A market whose direction depends on `momentum`, and on `volatility` as much if `both`, else not at all."""
    rows = make_rows(bars=3_000)
    signal = rows["momentum"].to_numpy() + (rows["volatility"].to_numpy() if both else 0.0)
    rise = np.random.default_rng(5).random(rows.height) < 1.0 / (1.0 + np.exp(-signal))
    labels = {"label": rise.astype(np.int8), "forward_return": np.where(rise, 0.01, -0.01)}
    return chronological_split(rows.with_columns(**{name: pl.Series(values) for name, values in labels.items()}))


def members(split: SplitResult, identity: BundleIdentity, profile: TrainingProfile) -> dict[str, Member]:
    """One model that sees the one column, one that sees the other."""
    made = {}
    for family, features in SEEN.items():
        own = identity.model_copy(update={"features": features})
        (trained,) = train_boosted(family, split.train, split.validation, own, PARAMETERS, profile, [identity.seed], 1)
        tuning = TuningResult("study", dict(PARAMETERS), trained.rounds, trained.validation_loss, pl.DataFrame(), 0, {})
        candidate = Candidate(own, family, profile, trained.files, tuning)
        made[family] = Member(candidate, calibrate_candidate(candidate, split).bundle)
    return made


@pytest.fixture(scope="module")
def combined(make_rows: Rows) -> SplitResult:
    return market(make_rows, both=True)


@pytest.fixture(scope="module")
def pair(combined: SplitResult, identity: BundleIdentity, profile: TrainingProfile) -> dict[str, Member]:
    return members(combined, identity, profile)


@pytest.fixture
def ledger(tmp_path: pytest.TempPathFactory) -> TrialLedger:
    return TrialLedger(tmp_path / "ledger")  # type: ignore[operator]


def test_an_edge_that_only_the_combination_sees_is_taken(
    combined: SplitResult, pair: dict[str, Member], ledger: TrialLedger
) -> None:
    candidate = fit_ensemble(pair, combined, 1, ledger)
    calibrated = calibrate_candidate(candidate, combined)
    verdict = judge_ensemble(calibrated.bundle, combined)
    assert verdict.taken
    assert verdict.against_best.upper_95 < 0.0
    assert verdict.log_loss.value < min(member.log_loss.value for member in verdict.members)
    assert "the ensemble is taken" in verdict.reason
    assert {member.name: member.weight > 0.2 for member in verdict.members} == {"lightgbm": True, "xgboost": True}
    assert calibrated.report.method == "none"
    assert calibrated.report.metrics["test"]["log_loss"] == pytest.approx(verdict.log_loss.value, abs=1e-12)
    assert {item.feature for item in calibrated.report.importance[:2]} == {"momentum", "volatility"}
    assert sum(item.gain_share for item in calibrated.report.importance) == pytest.approx(1.0)
    assert list(members_of(calibrated.bundle)) == list(SEEN)


def test_both_attempts_are_counted_once_and_for_ever(
    combined: SplitResult, pair: dict[str, Member], ledger: TrialLedger
) -> None:
    candidate = fit_ensemble(pair, combined, 1, ledger)
    again = fit_ensemble(pair, combined, 1, ledger)
    assert again.predictor_files == candidate.predictor_files
    kept = ledger.read(candidate.identity.model_name)
    assert kept["family"].to_list() == ["ensemble", "ensemble"]
    assert kept["study"].unique().to_list() == [candidate.tuning.study_name]
    assert (kept["returns"].list.len() == kept["days"].list.len()).all()
    assert candidate.tuning.best_trial["log_loss"] == candidate.tuning.best_value == min(kept["log_loss"])


def test_without_anything_to_combine_the_best_member_stays(
    make_rows: Rows, identity: BundleIdentity, profile: TrainingProfile, ledger: TrialLedger
) -> None:
    split = market(make_rows, both=False)
    candidate = fit_ensemble(members(split, identity, profile), split, 1, ledger)
    verdict = judge_ensemble(calibrate_candidate(candidate, split).bundle, split)
    assert (verdict.taken, verdict.best_member) == (False, "lightgbm")
    assert "against its best member lightgbm" in verdict.reason
    assert "not taken" in verdict.reason


def test_weights_know_nothing_of_the_test_part(
    combined: SplitResult, pair: dict[str, Member], ledger: TrialLedger
) -> None:
    flipped = combined.test.with_columns(label=(1 - pl.col("label")).cast(pl.Int8), momentum=-pl.col("momentum"))
    candidate = fit_ensemble(pair, combined.with_parts({"test": flipped}), 1, ledger)
    assert candidate.predictor_files == fit_ensemble(pair, combined, 1, ledger).predictor_files


def test_out_of_fold_rows_are_forecast_by_models_that_never_saw_them(
    combined: SplitResult, pair: dict[str, Member]
) -> None:
    rows = pl.concat([combined.train, combined.validation])
    half = rows["known_at"].unique().sort()[rows["known_at"].n_unique() // 2]
    found = forecast_out_of_fold(rows, pair, 1)
    assert found.dropped == 0
    assert found.labels.size == rows.filter(pl.col("known_at") >= half).height
    # Whatever the newest fold's labels are, no forecast of it knows them.
    newest = rows["known_at"].unique().sort()[-200]
    opposite = pl.when(pl.col("known_at") >= newest).then(1 - pl.col("label")).otherwise(pl.col("label"))
    again = forecast_out_of_fold(rows.with_columns(label=opposite.cast(pl.Int8)), pair, 1)
    for name in pair:
        assert np.array_equal(found.probabilities[name], again.probabilities[name])
        assert np.isfinite(found.returns[name]).all()


def test_too_short_a_history_is_refused(combined: SplitResult, pair: dict[str, Member], ledger: TrialLedger) -> None:
    short = replace(combined, train=combined.train[:3], validation=combined.validation[:3])
    with pytest.raises(DataQualityError):
        fit_ensemble(pair, short, 1, ledger)
    assert ledger.read().is_empty()


def test_rows_are_thinned_no_further_than_labels_overlap(make_rows: Rows) -> None:
    rows = make_rows(bars=300)
    assert thinned(rows, 600, 3).equals(rows)
    halved = thinned(rows, 300, 3)
    assert halved.height == 300
    assert halved["known_at"].unique().sort().diff().drop_nulls().unique().to_list() == [timedelta(minutes=10)]
    assert thinned(rows, 10, 3).height == 200
