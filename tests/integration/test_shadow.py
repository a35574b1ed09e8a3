"""Models compared on new bars through the nightly job: a bad champion is rolled back, a better challenger promoted."""

import json
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest

from levibot_core.backtest.on_request import RequestedBacktest
from levibot_core.config import load_settings
from levibot_core.errors import MarketDataUnavailableError, RegistryError
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY
from levibot_core.models.bundle import ModelBundle
from levibot_core.models.calibration import PlattCalibrator
from levibot_core.models.design import design_matrix
from levibot_core.models.predictors import matrix_columns
from levibot_core.registry.champions import STATE_TAG, champions, changes, promote
from levibot_core.stores.audit_log import AuditLog
from levibot_core.stores.paths import Home
from levibot_core.stores.snapshot_manifest import SnapshotManifest
from levibot_core.stores.training_rows import read_inputs
from levibot_core.validation.sequential import DECISIVE
from levibot_pipelines.candidates import JUDGED_AGAINST
from levibot_pipelines.drill import overconfident, promote_bad_model
from levibot_pipelines.registration import bundle_identity, ensure_base_rate, version_tags
from levibot_pipelines.registry import CHALLENGER, CHAMPION, ModelRegistry
from levibot_pipelines.requested_backtest import run_requested_backtest
from levibot_pipelines.runner import SHADOW, run_job
from levibot_pipelines.shadow import challenger_in_shadow, look_at_challenger, look_at_champion
from levibot_pipelines.workspace import Workspace
from levibot_serving.backtests import Backtests
from levibot_serving.console.report_files import ReportFiles
from levibot_serving.dagster_client import DagsterClient

TRAIN_DAYS, NEW_DAYS = 3, 3
GATES = json.dumps([{"gate": "leak_check", "passed": True, "found": "no leak found", "required": "none"}])


