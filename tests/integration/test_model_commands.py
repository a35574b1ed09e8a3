"""`levibot models rebuild` and `levibot models card`, on one model trained in a small home of its own."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from levibot_core.config import TrainingProfile, load_settings
from levibot_core.features.registry import load_registry
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY
from levibot_core.registry.champions import promote, roll_back
from levibot_core.stores.paths import Home
from levibot_core.stores.snapshot_manifest import SnapshotManifest
from levibot_core.stores.training_rows import read_inputs
from levibot_core.validation.gates import TRADING_GATE_NAMES
from levibot_core.validation.split import chronological_split
from levibot_pipelines.alerts import read_alerts
from levibot_pipelines.cards import judge_card, make_card
from levibot_pipelines.cli.status import collect_status
from levibot_pipelines.defs.backtest.assets import report as backtest
from levibot_pipelines.defs.promotion.assets import regression_guard
from levibot_pipelines.defs.promotion.checks import no_regression
from levibot_pipelines.rebuilding import rebuild_version
from levibot_pipelines.references import ModelReference
from levibot_pipelines.registration import calibrate_family, ensure_base_rate, register_lowest_loss
from levibot_pipelines.training import train_family
from levibot_pipelines.workspace import Workspace

VERSION = 2
PROFILE = TrainingProfile(name="fast", trials=2, max_rounds=20, early_stopping_rounds=5, max_bin=15, drift_rows=100)
Levibot = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def made(migrated_registry: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A home in which a model was trained, rebuilt, documented and judged. Tests leave it as it was."""
    home = Home.at(tmp_path_factory.mktemp("model commands") / "home").create()
    shutil.copy(migrated_registry, home.mlflow / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _environment(home).items():
            patch.setenv(name, value)
        patch.setattr("levibot_pipelines.workspace.load_profile", lambda _: PROFILE)
        workspace = Workspace(load_settings(), home)
        snapshot = _snapshot(workspace)
        ensure_base_rate(workspace)
        _train(workspace, snapshot)
        rebuild_version(workspace, VERSION)
        make_card(workspace, VERSION)
        judge_card(workspace, VERSION)
        yield workspace


def _environment(home: Home) -> dict[str, str]:
    return {
        "LEVIBOT_HOME": str(home.root),
        "LEVIBOT_SOURCE": "simulated",
        "LEVIBOT_SIMULATED_EDGE": "0.3",
        "LEVIBOT_FEATURE_SET": "v1",
        "LEVIBOT_SYMBOLS": "BTC/USDT",
        "LEVIBOT_THREADS": "1",
    }


def _snapshot(workspace: Workspace) -> SnapshotManifest:
    source, lake, symbol = workspace.source, workspace.lake, "BTC/USDT"
    newest = source.latest_close_ms(symbol, "spot", workspace.timeframe)
    end_ms = newest // MILLISECONDS_PER_DAY * MILLISECONDS_PER_DAY
    start_ms = end_ms - 4 * MILLISECONDS_PER_DAY
    lake.append(
        workspace.candles(source.identity),
        source.candles(symbol, "spot", workspace.timeframe, start_ms, end_ms),
        end_ms,
    )
    funding = source.funding_rates(symbol, start_ms - 4 * MILLISECONDS_PER_DAY, end_ms + 1)
    lake.append(workspace.funding(source.identity), funding, end_ms)
    lake.set_current_source(source.identity)
    return workspace.snapshots.build(
        inputs=read_inputs(lake, source_key=source.identity.key, market="spot", timeframe="5m", symbols=(symbol,)),
        feature_set=load_registry("v1"),
        timeframe=workspace.timeframe,
        horizon_bars=12,
        source=source.identity,
        market="spot",
        as_of_ms=end_ms,
        start_ms=start_ms,
    )


def _train(workspace: Workspace, snapshot: SnapshotManifest) -> None:
    whole = workspace.snapshots.load(snapshot.snapshot_id)
    split = chronological_split(whole.rows)
    trained = train_family(workspace, "lightgbm", snapshot.snapshot_id, "a-dagster-run", lambda _: None)
    calibrated = calibrate_family(workspace.registry, trained.reference, split)
    _, model = register_lowest_loss(workspace.registry, [calibrated], split, whole.candles, threads=1)
    assert model.version == VERSION


@pytest.fixture
def levibot(
    made: Workspace, monkeypatch: pytest.MonkeyPatch, run_levibot: Callable[..., tuple[int, str, str]]
) -> Levibot:
    """Run the command; exit code, and what it printed as its result, or else its messages."""
    for name, value in _environment(made.home).items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> tuple[int, str]:
        code, result, messages = run_levibot("models", *arguments)
        return code, result or messages

    return run


@pytest.fixture
def rows_file(made: Workspace) -> Iterator[Path]:
    """The rows of the model's snapshot; they are put back after the test."""
    path = made.home.snapshots / made.registry.version(VERSION).tags["snapshot_id"] / "rows.parquet"
    content = path.read_bytes()
    yield path
    path.write_bytes(content)


@pytest.fixture
def card_file(made: Workspace) -> Iterator[Path]:
    """The model's card; it is put back after the test."""
    path = made.home.reports / "model_cards" / f"v{VERSION}.json"
    content = path.read_bytes()
    yield path
    path.write_bytes(content)


def test_a_version_is_made_again_from_its_id(made: Workspace, levibot: Levibot) -> None:
    code, shown = levibot("rebuild", str(VERSION), "--json")
    report = json.loads(shown)

    assert (code, report["identical"], report["mismatches"]) == (0, True, [])
    assert report["seconds"] > 0
    assert report["found"] == report["expected"]
    tag = json.loads(made.registry.version(VERSION).tags["rebuild"])
    assert (tag["identical"], tag["scope"]) == (True, "winner")
    lines = (made.home.logs / "rebuilds.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["version"] for line in lines][-2:] == [VERSION, VERSION]
    assert list(made.home.root.glob(".rebuild-*")) == []
    assert levibot("rebuild", str(VERSION), "--study")[0] == 0
    assert json.loads(levibot("rebuild", "1", "--json")[1])["identical"] is True
    code, shown = levibot("rebuild", "9")
    assert (code, "was 9" in shown) == (1, True)


def test_a_damaged_snapshot_is_computed_again_from_the_lake(levibot: Levibot, rows_file: Path) -> None:
    rows_file.write_bytes(rows_file.read_bytes()[:1000])

    report = json.loads(levibot("rebuild", str(VERSION), "--json")[1])

    assert report["identical"] is True
    assert report["snapshot"].startswith("computed again from the lake")


def test_a_card_holds_what_computing_it_again_gives(levibot: Levibot) -> None:
    code, shown = levibot("card", "verify", str(VERSION), "--deep", "--json")
    report = json.loads(shown)

    assert (code, report["mismatched"], report["mismatches"]) == (0, 0, [])
    assert report["checked"] > 250
    assert {"spread", "leakage"}.isdisjoint(report["not_checked"])
    assert set(report["latency"]) == {"p50_ms", "p90_ms", "p95_ms", "p99_ms"}


def test_one_altered_number_is_caught_and_named(levibot: Levibot, card_file: Path) -> None:
    card = json.loads(card_file.read_text("utf-8"))
    card["metrics"]["test"]["auc"] += 0.01
    card_file.write_text(json.dumps(card))

    code, shown = levibot("card", "verify", str(VERSION), "--json")

    report = json.loads(shown)
    assert (code, report["mismatched"]) == (1, 1)
    assert report["mismatches"][0]["path"] == "metrics.test.auc"
    assert report["mismatches"][0]["on_the_card"] == pytest.approx(report["mismatches"][0]["recomputed"] + 0.01)
    assert "metrics.test.auc" in levibot("card", "verify", str(VERSION))[1]


def test_an_altered_snapshot_is_caught_and_named(levibot: Levibot, rows_file: Path) -> None:
    rows = pl.read_parquet(rows_file)
    rows.with_columns(label=1 - pl.col("label")).write_parquet(rows_file)

    code, shown = levibot("card", "verify", str(VERSION), "--json")

    report = json.loads(shown)
    assert (code, report["mismatched"]) == (1, 1)
    assert report["mismatches"][0]["path"] == "provenance.snapshot_checksum"


def test_the_card_is_shown_kept_and_linked(made: Workspace, levibot: Levibot) -> None:
    code, shown = levibot("card", "show", str(VERSION))
    card = json.loads(levibot("card", "show", str(VERSION), "--json")[1])
    registered = made.registry.version(VERSION)
    described = made.registry.client.get_model_version(made.settings.model_name, str(VERSION)).description

    assert code == 0
    assert "Promotion gates" in shown
    assert {gate["gate"]: gate["passed"] for gate in card["judgement"]["gates"]}["rebuild"] is True
    assert card["judgement"]["champion_version"] == 1
    assert (card["judgement"]["trading"]["trials"], card["tuning"]["trials"]) == (2, 2)
    assert [gate["gate"] for gate in card["judgement"]["trading_gates"]] == list(TRADING_GATE_NAMES)
    interval = card["intervals"]["auc"]
    assert interval["lower_95"] < interval["value"] == card["metrics"]["test"]["auc"] < interval["upper_95"]
    assert len(card["spread"]["seeds"]) == 5
    assert {"model_card.json", "model_card.md", "model_card.html"} <= {
        item.path for item in made.registry.client.list_artifacts(registered.run_id)
    }
    assert {"shap_beeswarm.png", "shap_top_20.png"} <= set(made.registry.logged_files(registered.run_id, "plots"))
    assert "model_card.html" in described
    assert levibot("card", "show", "1")[0] == 1


def test_a_version_that_was_not_made_again_is_refused(made: Workspace) -> None:
    tag = made.registry.version(VERSION).tags["rebuild"]
    made.registry.client.delete_model_version_tag(made.settings.model_name, str(VERSION), "rebuild")
    try:
        gates: dict[str, Any] = {gate.gate: gate for gate in judge_card(made, VERSION).gates}
    finally:
        made.registry.annotate(VERSION, {"rebuild": tag})
        judge_card(made, VERSION)

    assert not gates["rebuild"].passed
    assert "not rebuilt yet" in gates["rebuild"].found


def test_a_backtest_that_comes_out_worse_makes_the_champion_a_rollback_candidate(
    made: Workspace, levibot: Levibot
) -> None:
    registry, run_id = made.registry, made.registry.version(VERSION).run_id
    assert json.loads(levibot("guard", "--json")[1])["verdict"] is None  # The base rate has no backtest.
    snapshot_id = made.registry.version(VERSION).tags["snapshot_id"]
    folder = made.home.models / run_id
    backtest(made, ModelReference(version=VERSION, run_id=run_id, snapshot_id=snapshot_id, folder=folder))
    promote(registry, VERSION, "ada", "a test", forced=True)
    assert json.loads(levibot("guard", "--json")[1])["verdict"]["identical"] is True

    written = registry.logged_files(run_id, "backtest")["report.json"]
    better = json.loads(written)
    better["metrics"]["strategy"]["sharpe"] = 1.0 + 2.0 * abs(better["metrics"]["strategy"]["sharpe"] or 0.0)
    registry.log(run_id, files={"backtest/report.json": json.dumps(better)})
    code, shown = levibot("guard")
    assert (code, "dropped: a rollback candidate" in shown) == (1, True)
    (alert,) = read_alerts(made.home)
    assert alert.title.endswith(f"version {VERSION} is a rollback candidate")
    assert alert.details["sharpe_recorded"] == better["metrics"]["strategy"]["sharpe"]
    reason = registry.version(VERSION).rollback_candidate
    assert reason is not None and reason.startswith("Sharpe ratio")
    assert levibot("guard")[0] == 1  # Told again, and recorded once.
    events = [change["event"] for change in json.loads(levibot("history", "--json")[1])]
    assert events[:2] == ["rollback_candidate", "promotion"]
    assert collect_status(made)["champion"]["rollback_candidate"] == reason  # type: ignore[index]

    result = dg.materialize([regression_guard, no_regression], resources={"workspace": made}, raise_on_error=False)
    (check,) = result.get_asset_check_evaluations()
    assert (result.success, check.passed, check.description) == (False, False, reason)
    assert {"plot", "sharpe_when_judged", "sharpe_now", "differences"} <= check.metadata.keys()

    registry.log(run_id, files={"backtest/report.json": written})
    assert levibot("guard")[0] == 0
    assert registry.version(VERSION).rollback_candidate is None
    assert json.loads(levibot("history", "--json")[1])[0]["event"] == "rollback_candidate_cleared"


def test_a_champion_whose_rows_were_altered_is_told_and_not_marked(
    made: Workspace, levibot: Levibot, rows_file: Path
) -> None:
    assert made.registry.by_alias("champion") == made.registry.version(VERSION)
    rows_file.write_bytes(rows_file.read_bytes()[:1000])

    code, message = levibot("guard")

    assert code == 1
    assert read_alerts(made.home)[-1].title.endswith("its backtest cannot be computed again")
    assert "rows" in message
    assert made.registry.version(VERSION).rollback_candidate is None
    roll_back(made.registry, "ada", "the test ends")
