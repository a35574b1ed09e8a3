"""Training a registered model again from its recipe, and saying whether the outcome is the same.

The snapshot is verified, or computed again from the lake; the winning trial is trained once more with its recorded
parameters, or the whole study repeated; then the calibration is fitted anew. Tree models have to come out with the
same bytes in every file and the same bits in every test forecast. Where the result is kept, and what it is needed for,
is decided in `levibot_pipelines`.
"""

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from levibot_core.errors import SnapshotError
from levibot_core.models.base_rate import base_rate_bundle
from levibot_core.models.bundle import BundleIdentity, ModelBundle
from levibot_core.models.candidate import BUNDLE, Candidate, TrialStore, calibrate_candidate, train_candidate
from levibot_core.models.predictors import TFT
from levibot_core.models.recipe import Environment, Recipe, check_trials, environment_differences, trials_digest
from levibot_core.models.retraining import Retrained, training_of
from levibot_core.models.row_forecasts import predict_rows, with_windows
from levibot_core.models.tft.candidate import train_transformer_candidate
from levibot_core.models.tft.profile import TFTProfile
from levibot_core.models.tuning import TuningResult
from levibot_core.models.uncertainty_fitting import with_same_parts
from levibot_core.stores.lake import Lake
from levibot_core.stores.snapshot_manifest import SnapshotManifest
from levibot_core.stores.snapshot_rebuild import recover
from levibot_core.stores.snapshots import Snapshot, SnapshotStore
from levibot_core.stores.trial_ledger import TrialLedger
from levibot_core.validation.split import SplitResult, chronological_split

TEST_FORECASTS = "test forecasts"
_STUDY, _LEDGER = "study", "ledger"

Scope = Literal["winner", "study"]


class RebuildReport(BaseModel):
    """Whether a model could be made again, and what differs, in words."""

    model_config = ConfigDict(frozen=True)

    version: int | None = Field(None, description="Of the registered model")
    identical: bool
    seconds: float = Field(description="From reading the snapshot to the last comparison")
    scope: Scope = Field(description="Whether the winning trial or the whole study was trained again")
    at: AwareDatetime = Field(description="When, UTC")
    snapshot: str = Field(description="Where the rows came from: verified files, or the lake")
    mismatches: tuple[str, ...] = Field(description="What came out differently; nothing where it is identical")
    differences: tuple[str, ...] = Field(description="What was not as it was when the model was trained")
    expected: dict[str, str] = Field(description="SHA-256 of every file of the model and of its test forecasts")
    found: dict[str, str]
    largest_difference: float = Field(description="Of two test forecasts")


def rebuild(
    bundle: ModelBundle,
    recipe: Recipe,
    trials: pl.DataFrame,
    store: SnapshotStore,
    lake: Lake,
    now: Environment,
    folder: Path,
    scope: Scope = "winner",
) -> RebuildReport:
    """Train a model again in an empty folder and compare it with the registered one.

    Args:
        bundle: The registered model.
        recipe: What its training was given.
        trials: The recorded table of finished trials.
        store: Where its snapshot is, unless its files are damaged or gone.
        lake: What the snapshot is computed from then.
        now: What runs this rebuild; where it is not what ran the training, that is reported and the rebuild goes on.
        folder: An empty folder to work in.
        scope: `winner` trains the winning trial again, `study` repeats the search for it.

    Raises:
        BundleError: the table of trials is not that of the recipe, or the family cannot be trained again.
        SnapshotError: neither the snapshot's files nor the lake give its rows.
        ConfigurationError: this version of the platform does not have its feature set.
    """
    started = time.perf_counter()
    training = training_of(recipe.family)
    check_trials(recipe, trials)
    snapshot, origin = obtain_snapshot(store, lake, recipe.snapshot)
    split = chronological_split(snapshot.rows)
    mismatches = list(identity_mismatches(bundle, recipe))
    candidate, found = train_again(recipe, trials, split, folder, scope)
    mismatches += found
    again_bundle = calibrate_candidate(candidate, split).bundle
    again_bundle = with_same_parts(again_bundle, bundle, split, snapshot.candles, recipe.threads)
    again_bundle.save(folder / BUNDLE)
    compared = compare_models(bundle, ModelBundle.load(folder / BUNDLE), split, training.tolerance)
    mismatches += compared.mismatches
    return RebuildReport(
        identical=not mismatches,
        seconds=time.perf_counter() - started,
        scope=scope,
        at=datetime.now(UTC),
        snapshot=origin,
        mismatches=tuple(mismatches),
        differences=tuple(environment_differences(recipe.environment, now)),
        expected=compared.expected,
        found=compared.found,
        largest_difference=compared.largest_difference,
    )


def train_again(
    recipe: Recipe, trials: pl.DataFrame, split: SplitResult, folder: Path, scope: Scope
) -> tuple[Candidate, list[str]]:
    """Train the winning trial of a recipe once more, or repeat its study; and what differs from it, in words.

    Raises:
        BundleError: the family cannot be trained again.
    """
    training = training_of(recipe.family)
    if scope == "study":
        candidate = _repeat_study(recipe, split, folder)
        return candidate, list(_study_mismatches(recipe, candidate))
    (again,) = training.train(
        split.train,
        split.validation,
        recipe.identity,
        recipe.parameters,
        recipe.profile,
        (recipe.identity.seed,),
        recipe.threads,
    )
    differs = training.tolerance == 0.0 and again.rounds != recipe.rounds
    return candidate_of(recipe, trials, again), (
        [f"rounds: were {recipe.rounds}, are {again.rounds}"] if differs else []
    )