@pytest.fixture(scope="module")
def home(migrated_registry: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home with a champion, its base rate before it, and three days of bars after both were trained."""
    home = Home.at(tmp_path_factory.mktemp("shadow") / "home").create()
    shutil.copy(migrated_registry, home.mlflow / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _environment(home).items():
            patch.setenv(name, value)
        workspace = Workspace.open(load_settings())
        snapshot = _fill(workspace)
        rows = workspace.snapshots.load(snapshot.snapshot_id).rows
        ensure_base_rate(workspace, snapshot, rows)
        version = _register(workspace, _trained(workspace, snapshot))
        promote(workspace.registry, version, "ada", "passed every gate")
        yield home


def _environment(home: Home) -> dict[str, str]:
    return {
        "LEVIBOT_HOME": str(home.root),
        "LEVIBOT_SOURCE": "simulated",
        "LEVIBOT_SIMULATED_EDGE": "0.3",
        "LEVIBOT_FEATURE_SET": "v1",
        "LEVIBOT_SYMBOLS": "BTC/USDT",
        "LEVIBOT_HORIZON_BARS": "3",
        "LEVIBOT_THREADS": "1",
    }


def _fill(workspace: Workspace) -> SnapshotManifest:
    """Bars of six days, and a snapshot of the first three."""
    source, lake, symbol = workspace.source, workspace.lake, "BTC/USDT"
    newest = source.latest_close_ms(symbol, "spot", workspace.timeframe)
    end_ms = newest // MILLISECONDS_PER_DAY * MILLISECONDS_PER_DAY
    trained_ms = end_ms - NEW_DAYS * MILLISECONDS_PER_DAY
    start_ms = trained_ms - TRAIN_DAYS * MILLISECONDS_PER_DAY
    candles = source.candles(symbol, "spot", workspace.timeframe, start_ms, end_ms)
    lake.append(workspace.candles(source.identity), candles, end_ms)
    funding = source.funding_rates(symbol, start_ms - 4 * MILLISECONDS_PER_DAY, end_ms + 1)
    lake.append(workspace.funding(source.identity), funding, end_ms)
    lake.set_current_source(source.identity)
    return workspace.snapshots.build(
        inputs=read_inputs(lake, source_key=source.identity.key, market="spot", timeframe="5m", symbols=(symbol,)),
        feature_set=workspace.feature_set,
        timeframe=workspace.timeframe,
        horizon_bars=3,
        source=source.identity,
        market="spot",
        as_of_ms=trained_ms,
        start_ms=start_ms,
    )


def _trained(workspace: Workspace, snapshot: SnapshotManifest) -> ModelBundle:
    identity = bundle_identity(workspace, snapshot)
    rows = workspace.snapshots.load(snapshot.snapshot_id).rows
    matrix = design_matrix(rows, identity.features, identity.symbols)
    names = list(matrix_columns(identity.features))
    parameters = {"objective": "binary", "verbose": -1, "num_threads": 1, "num_leaves": 4, "seed": 7}
    labels = rows["label"].to_numpy().astype(np.float64)
    booster = lightgbm.train(parameters, lightgbm.Dataset(matrix, labels, feature_name=names), num_boost_round=15)
    files = {"booster.txt": booster.model_to_string().encode()}
    return ModelBundle.build(identity, "lightgbm", files, PlattCalibrator(1.0, 0.0))


def _register(workspace: Workspace, bundle: ModelBundle) -> int:
    folder = workspace.home.models / "made"
    bundle.save(folder)
    with workspace.registry.closing(workspace.registry.start_run("made", {})) as run_id:
        return workspace.registry.register(run_id, folder, "made", version_tags(bundle.manifest, ["a test"]))


@pytest.fixture
def at_home(home: Home, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], Workspace]:
    """The home as it was so many days after its champion was trained."""
    for name, value in _environment(home).items():
        monkeypatch.setenv(name, value)

    def opened(days: float) -> Workspace:
        workspace = Workspace.open(load_settings())
        snapshot = workspace.snapshots.list()[0]
        monkeypatch.setenv("LEVIBOT_UNTIL", (snapshot.as_of + timedelta(days=days)).isoformat())
        return Workspace.open(load_settings())

    return opened


def _aliases(registry: ModelRegistry) -> dict[str, int]:
    return {alias: found.version for alias in (CHAMPION, CHALLENGER) if (found := registry.by_alias(alias))}


def test_a_backtest_that_was_asked_for_is_made_and_the_api_finds_its_report(
    at_home: Callable[[float], Workspace],
) -> None:
    workspace = at_home(1.0)
    asked = {"symbol": "BTC/USDT", "days": 2, "fee_bps": 0.5, "slippage_bps": 0.0, "max_pos": 0.5}
    request = RequestedBacktest.model_validate({"backtest_id": "b-0123456789abcdef", **asked})
    figures = run_requested_backtest(workspace, request)
    (found,) = Backtests(workspace.home, DagsterClient(None)).entries()
    assert (found.id, found.symbol, found.status) == (request.backtest_id, "BTC/USDT", "done")
    assert found.metrics is not None
    assert found.metrics.total_trades == figures["trades"]
    report = json.loads((workspace.home.backtests / f"{found.id}.json").read_text())
    assert (report["parameters"]["taker_fee"], report["parameters"]["equity_fraction"]) == (0.00005, 0.5)
    assert "was trained on data until" in report["context"]["reasons"][0]
    with pytest.raises(MarketDataUnavailableError, match="ETH/USDT"):
        run_requested_backtest(workspace, request.model_copy(update={"symbol": "ETH/USDT"}))


def test_nothing_counts_twice_and_no_bar_that_a_model_was_trained_on(at_home: Callable[[float], Workspace]) -> None:
    workspace = at_home(1.0)
    first, again = look_at_champion(workspace), look_at_champion(workspace)
    later = look_at_champion(at_home(1.5))

    assert first is not None
    assert again is not None
    assert later is not None
    trained_until = workspace.snapshots.list()[0].as_of
    assert first.blocks["decided_at"][0] == trained_until
    assert first.blocks["settled_at"].max() == trained_until + timedelta(days=1)
    assert (first.added, again.added, later.added) == (96, 0, 48)
    assert first.verdict == again.verdict
    assert not first.verdict.is_worse


def test_a_bad_model_that_was_promoted_by_force_is_rolled_back_by_the_nightly_job(
    at_home: Callable[[float], Workspace], run_levibot: Callable[..., tuple[int, str, str]]
) -> None:
    registry = at_home(NEW_DAYS).registry
    good = registry.by_alias(CHAMPION)
    assert good is not None
    code, shown, messages = run_levibot("drill", "rollback", "--json")
    assert code == 0, messages
    drill = json.loads(shown)
    newest = changes(registry)[-1]

    assert (drill["rolled_back"], drill["replaced"]) == (True, good.version)
    assert _aliases(registry)[CHAMPION] == good.version
    assert registry.version(drill["version"]).tags[STATE_TAG] == "rolled_back"
    assert (newest.event, newest.actor, newest.from_version) == ("rollback", "levibot", drill["version"])
    assert newest.evidence["e_worse"] == drill["nights"][-1]["e_worse"] >= DECISIVE
    assert [night["rolled_back_after_seconds"] is None for night in drill["nights"]].count(False) == 1
    assert AuditLog(registry.home.audit_log).verify().intact
    assert (registry.home.reports / "promotion" / "champion_watch.png").read_bytes().startswith(b"\x89PNG")


def test_a_better_challenger_is_promoted_once_its_gates_passed(
    at_home: Callable[[float], Workspace], run_levibot: Callable[..., tuple[int, str, str]]
) -> None:
    workspace = at_home(NEW_DAYS)
    registry = workspace.registry
    good = registry.by_alias(CHAMPION)
    assert good is not None
    bad = _register(workspace, overconfident(registry.load_bundle(good.version), 6.0))
    promote(registry, bad, "ada", "by mistake", forced=True)
    registry.point(CHALLENGER, good.version)
    assert look_at_challenger(workspace) is None  # An earlier champion comes back by a rollback.
    better = _register(workspace, registry.load_bundle(good.version))
    registry.point(CHALLENGER, better)

    # Its gates were judged against another champion, and without its recipe they cannot be judged anew.
    registry.annotate(better, {"gates": GATES, JUDGED_AGAINST: "1"})
    with pytest.raises(RegistryError, match=r"recipe\.json"):
        look_at_challenger(workspace)
    registry.annotate(better, {"gates": GATES.replace("true", "false"), JUDGED_AGAINST: str(bad)})
    refused = look_at_challenger(workspace)
    assert refused is not None
    assert "did not pass leak_check" in refused.action
    assert _aliases(registry) == {CHAMPION: bad, CHALLENGER: better}

    registry.annotate(better, {"gates": GATES})
    assert challenger_in_shadow(workspace) is not None
    _, shown, _ = run_levibot("models", "compare", "--json")
    reports = {report["kind"]: report for report in json.loads(shown)["comparisons"]}
    assert (reports["shadow"]["better"], reports["shadow"]["contender"]) == (True, better)
    assert f"Challenger {better} against version {bad}" in run_levibot("models", "compare")[1]

    outcome = look_at_challenger(workspace)
    assert outcome is not None
    assert outcome.action.startswith("promoted")
    assert _aliases(registry)[CHAMPION] == better
    newest = changes(registry)[-1]
    assert (newest.event, newest.forced, newest.from_version) == ("promotion", False, bad)
    assert newest.evidence["e_better_log_loss"] == outcome.verdict.log_loss.better_peak


def test_a_champion_that_holds_stays_and_a_home_with_nothing_to_compare_says_so(
    at_home: Callable[[float], Workspace],
) -> None:
    workspace = at_home(NEW_DAYS)
    before = _aliases(workspace.registry)
    outcome = run_job(workspace, SHADOW, {}, on_progress=lambda _: None)

    assert outcome.succeeded, outcome.failures
    assert _aliases(workspace.registry) == before
    shadow: dict[str, Any] = json.loads((workspace.home.reports / "promotion" / "shadow.json").read_text("utf-8"))
    assert shadow == {"kind": "shadow", "action": "there is nothing to compare with"}
    # What people see of it in the console.
    watched = ReportFiles(workspace.home).champion_watch().content
    assert watched is not None
    assert watched.verdict is not None
    assert watched.contender == before[CHAMPION]


def test_a_home_whose_candidates_were_all_refused_can_be_drilled(at_home: Callable[[float], Workspace]) -> None:
    registry = at_home(NEW_DAYS).registry
    newest = next(found for found in registry.versions() if found.tags.get(STATE_TAG) != "rolled_back")
    promote(registry, 1, "ada", "the base rate again", forced=True)
    bad = promote_bad_model(at_home(NEW_DAYS), 20.0)

    assert (bad.replaced, bad.copied) == (1, newest.version)
    assert _aliases(registry)[CHAMPION] == bad.version
    assert champions(registry)[-2:] == [1, bad.version]
