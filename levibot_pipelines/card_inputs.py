"""Collect what a model card shows: from the registered version, its recipe and snapshot, and three measurements.

The same collector makes a card and verifies one. Laying a card out is `levibot_core.models.card`'s work.
"""

import json
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
import polars as pl

from levibot_core.errors import ExplanationError
from levibot_core.features.registry import load_registry
from levibot_core.market.timeframe import Timeframe
from levibot_core.models.block_bootstrap import BlockBootstrap
from levibot_core.models.bundle import ModelBundle
from levibot_core.models.candidate import CalibratedCandidate, calibrate_candidate
from levibot_core.models.card_sections import (
    CardInputs,
    EnsembleSection,
    Interval,
    LatencySummary,
    Provenance,
    part_summaries,
    reproduction,
    shap_summary,
    tuning_summary,
)
from levibot_core.models.ensemble_candidate import EnsembleVerdict, judge_ensemble
from levibot_core.models.latency import TIMED_CALLS, WARM_UP_CALLS, measure_latency
from levibot_core.models.metric_intervals import metric_intervals
from levibot_core.models.predictors import ENSEMBLE
from levibot_core.models.rebuild import RebuildReport, candidate_of
from levibot_core.models.recipe import Recipe
from levibot_core.models.retraining import Retrained, training_of
from levibot_core.models.row_forecasts import input_of_rows, split_with_windows
from levibot_core.models.shap_values import ShapSample, shap_sample
from levibot_core.models.spread import SpreadReport, cross_validated_spread
from levibot_core.stores.snapshots import Snapshot
from levibot_core.stores.training_rows import read_inputs
from levibot_core.validation.attack.trained import TrainedModel
from levibot_core.validation.comparison import compare_with_base_rate
from levibot_core.validation.leak_report import LeakReport
from levibot_core.validation.leakage import check_leakage
from levibot_core.validation.purged import PurgedWalkForward
from levibot_core.validation.split import SplitResult, chronological_split
from levibot_pipelines.rebuilding import logged_recipe, rebuild_log
from levibot_pipelines.registration import ENSEMBLE_TAG, VERDICT_TAG
from levibot_pipelines.registry import RegisteredVersion
from levibot_pipelines.workspace import Workspace

SPREAD_SEEDS = 5
# On two cores, each fold of 168 days and 245 features takes about five seconds: a person waits for a fast profile.
_SPREAD_FOLDS = {"fast": 2}
_USUAL_SPREAD_FOLDS = 5


@dataclass(frozen=True)
class Subject:
    """A registered version and everything its card is computed from, each read and checked."""

    registered: RegisteredVersion
    bundle: ModelBundle
    recipe: Recipe
    trials: pl.DataFrame
    snapshot: Snapshot
    split: SplitResult
    calibrated: CalibratedCandidate

    @cached_property
    def shap(self) -> ShapSample | None:
        """SHAP values of test rows, which take seconds that judging does not need; None for a family without any."""
        try:
            return shap_sample(self.bundle, self.split.test)
        except ExplanationError:
            return None


@dataclass(frozen=True, slots=True)
class Measured:
    """What is expensive, or of the moment."""

    leakage: LeakReport
    latency: LatencySummary
    spread: SpreadReport | None


def load_subject(workspace: Workspace, version: int) -> Subject:
    """Read a registered version, its recipe and its snapshot, and calibrate and score the model again.

    Raises:
        RegistryError: there is no such version, or it has no recipe.
        SnapshotError: its snapshot is gone, or not what it was.
        BundleError: its bundle or its recipe is not whole.
    """
    registered = workspace.registry.version(version)
    recipe, trials = logged_recipe(workspace, registered)
    bundle = workspace.registry.load_bundle(version)
    snapshot = workspace.snapshots.load(recipe.snapshot.snapshot_id)
    split = split_with_windows(bundle.manifest, chronological_split(snapshot.rows))
    trained = Retrained(bundle.files, recipe.rounds, recipe.validation_log_loss)
    calibrated = calibrate_candidate(candidate_of(recipe, trials, trained), split)
    return Subject(registered, bundle, recipe, trials, snapshot, split, calibrated)


def measure(workspace: Workspace, subject: Subject) -> Measured:
    """Attack the training, time predictions, and train on other folds and seeds."""
    return Measured(measure_leakage(workspace, subject), measure_one_row(subject), measure_spread(workspace, subject))


def card_inputs(subject: Subject, measured: Measured, rebuilt: RebuildReport | None) -> CardInputs:
    """Everything on the card of a version, before it is judged."""
    manifest, recipe, report = subject.snapshot.manifest, subject.recipe, subject.calibrated.report
    return CardInputs(
        manifest=subject.bundle.manifest,
        version=subject.registered.version,
        parts=part_summaries(subject.split),
        report=report,
        against_base_rate=compare_with_base_rate(
            subject.bundle, report.base_rate, subject.split.test, subject.split.history
        ),
        intervals=_test_intervals(subject),
        shap=None if subject.shap is None else shap_summary(subject.shap),
        leakage=measured.leakage,
        latency=measured.latency,
        tuning=tuning_summary(recipe, subject.trials),
        spread=measured.spread,
        provenance=Provenance(
            source_key=manifest.source.key,
            venue=manifest.source.venue,
            source_description=manifest.source.description,
            snapshot_checksum=manifest.checksum,
            features_sha256=manifest.features_sha256,
            code_version=recipe.environment.code_version,
            libraries=recipe.environment.libraries,
        ),
        reproduction=reproduction(recipe, rebuilt),
        ensemble=_ensemble(subject),
    )