def rebuild_base_rate(bundle: ModelBundle, snapshot: Snapshot | None) -> RebuildReport:
    """Count the rises of the base rate's snapshot again. It has no recipe: there is nothing to choose.

    Args:
        bundle: The registered base rate.
        snapshot: What it was counted on; None when it saw no rows.
    """
    started = time.perf_counter()
    identity = BundleIdentity(**bundle.manifest.model_dump(include=set(BundleIdentity.model_fields)))
    split = chronological_split(snapshot.rows) if snapshot else None
    rebuilt = base_rate_bundle(identity, split.train["label"].to_numpy() if split else None)
    compared = compare_models(bundle, rebuilt, split, tolerance=0.0)
    return RebuildReport(
        identical=not compared.mismatches,
        seconds=time.perf_counter() - started,
        scope="winner",
        at=datetime.now(UTC),
        snapshot="verified files" if snapshot else "it saw no rows",
        mismatches=compared.mismatches,
        differences=(),
        expected=compared.expected,
        found=compared.found,
        largest_difference=compared.largest_difference,
    )


def candidate_of(recipe: Recipe, trials: pl.DataFrame, trained: Retrained) -> Candidate:
    """A candidate with that predictor, as it was before it was calibrated."""
    tuning = TuningResult(
        study_name=recipe.study_name,
        best_parameters={name: value for name, value in recipe.parameters.items() if not isinstance(value, str)},
        best_rounds=trained.rounds,
        best_value=trained.validation_loss,
        trials=trials,
        resumed=recipe.resumed,
        importances={},  # They say nothing about the model, and no recipe keeps them.
    )
    return Candidate(recipe.identity, recipe.family, recipe.profile, trained.files, tuning)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two models have in common, and what not: hashes of files and test forecasts, by name."""

    mismatches: tuple[str, ...]
    expected: dict[str, str]
    found: dict[str, str]
    largest_difference: float


def compare_models(
    registered: ModelBundle, rebuilt: ModelBundle, split: SplitResult | None, tolerance: float
) -> Comparison:
    """Files and test forecasts of two models; files only have to be equal where forecasts have to be."""
    forecasts = [np.empty(0) if split is None else _test_forecasts(model, split) for model in (registered, rebuilt)]
    hashes = [
        {**model.manifest.files, TEST_FORECASTS: hashlib.sha256(found.tobytes()).hexdigest()}
        for model, found in zip((registered, rebuilt), forecasts, strict=True)
    ]
    largest = float(np.abs(forecasts[0] - forecasts[1]).max(initial=0.0))
    mismatches: list[str] = []
    if tolerance > 0.0:
        if not largest <= tolerance:
            mismatches.append(f"{TEST_FORECASTS}: differ by up to {largest:.3g}, allowed {tolerance:.3g}")
    else:
        for name in sorted(hashes[0].keys() | hashes[1].keys()):
            was, now_is = (found.get(name, "absent") for found in hashes)
            if was != now_is:
                mismatches.append(f"{name}: had SHA-256 {was[:12]}, has {now_is[:12]}")
        if largest > 0.0:
            mismatches.append(f"{TEST_FORECASTS}: differ by up to {largest:.3g}")
    return Comparison(tuple(mismatches), hashes[0], hashes[1], largest)


def _test_forecasts(bundle: ModelBundle, split: SplitResult) -> np.ndarray:
    rows = with_windows(bundle.manifest, split.test, split.history)
    return predict_rows(bundle, rows, split.history)


def obtain_snapshot(store: SnapshotStore, lake: Lake, manifest: SnapshotManifest) -> tuple[Snapshot, str]:
    """The snapshot a model was trained on, and where its rows came from: its verified files, or the lake.

    Raises:
        SnapshotError: neither gives rows with the manifest's checksum.
    """
    try:
        snapshot = store.load(manifest.snapshot_id)
        if snapshot.manifest.checksum == manifest.checksum:
            return snapshot, "verified files"
        problem = f"its files have the checksum {snapshot.manifest.checksum[:12]}"
    except SnapshotError as error:
        problem = str(error)
    return recover(manifest, lake), f"computed again from the lake, because {problem}"


def _repeat_study(recipe: Recipe, split: SplitResult, folder: Path) -> Candidate:
    # With a ledger of its own: a repeated trial is not a further one.
    store = TrialStore(folder / _STUDY, TrialLedger(folder / _LEDGER))
    if recipe.family == TFT:
        parameters = TFTProfile.model_validate(recipe.parameters)
        candidate, _ = train_transformer_candidate(
            split, recipe.identity, recipe.profile, recipe.threads, store, parameters=parameters
        )
        return candidate
    return train_candidate(split, recipe.identity, recipe.family, recipe.profile, recipe.threads, store)


def _study_mismatches(recipe: Recipe, candidate: Candidate) -> Iterator[str]:
    tuning = candidate.tuning
    if tuning.study_name != recipe.study_name:
        yield f"study: was {recipe.study_name}, is {tuning.study_name}: its inputs are not the same"
    if (found := trials_digest(tuning.trials)) != recipe.trials_digest:
        yield f"trials: had the digest {recipe.trials_digest[:12]}, have {found[:12]}"
    if dict(tuning.best_parameters) != recipe.parameters:
        yield f"winning trial: was {recipe.parameters}, is {dict(tuning.best_parameters)}"


def identity_mismatches(bundle: ModelBundle, recipe: Recipe) -> Iterator[str]:
    """What a model says about itself and its recipe says otherwise, in words."""
    registered = bundle.manifest.model_dump(include=set(BundleIdentity.model_fields))
    for name, value in recipe.identity.model_dump().items():
        if registered[name] != value:
            yield f"{name}: the model says {registered[name]!r}, its recipe {value!r}"
