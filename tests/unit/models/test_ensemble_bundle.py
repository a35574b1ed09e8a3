"""The family `ensemble`: whole bundles inside one, exact explanations, and members that get what they asked for."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levibot_core.config import TrainingProfile
from levibot_core.errors import BundleError, MissingFeatureError
from levibot_core.models.base_rate import base_rate_bundle
from levibot_core.models.bundle import BundleIdentity, ModelBundle
from levibot_core.models.calibration import Calibrator, IdentityCalibrator, IsotonicCalibrator, PlattCalibrator, logit
from levibot_core.models.ensemble import EnsembleRecipe
from levibot_core.models.ensemble_bundle import (
    EnsemblePredictor,
    ensemble_files,
    ensemble_identity,
    member_input,
    members_of,
    score_with_members,
)
from levibot_core.models.explanation import explain
from levibot_core.models.predictors import ENSEMBLE
from levibot_core.models.retraining import train_boosted
from levibot_core.validation.split import SplitResult

BENT = IsotonicCalibrator((0.2, 0.45, 0.5, 0.8), (0.3, 0.48, 0.49, 0.7))
Members = dict[str, ModelBundle]


@pytest.fixture(scope="module")
def members(split: SplitResult, identity: BundleIdentity, profile: TrainingProfile) -> Members:
    """Two models that see different columns, in different orders."""
    cautious = {"learning_rate": 0.2, "seed": 1}
    seen = {"lightgbm": ("noise", "momentum"), "xgboost": ("momentum", "volatility")}
    made = {}
    for family, slope in (("lightgbm", 0.7), ("xgboost", 0.9)):
        own = identity.model_copy(update={"features": seen[family]})
        (trained,) = train_boosted(family, split.train, split.validation, own, cautious, profile, [1], 1)
        made[family] = ModelBundle.build(own, family, trained.files, PlattCalibrator(slope, 0.05))
    return made


def ensemble(members: Members, method: str = "stacking", weights: tuple[float, ...] = (0.8, 0.3)) -> ModelBundle:
    intercept = 0.1 if method == "stacking" else 0.0
    if method == "sharpe_vote":
        weights = tuple(weight / sum(weights) for weight in weights)
    recipe = EnsembleRecipe(method, tuple(members), weights, intercept)  # type: ignore[arg-type]
    files = ensemble_files(recipe, members)
    return ModelBundle.build(ensemble_identity(list(members.values())), ENSEMBLE, files, IdentityCalibrator())


def recalibrated(members: Members, calibrator: Calibrator) -> Members:
    return {
        name: ModelBundle.build(member.manifest, member.manifest.family, _own(member), calibrator)
        for name, member in members.items()
    }


def _own(member: ModelBundle) -> dict[str, bytes]:
    return {name: content for name, content in member.files.items() if name != "calibrator.json"}


def rows(bundle: ModelBundle, count: int = 40, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(count, len(bundle.manifest.features)))
    return np.column_stack([features, generator.integers(0, 2, count)])


def test_it_survives_its_folder_with_every_member_whole(members: Members, tmp_path: Path) -> None:
    bundle = ensemble(members)
    bundle.save(tmp_path / "bundle")
    loaded = ModelBundle.load(tmp_path / "bundle")
    assert loaded.manifest == bundle.manifest
    assert loaded.manifest.features == ("noise", "momentum", "volatility")
    assert (tmp_path / "bundle" / "member.xgboost.manifest.json").is_file()
    matrix = rows(bundle)
    assert np.array_equal(loaded.predict(matrix), bundle.predict(matrix))
    for name, member in members_of(loaded).items():
        assert member.packed == members[name].packed
    assert members_of(members["xgboost"]) == {}


@settings(max_examples=15, deadline=None)
@given(place=st.floats(0.0, 1.0, exclude_max=True), file=st.integers(0, 99), bit=st.integers(0, 7))
def test_one_altered_bit_of_a_member_is_refused(members: Members, place: float, file: int, bit: int) -> None:
    files = dict(ensemble(members).packed)
    names = sorted(name for name in files if name.startswith("member."))
    name = names[file % len(names)]
    altered = bytearray(files[name])
    altered[int(place * len(altered))] ^= 1 << bit
    with pytest.raises(BundleError):
        ModelBundle.from_files({**files, name: bytes(altered)})
    # Nor does it help to make the ensemble anew around it: the member has hashes of its own.
    own = {name: content for name, content in files.items() if name.startswith(("member.", "ensemble."))}
    with pytest.raises(BundleError):
        ModelBundle.build(
            ensemble_identity(list(members.values())), ENSEMBLE, {**own, name: bytes(altered)}, IdentityCalibrator()
        )


def test_a_member_too_many_or_too_few_is_refused(members: Members) -> None:
    bundle = ensemble(members)
    own = {name: content for name, content in bundle.files.items() if name != "calibrator.json"}
    stranger = {name.replace("xgboost", "stranger"): content for name, content in own.items() if "xgboost" in name}
    fewer = {name: content for name, content in own.items() if not name.startswith("member.xgboost.")}
    for files in ({**own, **stranger}, fewer):
        with pytest.raises(BundleError, match="files of the members lightgbm, xgboost"):
            ModelBundle.build(bundle.manifest, ENSEMBLE, files, IdentityCalibrator())
    with pytest.raises(BundleError, match="was not so for"):
        ensemble_files(EnsembleRecipe("stacking", ("nobody",), (1.0,)), members)


def test_members_of_other_markets_and_nested_ensembles_are_refused(members: Members) -> None:
    foreign = base_rate_bundle(members["xgboost"].manifest.model_copy(update={"symbols": ("SOL/USDT",)}))
    with pytest.raises(BundleError, match="members of one symbols"):
        ensemble_identity([members["lightgbm"], foreign])
    with pytest.raises(BundleError, match="single models"):
        ensemble_identity([ensemble(members)])
    own = ensemble_files(EnsembleRecipe("stacking", ("lightgbm",), (1.0,)), members)
    narrow = members["xgboost"].manifest
    with pytest.raises(BundleError, match="columns of every member"):
        ModelBundle.build(narrow, ENSEMBLE, own, IdentityCalibrator())


@pytest.mark.parametrize("method", ["stacking", "sharpe_vote"])
def test_an_ensemble_of_one_member_is_that_member(members: Members, method: str) -> None:
    member = members["lightgbm"]
    recipe = EnsembleRecipe(method, ("lightgbm",), (1.0,))  # type: ignore[arg-type]
    alone = ModelBundle.build(
        ensemble_identity([member]), ENSEMBLE, ensemble_files(recipe, members), IdentityCalibrator()
    )
    matrix = rows(alone)
    assert alone.predict(matrix) == pytest.approx(member.predict(matrix), rel=1e-12)
    assert alone.contributions(matrix) == pytest.approx(0.7 * member.contributions(matrix), abs=1e-6)


@pytest.mark.parametrize("method", ["stacking", "sharpe_vote"])
def test_the_order_of_members_does_not_matter(members: Members, method: str) -> None:
    one = ensemble(members, method)
    other = ensemble(dict(reversed(members.items())), method, (0.3, 0.8))
    matrix = rows(one)
    columns = {name: matrix[:, place] for place, name in enumerate(one.manifest.features)}
    symbols = [one.manifest.symbols[int(code)] for code in matrix[:, -1]]
    assert other.predict(other.matrix(symbols, columns)) == pytest.approx(one.predict(matrix), rel=1e-12)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 999), method=st.sampled_from(["stacking", "sharpe_vote"]))
def test_a_row_has_the_same_bits_alone_and_among_others(members: Members, seed: int, method: str) -> None:
    bundle = ensemble(members, method)
    matrix = rows(bundle, 5, seed)
    together = bundle.predict(matrix)
    assert [bundle.predict(matrix[[place]])[0] for place in range(len(matrix))] == together.tolist()
    score, said = score_with_members(bundle, matrix[:1])
    assert score[0] == together[0]
    assert [forecast.name for forecast in said] == ["lightgbm", "xgboost"]
    for forecast in said:
        own = member_input(matrix[:1], _columns(bundle, members[forecast.name]), 1)
        assert forecast.probability == members[forecast.name].predict(own)[0]


def test_a_single_model_has_no_members_to_speak_of(members: Members) -> None:
    matrix = rows(members["lightgbm"], 1)
    score, said = score_with_members(members["lightgbm"], matrix)
    assert (score, said) == (members["lightgbm"].predict_raw(matrix), ())


def test_explanations_of_stacked_platt_members_are_the_weighted_sum_of_theirs(members: Members) -> None:
    bundle = ensemble(members)
    matrix = rows(bundle)
    expected = np.zeros_like(matrix)
    for (name, member), weight, slope in zip(members.items(), (0.8, 0.3), (0.7, 0.9), strict=True):
        places = _columns(bundle, member)
        expected[:, places] += weight * slope * member.contributions(matrix[:, places])
        assert name in members_of(bundle)
    assert bundle.contributions(matrix) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("method", ["stacking", "sharpe_vote"])
@pytest.mark.parametrize("calibrator", [IdentityCalibrator(), PlattCalibrator(0.0, 0.1), BENT])
def test_contributions_add_up_whatever_the_calibration(members: Members, method: str, calibrator: Calibrator) -> None:
    bundle = ensemble(recalibrated(members, calibrator), method)
    matrix = rows(bundle)
    base = logit(bundle.predict_raw(matrix)) - bundle.contributions(matrix).sum(axis=1)
    assert np.ptp(base) < 1e-6
    found = explain(bundle, matrix[:1], top=2)
    whole = found.base_value + sum(item.contribution for item in found.contributions) + found.others
    assert whole == pytest.approx(found.log_odds, abs=1e-6)


def test_a_member_is_given_its_own_columns_of_its_own_bars() -> None:
    windows = np.arange(2 * 5 * 4, dtype=np.float64).reshape(2, 5, 4)
    places = np.array([2, 0, 3])
    assert np.array_equal(member_input(windows, places, 3), windows[:, 2:][..., places])
    assert np.array_equal(member_input(windows, places, 1), windows[:, -1][:, places])
    assert np.array_equal(member_input(windows[:, -1], places, 1), windows[:, -1][:, places])
    for too_few in (windows[:, :2], windows[:, -1]):
        with pytest.raises(MissingFeatureError, match="Expected 3 successive bars"):
            member_input(too_few, places, 3)


def test_an_ensemble_with_a_longer_window_gives_the_others_the_newest_bar(members: Members) -> None:
    recipe = EnsembleRecipe("stacking", tuple(members), (0.8, 0.3))
    columns = (*ensemble_identity(list(members.values())).features, "symbol_code")
    predictor = EnsemblePredictor(recipe, list(members.values()), columns)
    windows = np.stack([rows(ensemble(members), 6, seed) for seed in range(4)], axis=1)
    assert np.array_equal(predictor.predict(windows), predictor.predict(windows[:, -1]))
    assert np.array_equal(predictor.contributions(windows), predictor.contributions(windows[:, -1]))


def _columns(bundle: ModelBundle, member: ModelBundle) -> np.ndarray:
    order: Callable[[str], int] = [*bundle.manifest.features, "symbol_code"].index
    return np.array([order(name) for name in (*member.manifest.features, "symbol_code")])