def _ensemble(subject: Subject) -> EnsembleSection | None:
    """What the training said of combining the families; of a version that is an ensemble, found once more."""
    tags = subject.registered.tags
    if ENSEMBLE_TAG not in tags:
        return None
    verdict: EnsembleVerdict | None = None
    if subject.bundle.manifest.family == ENSEMBLE:
        verdict = judge_ensemble(subject.bundle, subject.split)
    elif VERDICT_TAG in tags:
        verdict = EnsembleVerdict.model_validate_json(tags[VERDICT_TAG])
    return EnsembleSection(reason=tags[ENSEMBLE_TAG], verdict=verdict)


def _test_intervals(subject: Subject) -> dict[str, Interval]:
    """Scores of the test rows with their intervals; the recipe's seed draws the same blocks every time."""
    test, manifest = subject.split.test, subject.snapshot.manifest
    times_ms = test["known_at"].dt.epoch("ms").to_numpy()
    horizon_ms = manifest.horizon_bars * Timeframe.parse(manifest.timeframe).milliseconds
    bootstrap = BlockBootstrap(times_ms, horizon_ms, subject.recipe.identity.seed)
    found = metric_intervals(subject.calibrated.test_probabilities, test["label"].to_numpy(), bootstrap)
    return {name: Interval(**asdict(interval)) for name, interval in found.items()}


def last_rebuild(workspace: Workspace, version: int) -> RebuildReport | None:
    """The newest logged rebuild of a version; None when none was tried."""
    path = rebuild_log(workspace)
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    records = (json.loads(line) for line in reversed(lines))
    ours = (
        record for record in records if (record["model"], record["version"]) == (workspace.settings.model_name, version)
    )
    found = next(ours, None)
    return None if found is None else RebuildReport.model_validate(found)


def measure_leakage(workspace: Workspace, subject: Subject) -> LeakReport:
    """The leak attack on a version's features, split and training."""
    manifest = subject.snapshot.manifest
    inputs = read_inputs(
        workspace.lake,
        source_key=manifest.source.key,
        market=manifest.market,
        timeframe=manifest.timeframe,
        symbols=manifest.symbols,
        as_of_ms=int(manifest.as_of.timestamp() * 1000),
    )
    return check_leakage(
        inputs.candles,
        inputs.funding,
        load_registry(manifest.feature_set),
        Timeframe.parse(manifest.timeframe),
        manifest.horizon_bars,
        subject.split,
        subject.recipe.identity.seed,
        trained=TrainedModel(subject.bundle, subject.calibrated.report.base_rate),
        fear_greed=inputs.fear_greed,
        triple_barrier=manifest.triple_barrier,
    )


def measure_one_row(subject: Subject) -> LatencySummary:
    """How long one prediction takes here and now."""
    bundle, newest = subject.bundle, subject.split.test.tail(1)
    manifest, symbol = bundle.manifest, newest["symbol"][0]
    bars = input_of_rows(manifest, newest, subject.split.history).reshape(manifest.window, -1)[:, :-1]
    if manifest.window > 1:
        percentiles = measure_latency(lambda: bundle.predict(bundle.matrix_of_bars(symbol, bars)))
    else:
        values = dict(zip(manifest.features, bars[0].tolist(), strict=True))
        percentiles = measure_latency(lambda: bundle.predict(bundle.matrix_row(symbol, values)))
    return LatencySummary(warm_up=WARM_UP_CALLS, timed=TIMED_CALLS, **percentiles)


def measure_spread(workspace: Workspace, subject: Subject) -> SpreadReport | None:
    """The winning parameters on purged walk-forward folds, with several seeds each; None where that takes hours.

    Nor is there one of an ensemble: it has no parameters of its own, and its members have cards where registered.
    """
    rows, recipe = subject.snapshot.rows, subject.recipe
    if recipe.family == ENSEMBLE or not training_of(recipe.family).cheap:
        return None
    known, ends = (rows[name].dt.epoch("ms").to_numpy().astype(np.int64) for name in ("known_at", "label_end"))
    count = _SPREAD_FOLDS.get(recipe.profile.name, _USUAL_SPREAD_FOLDS)
    folds = PurgedWalkForward(n_folds=count, window="expanding").split(known, ends)
    seeds = range(recipe.identity.seed, recipe.identity.seed + SPREAD_SEEDS)
    return cross_validated_spread(
        rows,
        list(folds),
        list(seeds),
        recipe.family,
        recipe.identity,
        recipe.parameters,
        recipe.profile,
        workspace.settings.threads,
    )
