"""The transformer as a family like the others: trained, calibrated, registered, made again, served and attacked."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import mlflow
import numpy as np
import polars as pl
import pytest

from levibot_core.config import TrainingProfile, load_settings
from levibot_core.errors import ExplanationError
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY
from levibot_core.models.base_rate import fit_base_rate
from levibot_core.models.bundle import ModelBundle
from levibot_core.models.candidate import BUNDLE, Candidate
from levibot_core.models.row_forecasts import predict_rows
from levibot_core.models.tft import candidate as tft_candidate
from levibot_core.models.tft.configuration import TFT_REBUILD_TOLERANCE
from levibot_core.models.tft.profile import TFTProfile
from levibot_core.registry.champions import promote
from levibot_core.stores.online import FeatureVector, SqliteOnlineStore
from levibot_core.stores.paths import Home
from levibot_core.stores.snapshots import Snapshot
from levibot_core.stores.training_rows import read_inputs
from levibot_core.validation.attack.trained import TrainedModel, attack_trained_model
from levibot_core.validation.split import SplitResult, chronological_split
from levibot_pipelines.cards import make_card, verify_card
from levibot_pipelines.rebuilding import rebuild_version
from levibot_pipelines.references import ModelReference
from levibot_pipelines.registration import calibrate_family, register_lowest_loss
from levibot_pipelines.training import FamilyTraining, train_family, why_left_out
from levibot_pipelines.workspace import Workspace
from levibot_serving.config import ServingSettings, load_serving_settings

BARS, START_MS, BAR_MS = 900, 1_735_689_600_000, 300_000
PROFILE = TrainingProfile(name="tiny", trials=1, max_rounds=5, early_stopping_rounds=2, max_bin=15, drift_rows=100)
NETWORK = TFTProfile(
    hidden_size=4,
    lstm_layers=1,
    attention_heads=2,
    dropout=0.1,
    window=6,
    epochs=2,
    batch_size=64,
    limit_train_batches=3,
    validation_windows=64,
    learning_rate=0.02,
)


@dataclass(frozen=True)
class Trained:
    """A home with one transformer in its registry."""

    workspace: Workspace
    snapshot: Snapshot
    training: FamilyTraining
    said: list[str]
    model: ModelReference

    @property
    def bundle(self) -> ModelBundle:
        return ModelBundle.load(self.model.folder / BUNDLE)

    @property
    def split(self) -> SplitResult:
        return chronological_split(self.snapshot.rows)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, migrated_registry: Path) -> Iterator[Trained]:
    """Three days of a simulated market, in the lake."""
    home = Home.at(tmp_path_factory.mktemp("transformer")).create()
    (home.mlflow / "mlflow.db").write_bytes(migrated_registry.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("levibot_pipelines.workspace.load_profile", lambda _: PROFILE)
        patch.setattr(tft_candidate, "tft_profile", lambda _: NETWORK)
        settings = load_settings(
            home=home.root, source="simulated", feature_set="v1", horizon_bars=3, simulated_edge=0.8, threads=1
        )
        workspace = Workspace(settings, home)
        snapshot = workspace.snapshots.load(_build_snapshot(workspace))
        said: list[str] = []
        training = train_family(workspace, "tft", snapshot.manifest.snapshot_id, "a-run", said.append)
        split = chronological_split(snapshot.rows)
        calibrated = calibrate_family(workspace.registry, training.reference, split)
        _, model = register_lowest_loss(workspace.registry, [calibrated], split, snapshot.candles, 1)
        yield Trained(workspace, snapshot, training, said, model)


def _build_snapshot(workspace: Workspace) -> str:
    source, lake, end_ms = workspace.source, workspace.lake, START_MS + BARS * BAR_MS
    key, symbols = source.identity.key, workspace.settings.symbols[:1]
    candles = [source.candles(name, "spot", workspace.timeframe, START_MS, end_ms) for name in symbols]
    lake.append(workspace.candles(source.identity), pl.concat(candles), end_ms)
    funding = [source.funding_rates(name, START_MS - 4 * MILLISECONDS_PER_DAY, end_ms + 1) for name in symbols]
    lake.append(workspace.funding(source.identity), pl.concat(funding), end_ms)
    lake.set_current_source(source.identity)
    return workspace.snapshots.build(
        inputs=read_inputs(lake, source_key=key, market="spot", timeframe="5m", symbols=symbols),
        feature_set=workspace.feature_set,
        timeframe=workspace.timeframe,
        horizon_bars=workspace.settings.horizon_bars,
        source=source.identity,
        market="spot",
        as_of_ms=end_ms,
        start_ms=START_MS,
    ).snapshot_id


def test_a_training_tells_its_epochs_and_is_one_trial_with_its_returns(trained: Trained) -> None:
    workspace, training = trained.workspace, trained.training
    assert [line.partition(":")[0] for line in trained.said] == ["loading PyTorch", "epoch 1/2", "epoch 2/2"]
    assert list(training.plots) == ["loss_curve"]
    ledger = workspace.trial_store.ledger.read(workspace.settings.model_name)
    assert ledger.select("family", "state").rows() == [("tft", "complete")]
    assert json.loads(ledger["parameters"][0])["window"] == NETWORK.window
    assert np.isfinite(ledger["returns"][0].to_numpy()).all()
    run = workspace.registry.client.get_run(training.reference.run_id)
    assert (run.data.params["hidden_size"], run.data.params["calibration"]) == ("4", trained.bundle.calibrator.method)
    paths = {file.path for file in workspace.registry.client.list_artifacts(training.reference.run_id, "plots")}
    assert {"plots/loss_curve.png", "plots/reliability.png", "plots/importance.png"} <= paths
    loaded = Candidate.load(training.reference.folder)
    assert loaded.predictor_files == training.candidate.predictor_files
    assert loaded.identity.window == NETWORK.window


def test_a_row_without_its_window_has_no_forecast_and_every_feature_has_its_weight(trained: Trained) -> None:
    test, bundle, rows = trained.split.test, trained.bundle, trained.snapshot.rows
    missing = rows["ts"] == test["ts"][20]
    found = predict_rows(bundle, test, rows.filter(~missing))
    assert np.isfinite(predict_rows(bundle, test, rows)).all()
    assert np.isnan(found).sum() == NETWORK.window * int(missing.sum())
    report = json.loads((trained.model.folder / "calibration.json").read_bytes())
    weights = {item["feature"]: item["gain_share"] for item in report["importance"]}
    assert sum(weights.values()) == pytest.approx(1.0, abs=1e-5)
    assert weights.keys() == {*bundle.manifest.features, "symbol_code"}
    with pytest.raises(ExplanationError, match="variable selection"):
        bundle.contributions(np.zeros((1, 2)))


def test_a_rebuild_is_within_the_declared_tolerance_and_the_card_verifies(trained: Trained) -> None:
    workspace, version = trained.workspace, trained.model.version
    report = rebuild_version(workspace, version)
    assert report.identical, report.mismatches
    assert report.largest_difference <= TFT_REBUILD_TOLERANCE
    card = make_card(workspace, version)
    assert (card["model"]["window"], card["model"]["family"]) == (NETWORK.window, "tft")
    assert card["tuning"]["best_parameters"]["hidden_size"] == NETWORK.hidden_size
    assert (card["shap"], card["spread"]) == (None, None)
    assert card["leakage"]["passed"], [check for check in card["leakage"]["checks"] if not check["passed"]]
    assert verify_card(workspace, version).mismatches == ()


def test_the_registered_model_answers_a_frame_of_bars_through_mlflow(trained: Trained) -> None:
    workspace, manifest = trained.workspace, trained.bundle.manifest
    rows = trained.split.test.filter(pl.col("symbol") == "BTC/USDT").head(10)
    with workspace.registry._fluent():
        model = mlflow.pyfunc.load_model(f"models:/{workspace.settings.model_name}/{trained.model.version}")
    frame = rows.select(*manifest.features, "symbol", pl.col("ts").dt.replace_time_zone(None).cast(pl.Datetime("ns")))
    found = np.asarray(model.predict(frame.to_pandas()))
    assert np.isnan(found).tolist() == [True] * (manifest.window - 1) + [False] * (10 - manifest.window + 1)
    expected = predict_rows(trained.bundle, rows)
    np.testing.assert_allclose(found, expected, rtol=0.0, atol=1e-6)


def test_the_api_answers_from_the_online_window_what_was_forecast_offline(
    trained: Trained, serve: Callable[[ServingSettings], AbstractContextManager[httpx.Client]]
) -> None:
    workspace, bundle = trained.workspace, trained.bundle
    promote(workspace.registry, trained.model.version, actor="a test", reason="it is to be served")
    rows = trained.split.test.filter(pl.col("symbol") == "BTC/USDT")
    expected = predict_rows(bundle, rows, trained.snapshot.rows, rows_at_once=1)
    store = SqliteOnlineStore(workspace.home.online_store)
    with serve(load_serving_settings(home=workspace.home.root, horizon_bars=3, registry_poll_seconds=0.2)) as client:
        deadline = time.monotonic() + 20
        while client.get("/readyz").status_code != 200:
            assert time.monotonic() < deadline, client.get("/readyz").text
            time.sleep(0.05)
        history = trained.snapshot.rows.filter(pl.col("symbol") == "BTC/USDT", pl.col("ts") < rows["ts"][0])
        store.put(_vectors(history.tail(NETWORK.window - 1), trained))
        for place in range(4):
            store.put(_vectors(rows[place], trained))
            answer = client.get("/ai/predict?symbol=BTCUSDT").json()
            assert (answer["prob_up"], answer["_prob_tft"]) == (expected[place], expected[place])
            assert answer["family"] == "tft"
        explained = client.get("/ai/explain?symbol=BTCUSDT&top=3").json()
        assert (explained["prob_up"], explained["contributions"]) == (expected[3], [])
        assert "not known exactly" in explained["reason"]
        weights = [item["weight"] for item in explained["selection_weights"]]
        assert weights == sorted(weights, reverse=True)
        assert len(weights) == 3
        store.put(_vectors(rows[5], trained))  # The bar before it is missing.
        answer = client.get("/ai/predict?symbol=BTCUSDT").json()
        assert answer["fallback"]
        assert "they were computed from the home's candles" in answer["fallback_reason"]
    store.close()


def _vectors(rows: pl.DataFrame, trained: Trained) -> list[FeatureVector]:
    manifest = trained.snapshot.manifest
    return [
        FeatureVector(
            symbol=row["symbol"],
            ts_ms=int(row["ts"].timestamp() * 1000),
            known_at_ms=int(row["known_at"].timestamp() * 1000),
            feature_set=manifest.feature_set,
            source_kind=manifest.source.kind,
            close=100.0,
            values={name: row[name] for name in manifest.features},
        )
        for row in rows.iter_rows(named=True)
    ]


def test_nothing_after_a_row_reaches_the_calibrator_or_its_forecasts(trained: Trained) -> None:
    """That later rows do not reach the network either is shown beside the training."""
    split = trained.split
    base_rate = fit_base_rate(split.train["label"].to_numpy())
    checks = list(
        attack_trained_model(
            TrainedModel(trained.bundle, base_rate),
            split,
            trained.snapshot.candles,
            trained.workspace.timeframe,
            np.random.default_rng(5),
        )
    )
    assert {found.name for found in checks} >= {"calibration_ignores_later_rows", "forecasts_ignore_the_future"}
    assert [found for found in checks if not found.passed] == []


def test_a_family_is_left_out_by_its_setting_or_where_its_libraries_are_missing(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = trained.workspace
    assert why_left_out(workspace, "tft") is None
    few = replace(workspace, settings=workspace.settings.model_copy(update={"families": ("lightgbm",)}))
    assert why_left_out(few, "tft") == "LEVIBOT_FAMILIES names lightgbm alone"
    monkeypatch.setattr(tft_candidate, "TRAINING_LIBRARIES", ("torch", "a_library_that_is_nowhere"))
    assert "a_library_that_is_nowhere cannot be found" in str(why_left_out(workspace, "tft"))
    assert why_left_out(workspace, "lightgbm") is None
