"""A training as the assets run it: what is in MLflow and the ledger afterwards, and what is not when it cannot be."""

import json
from dataclasses import replace

import mlflow
import polars as pl
import pytest

from levibot_core.config import TrainingProfile, load_settings
from levibot_core.errors import DataQualityError, LevibotError, MissingFeatureError, SnapshotError
from levibot_core.stores.paths import Home
from levibot_core.stores.snapshots import Snapshot, SnapshotStore
from levibot_core.stores.training_rows import TrainingInputs
from levibot_core.validation.split import chronological_split
from levibot_pipelines.registration import calibrate_family, register_lowest_loss
from levibot_pipelines.training import FamilyTraining, train_family
from levibot_pipelines.workspace import Workspace

BARS, START_MS, BAR_MS = 900, 1_735_689_600_000, 300_000
PROFILE = TrainingProfile(
    name="tiny",
    trials=3,
    family_trials={"xgboost": 2},
    max_rounds=12,
    early_stopping_rounds=6,
    max_bin=31,
    drift_rows=100,
)


@pytest.fixture
def workspace(registry_home: Home, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A home on three days of a simulated market, with its snapshot built."""
    monkeypatch.setattr("levibot_pipelines.workspace.load_profile", lambda _: PROFILE)
    settings = load_settings(
        home=registry_home.root, source="simulated", feature_set="v1", horizon_bars=3, simulated_edge=0.8, threads=1
    )
    opened = Workspace(settings, registry_home)
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


def snapshot_id(workspace: Workspace) -> str:
    latest = workspace.snapshots.latest()
    assert latest is not None
    return latest.snapshot_id


def train(workspace: Workspace, family: str) -> FamilyTraining:
    return train_family(workspace, family, snapshot_id(workspace), "a-dagster-run", lambda _: None)


def test_both_families_are_trained_compared_and_the_better_one_is_registered(workspace: Workspace) -> None:
    registry, client = workspace.registry, workspace.registry.client
    trained = [train(workspace, family) for family in ("lightgbm", "xgboost")]
    snapshot = workspace.snapshots.load(snapshot_id(workspace))
    split = chronological_split(snapshot.rows)
    calibrated = [calibrate_family(registry, found.reference, split) for found in trained]
    chosen, model = register_lowest_loss(registry, calibrated, split, snapshot.candles, threads=1)

    for found, trials in zip(trained, (3, 2), strict=True):
        reference = found.reference
        run = client.get_run(reference.run_id)
        experiment = client.get_experiment(run.info.experiment_id)
        below = client.search_runs([run.info.experiment_id], f"tags.mlflow.parentRunId = '{reference.run_id}'")
        assert experiment.name == f"levibot-5m-h3/{reference.family}"
        assert len(below) == trials == int(run.data.metrics["trials"])
        assert {"validation_log_loss", "validation_sharpe_per_day", "test_auc"} <= set(run.data.metrics)
        assert [entry.dataset.name for entry in run.inputs.dataset_inputs] == [snapshot_id(workspace)]
        assert {"plots/tuning_history.png", "plots/tuning_objectives.png", "plots/tuning_parameters.png"} <= {
            entry.path for entry in client.list_artifacts(reference.run_id, "plots")
        }
        assert run.data.tags["registered"] == ("yes" if found.reference == chosen.reference else "no")
    ledger = workspace.trial_store.ledger.read("levibot-5m-h3")
    assert sorted(ledger["family"]) == ["lightgbm"] * 3 + ["xgboost"] * 2
    assert ledger["snapshot_id"].unique().to_list() == [snapshot_id(workspace)]
    assert all(json.loads(parameters) for parameters in ledger["parameters"])
    assert chosen.validation_log_loss == min(found.validation_log_loss for found in calibrated)
    assert registry.version(model.version).family == chosen.reference.family
    run = client.get_run(chosen.reference.run_id)
    assert run.data.tags["uncertainty"] == "fitted"
    assert {"test_volatility_qlike_head", "test_volatility_qlike_har_rv", "test_interval_coverage"} <= set(
        run.data.metrics
    )
    parts = {"interval.json", "volatility.txt", "volatility.json", "novelty.json"}
    assert set(registry.load_bundle(model.version).parts) == parts

    # As MLflow's users load it, on real rows.
    with registry._fluent():
        loaded = mlflow.pyfunc.load_model(f"models:/levibot-5m-h3/{model.version}")
    frame = split.test.select(*loaded.metadata.signature.inputs.input_names())
    assert list(loaded.predict(frame.to_pandas())) == chosen.calibrated.test_probabilities.tolist()
    assert loaded.input_example["symbol"].tolist() == split.test["symbol"].tail(3).to_list()


@pytest.mark.parametrize(
    ("spoil", "error", "cause"),
    [
        (lambda rows: rows.with_columns(label=pl.lit(1, pl.Int8)), DataQualityError, "both classes in the train part"),
        (
            lambda rows: rows.with_columns(log_return_1=pl.lit(float("nan"))),
            MissingFeatureError,
            "without log_return_1",
        ),
        (lambda rows: rows.sort("known_at").head(150), DataQualityError, "at least 100 rows to train on, was"),
    ],
)
def test_rows_that_cannot_be_learnt_from_fail_the_run_and_register_nothing(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, spoil: object, error: type[LevibotError], cause: str
) -> None:
    load = SnapshotStore.load

    def spoilt(self: SnapshotStore, name: str) -> Snapshot:
        snapshot = load(self, name)
        return replace(snapshot, rows=spoil(snapshot.rows))  # type: ignore[operator]

    monkeypatch.setattr(SnapshotStore, "load", spoilt)
    with pytest.raises(error, match=cause):
        train(workspace, "lightgbm")
    client = workspace.registry.client
    experiments = [found.experiment_id for found in client.search_experiments()]
    assert [run.info.status for run in client.search_runs(experiments)] == ["FAILED"]
    assert workspace.registry.versions() == []
    assert workspace.trial_store.ledger.read().is_empty()


def test_a_snapshot_whose_checksum_fails_is_not_trained_on(workspace: Workspace) -> None:
    folder = workspace.home.snapshots / snapshot_id(workspace)
    rows = pl.read_parquet(folder / "rows.parquet")
    rows.with_columns(pl.col("log_return_1") + 1e-9).write_parquet(folder / "rows.parquet")
    with pytest.raises(SnapshotError, match="altered after they were written"):
        train(workspace, "xgboost")
    assert workspace.registry.versions() == []
