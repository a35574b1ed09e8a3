"""Labels and sample weights that are not the usual ones, through the assets: trained, registered, rebuilt, refused."""

import json
from collections.abc import Callable

import dagster as dg
import mlflow
import pytest

from levibot_core.config import TrainingProfile, load_settings
from levibot_core.errors import BundleError, SnapshotError
from levibot_core.labels.definition import TripleBarrierLabel
from levibot_core.models.candidate import Candidate
from levibot_core.stores.paths import Home
from levibot_core.validation.comparison import compare_with_model
from levibot_core.validation.split import chronological_split
from levibot_pipelines.defs.backtest.assets import report
from levibot_pipelines.defs.calibration.assets import calibrated_model, ensemble
from levibot_pipelines.defs.feature_store.assets import training_snapshot
from levibot_pipelines.defs.model_cards.assets import model_card, rebuild
from levibot_pipelines.defs.promotion.assets import challenger
from levibot_pipelines.defs.training.assets import base_rate, lightgbm, tft, xgboost
from levibot_pipelines.io_managers.references import ReferenceIOManager
from levibot_pipelines.references import CandidateReference
from levibot_pipelines.registration import bundle_identity
from levibot_pipelines.workspace import Workspace

START_MS, DAY_MS, DAYS = 1_735_689_600_000, 86_400_000, 4
PROFILE = TrainingProfile(name="fast", trials=2, max_rounds=10, early_stopping_rounds=5, max_bin=31, drift_rows=100)
TRAINED = [training_snapshot, base_rate, lightgbm, xgboost, tft, ensemble]
ASSETS = [*TRAINED, calibrated_model, report, rebuild, model_card, challenger]
Open = Callable[..., Workspace]


@pytest.fixture
def open_home(registry_home: Home, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Opens a home with a few simulated days in its lake; keyword arguments are variables of the environment."""
    monkeypatch.setattr("levibot_pipelines.workspace.load_profile", lambda _: PROFILE)
    monkeypatch.setattr("levibot_pipelines.card_inputs.SPREAD_SEEDS", 2)
    usual = {
        "home": str(registry_home.root),
        "source": "simulated",
        "symbols": "BTC/USDT,ETH/USDT",
        "feature_set": "v1",
        "simulated_edge": "0.8",
        "threads": "1",
        "days": str(DAYS - 1),
        "horizon_bars": "3",
        "labels": "direction",
        "sample_weights": "none",
    }

    def open_it(**changes: str) -> Workspace:
        for name, value in {**usual, **changes}.items():
            monkeypatch.setenv(f"LEVIBOT_{name.upper()}", value)
        return Workspace.open(load_settings())

    opened, end_ms = open_it(), START_MS + DAYS * DAY_MS
    source = opened.source
    for symbol in opened.settings.symbols:
        candles = source.candles(symbol, "spot", opened.timeframe, START_MS, end_ms)
        opened.lake.append(opened.candles(source.identity), candles, end_ms)
        opened.lake.append(opened.funding(source.identity), source.funding_rates(symbol, START_MS, end_ms), end_ms)
    opened.lake.set_current_source(source.identity)
    return open_it


def materialize(workspace: Workspace, *assets: dg.AssetsDefinition) -> None:
    resources = {"workspace": workspace, "references": ReferenceIOManager()}
    with dg.DagsterInstance.ephemeral() as instance:
        assert dg.materialize(list(assets), instance=instance, resources=resources).success


def test_a_model_of_barriers_is_trained_rebuilt_and_judged_but_never_traded(open_home: Open) -> None:
    workspace = open_home(labels="triple_barrier", sample_weights="uniqueness", families="lightgbm")
    materialize(workspace, *ASSETS)

    registry = workspace.registry
    assert registry.model_name == "levibot-5m-tb60"
    version = registry.by_alias("challenger")
    assert version is not None
    bundle = registry.load_bundle(version.version)
    manifest = bundle.manifest
    assert (manifest.triple_barrier, manifest.horizon_bars) == (TripleBarrierLabel(), 60)
    assert manifest.sample_weights == "uniqueness"
    # No band of the return over the horizon, which would be one of another return.
    assert set(bundle.parts) == {"novelty.json"}
    assert not version.tradable
    assert any("which barrier is touched first" in reason for reason in version.reasons)
    assert (
        "reaches 3 average true ranges above" in registry.client.get_registered_model(registry.model_name).description
    )

    snapshot = workspace.snapshots.load(manifest.snapshot_id)
    assert snapshot.manifest.label == TripleBarrierLabel()
    split = chronological_split(snapshot.rows)
    with registry._fluent():
        loaded = mlflow.pyfunc.load_model(f"models:/{registry.model_name}/{version.version}")
    assert loaded.metadata.signature.outputs.input_names() == ["prob_profit_first"]
    rebuilt = json.loads(version.tags["rebuild"])
    assert (rebuilt["identical"], rebuilt["mismatches"]) == (True, [])
    assert {gate["gate"]: gate["passed"] for gate in version.gates}["leak_check"]
    backtest = json.loads((workspace.home.reports / "backtests" / f"v{version.version}.json").read_text("utf-8"))
    assert backtest["trades"] == []
    assert workspace.trial_store.ledger.read("levibot-5m-tb60")["sharpe_per_day"].to_list() == [0.0] * 2

    # In the same home, a model of the direction has its own name, and neither takes the other's rows or champion.
    other = open_home()
    with pytest.raises(SnapshotError, match="Materialise feature_store/training_snapshot"):
        bundle_identity(other, snapshot.manifest)
    assert other.registry.versions() == []
    direction = type(bundle).build(
        manifest.model_copy(update={"triple_barrier": None}),
        manifest.family,
        {name: content for name, content in bundle.files.items() if name != "calibrator.json"},
        bundle.calibrator,
    )
    with pytest.raises(BundleError, match="forecast what the candidate does"):
        compare_with_model(bundle, direction, split.test, "the champion")


def test_weighted_rows_make_another_model_in_another_study(open_home: Open) -> None:
    boosters, studies = [], []
    for weights in ("none", "uniqueness"):
        workspace = open_home(sample_weights=weights)
        materialize(workspace, training_snapshot, lightgbm)
        reference = CandidateReference.model_validate_json(
            (workspace.home.dagster / "references" / "training" / "lightgbm.json").read_text("utf-8")
        )
        candidate = Candidate.load(reference.folder)
        assert candidate.identity.sample_weights == weights
        assert candidate.identity.model_name == "levibot-5m-h3"
        boosters.append(candidate.predictor_files["booster.txt"])
        studies.append(candidate.tuning.study_name)
    assert boosters[0] != boosters[1]
    assert studies[0] != studies[1]
