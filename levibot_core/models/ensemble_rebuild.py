"""Making a registered ensemble again: its members from their recipes, then its weights.

What a rebuild is, and how two models are compared, is in `.rebuild`.
"""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from levibot_core.models.bundle import ModelBundle
from levibot_core.models.candidate import BUNDLE, calibrate_candidate
from levibot_core.models.ensemble_candidate import fit_ensemble
from levibot_core.models.ensemble_folds import Member
from levibot_core.models.rebuild import (
    RebuildReport,
    Scope,
    compare_models,
    identity_mismatches,
    obtain_snapshot,
    train_again,
)
from levibot_core.models.recipe import Environment, Recipe, check_trials, environment_differences
from levibot_core.models.retraining import training_of
from levibot_core.models.uncertainty_fitting import with_same_parts
from levibot_core.stores.lake import Lake
from levibot_core.stores.snapshots import SnapshotStore
from levibot_core.stores.trial_ledger import TrialLedger
from levibot_core.validation.split import chronological_split

MemberRecipes = Mapping[str, tuple[Recipe, pl.DataFrame]]
"""Name of a member to its recipe and its table of finished trials, in the order of the ensemble."""


def rebuild_ensemble(
    bundle: ModelBundle,
    recipe: Recipe,
    trials: pl.DataFrame,
    members: MemberRecipes,
    store: SnapshotStore,
    lake: Lake,
    now: Environment,
    folder: Path,
    scope: Scope = "winner",
) -> RebuildReport:
    """Train every member again, find the weights again, and compare the outcome with the registered ensemble.

    Args:
        bundle: The registered ensemble.
        recipe: What its weights were found with.
        trials: The recorded table of its attempts.
        members: Recipes and trials of its members.
        store: Where its snapshot is, unless its files are damaged or gone.
        lake: What the snapshot is computed from then.
        now: What runs this rebuild; where it is not what ran the training, that is reported and the rebuild goes on.
        folder: An empty folder to work in.
        scope: Of the members: `winner` trains the winning trials again, `study` repeats the searches for them.

    Raises:
        BundleError: a table of trials is not that of its recipe, or a family cannot be trained again.
        SnapshotError: neither the snapshot's files nor the lake give its rows.
        DataQualityError: the rows do not let weights be found.
    """
    started = time.perf_counter()
    for found, table in ((recipe, trials), *members.values()):
        check_trials(found, table)
    snapshot, origin = obtain_snapshot(store, lake, recipe.snapshot)
    split = chronological_split(snapshot.rows)
    mismatches = list(identity_mismatches(bundle, recipe))
    again: dict[str, Member] = {}
    for name, (found, table) in members.items():
        candidate, differs = train_again(found, table, split, folder / name, scope)
        mismatches += [f"{name}: {difference}" for difference in differs]
        again[name] = Member(candidate, calibrate_candidate(candidate, split).bundle)
    # With a ledger of its own: a repeated attempt is not a further one.
    ensemble = fit_ensemble(again, split, recipe.threads, TrialLedger(folder / "ledger"))
    rebuilt = calibrate_candidate(ensemble, split).bundle
    rebuilt = with_same_parts(rebuilt, bundle, split, snapshot.candles, recipe.threads)
    rebuilt.save(folder / BUNDLE)
    tolerance = max(training_of(found.family).tolerance for found, _ in members.values())
    compared = compare_models(bundle, ModelBundle.load(folder / BUNDLE), split, tolerance)
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
