"""An ensemble as the assets make it: kept with its reason, registered, made again from recipes, shown on its card."""

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from levibot_core.config import TrainingProfile, load_settings
from levibot_core.models.card import build_card
from levibot_core.models.card_pages import card_html, card_markdown
from levibot_core.models.ensemble_candidate import EnsembleVerdict, judge_ensemble
from levibot_core.stores.paths import Home
from levibot_core.stores.training_rows import TrainingInputs
from levibot_core.validation.attack.trained import TrainedModel, attack_trained_model
from levibot_core.validation.leak_report import LeakReport
from levibot_core.validation.split import chronological_split
from levibot_pipelines.card_inputs import Measured, card_inputs, load_subject, measure_one_row, measure_spread
from levibot_pipelines.ensemble import EnsembleOutcome, make_ensemble
from levibot_pipelines.rebuilding import rebuild_version
from levibot_pipelines.registration import register_best
from levibot_pipelines.training import train_family
from levibot_pipelines.workspace import Workspace

BARS, START_MS, BAR_MS = 900, 1_735_689_600_000, 300_000
PROFILE = TrainingProfile(name="fast", trials=2, max_rounds=10, early_stopping_rounds=5, max_bin=31, drift_rows=100)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, migrated_registry: Path) -> Workspace:
    """A home on three days of a simulated market, with its snapshot built."""
    home = Home.at(tmp_path_factory.mktemp("ensemble")).create()
    shutil.copy(migrated_registry, home.mlflow / "mlflow.db")
    settings = load_settings(
        home=home.root, source="simulated", feature_set="v1", horizon_bars=3, simulated_edge=0.8, threads=1
    )
    opened = Workspace(settings, home)
    source, end_ms = opened.source, START_MS + BARS * BAR_MS
    symbols = settings.symbols[:2]
    candles = pl.concat([source.candles(name, "spot", opened.timeframe, START_MS, end_ms) for name in symbols])
    funding = pl.concat([source.funding_rates(name, START_MS, end_ms) for name in symbols])
    opened.snapshots.build(
        inputs=TrainingInputs(candles, funding),
        feature_set=opened.feature_set,
        timeframe=opened.timeframe,
        horizon_bars=settings.horizon_bars,
        source=source.identity,
        market="spot",
        as_of_ms=end_ms,
        start_ms=START_MS,
    )
    return opened


@pytest.fixture(scope="module")
def made(workspace: Workspace) -> EnsembleOutcome:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("levibot_pipelines.workspace.load_profile", lambda _: PROFILE)
        latest = workspace.snapshots.latest()
        assert latest is not None
        trained = [
            train_family(workspace, family, latest.snapshot_id, "a-dagster-run", lambda _: None)
            for family in ("lightgbm", "xgboost")
        ]
        return make_ensemble(workspace, [found.reference for found in trained], "a-dagster-run")


def test_it_is_kept_with_weights_figures_plots_and_the_reason(workspace: Workspace, made: EnsembleOutcome) -> None:
    candidate, client = made.reference.candidate, workspace.registry.client
    assert candidate is not None
    assert made.verdict is not None
    run = client.get_run(candidate.run_id)
    assert client.get_experiment(run.info.experiment_id).name == "levibot-5m-h3/ensemble"
    assert run.data.tags["ensemble"] == made.reference.reason == made.verdict.reason
    assert {"weight_lightgbm", "weight_xgboost", "ensemble_test_log_loss", "test_auc"} <= set(run.data.metrics)
    assert {entry.path for entry in client.list_artifacts(candidate.run_id, "plots")} == {
        "plots/ensemble.png",
        "plots/importance.png",
        "plots/reliability.png",
    }
    ledger = workspace.trial_store.ledger.read("levibot-5m-h3")
    assert ledger.filter(pl.col("family") == "ensemble").height == 2


def test_where_it_is_not_taken_the_best_member_is_registered_with_the_reason(
    workspace: Workspace, made: EnsembleOutcome
) -> None:
    snapshot = workspace.snapshots.load(made.reference.members[0].snapshot_id)
    kept = made.reference.model_copy(update={"taken": False, "reason": "not clearly better"})
    chosen, model = register_best(workspace.registry, kept, snapshot, 1)
    found = workspace.registry.version(model.version)
    assert chosen.validation_log_loss == min(family.validation_log_loss for family in made.members)
    assert (found.family, found.ensemble) == (chosen.reference.family, "not clearly better")


def test_where_it_is_taken_it_is_made_again_with_the_same_hashes_and_has_a_card(
    workspace: Workspace, made: EnsembleOutcome
) -> None:
    snapshot = workspace.snapshots.load(made.reference.members[0].snapshot_id)
    # Whether it is better is not in question here, but what becomes of one that is.
    taken = made.reference.model_copy(update={"taken": True})
    _, model = register_best(workspace.registry, taken, snapshot, 1)
    assert workspace.registry.version(model.version).family == "ensemble"
    bundle = workspace.registry.load_bundle(model.version)
    assert judge_ensemble(bundle, chronological_split(snapshot.rows)) == made.verdict

    report = rebuild_version(workspace, model.version)
    assert (report.identical, report.mismatches) == (True, ())
    assert {"ensemble.json", "member.lightgbm.booster.txt", "member.xgboost.manifest.json"} <= set(report.found)

    subject = load_subject(workspace, model.version)
    checks = attack_trained_model(
        TrainedModel(bundle, subject.calibrated.report.base_rate),
        subject.split,
        snapshot.candles,
        workspace.timeframe,
        np.random.default_rng(0),
    )
    leakage = LeakReport(tuple(checks))
    assert leakage.passed, leakage
    measured = Measured(leakage, measure_one_row(subject), measure_spread(workspace, subject))
    card = build_card(card_inputs(subject, measured, report))
    assert card["ensemble"]["reason"] == made.reference.reason
    assert EnsembleVerdict.model_validate(card["ensemble"]["verdict"]) == made.verdict
    assert card["spread"] is None
    assert {"together", "lightgbm"} <= set(card_markdown(card).split())
    assert "All families together" in card_html(card)


def test_one_family_alone_is_registered_without_an_ensemble(workspace: Workspace, made: EnsembleOutcome) -> None:
    alone = make_ensemble(workspace, made.reference.members[:1], "a-dagster-run")
    assert (alone.reference.candidate, alone.reference.taken, alone.verdict) == (None, False, None)
    assert "one family alone" in alone.reference.reason
