"""`levibot features snapshots` and `levibot features audit`, in a home with a lake, snapshots and a registry."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import polars as pl
import pytest

from levibot_core.config import load_settings
from levibot_core.features.registry import load_registry
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY
from levibot_core.stores.paths import Home
from levibot_core.stores.snapshot_manifest import SnapshotManifest
from levibot_core.stores.training_rows import read_inputs
from levibot_pipelines.workspace import Workspace

Levibot = Callable[..., tuple[int, str]]


@pytest.fixture
def workspace(registry_home: Home, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A home with three simulated days of two markets in its lake."""
    monkeypatch.setenv("LEVIBOT_HOME", str(registry_home.root))
    monkeypatch.setenv("LEVIBOT_SOURCE", "simulated")
    workspace = Workspace(load_settings(), registry_home)
    source, lake = workspace.source, workspace.lake
    end_ms = (
        source.latest_close_ms("BTC/USDT", "spot", workspace.timeframe) // MILLISECONDS_PER_DAY * MILLISECONDS_PER_DAY
    )
    start_ms = end_ms - 3 * MILLISECONDS_PER_DAY
    for symbol in ("BTC/USDT", "ETH/USDT"):
        candles = source.candles(symbol, "spot", workspace.timeframe, start_ms, end_ms)
        lake.append(workspace.candles(source.identity), candles, end_ms)
        funding = source.funding_rates(symbol, start_ms - 4 * MILLISECONDS_PER_DAY, end_ms + 1)
        lake.append(workspace.funding(source.identity), funding, end_ms)
    lake.set_current_source(source.identity)
    return workspace


def build(workspace: Workspace, horizon_bars: int) -> SnapshotManifest:
    identity = workspace.ingested_source
    candles = workspace.lake.read(workspace.candles(identity))
    as_of_ms = int(candles["known_at"].dt.epoch("ms").max())  # type: ignore[arg-type]
    symbols = ("BTC/USDT", "ETH/USDT")
    inputs = read_inputs(workspace.lake, source_key=identity.key, market="spot", timeframe="5m", symbols=symbols)
    return workspace.snapshots.build(
        inputs=inputs,
        feature_set=load_registry("v1"),
        timeframe=workspace.timeframe,
        horizon_bars=horizon_bars,
        source=identity,
        market="spot",
        as_of_ms=as_of_ms,
        start_ms=as_of_ms - 2 * MILLISECONDS_PER_DAY,
    )


@pytest.fixture
def levibot(run_levibot: Callable[..., tuple[int, str, str]]) -> Levibot:
    """Run the command; exit code, and what it printed as its result, or else its messages."""

    def run(*arguments: str) -> tuple[int, str]:
        code, result, messages = run_levibot("features", *arguments)
        return code, result or messages

    return run


def as_json(answer: tuple[int, str]) -> Any:
    assert answer[0] == 0, answer[1]
    return json.loads(answer[1])


def test_snapshots_are_listed_and_pruned_but_not_those_of_models(workspace: Workspace, levibot: Levibot) -> None:
    built = [build(workspace, horizon_bars).snapshot_id for horizon_bars in (12, 3, 6)]
    client = workspace.registry.client
    client.create_registered_model("levibot-5m-h3")  # another model of the same home
    source = workspace.home.models.as_uri()
    client.create_model_version("levibot-5m-h3", source, tags={"snapshot_id": built[1]})
    # All three were built within a second or two: the order in the list is not that of building.
    by_id = {row["snapshot_id"]: row for row in as_json(levibot("snapshots", "--json"))}
    assert set(by_id) == set(built)
    assert by_id[built[1]]["models"] == ["levibot-5m-h3 1"]
    assert [snapshot_id for snapshot_id in built if by_id[snapshot_id]["latest"]] == [built[2]]
    assert by_id[built[0]]["rows"] > 0

    report = as_json(levibot("snapshots", "prune", "--keep", "1", "--json"))

    assert set(report["removed"]) <= {built[0]}
    assert {built[1], built[2]} <= set(report["kept"])
    assert set(report["removed"]) | set(report["kept"]) == set(built)
    code, shown = levibot("snapshots", "prune", "--keep", "0")
    assert code == 1
    assert "Expected to keep 1 snapshot or more" in " ".join(shown.split())
    assert built[2] in levibot("snapshots")[1]


def test_a_snapshot_is_rebuilt_and_audited_by_command(workspace: Workspace, levibot: Levibot) -> None:
    manifest = build(workspace, 12)
    identity = workspace.ingested_source
    dataset = workspace.candles(identity)
    wrong = workspace.lake.read(dataset, ["ETH/USDT"]).tail(100).head(1).drop("revision")
    correction = wrong.with_columns(pl.col("close", "high") * 1.02, revision=pl.lit(0, pl.Int32))
    seen_at = manifest.as_of + timedelta(hours=1)
    workspace.lake.append(
        dataset, correction.select(dataset.table.polars_schema.names()), int(seen_at.timestamp() * 1000)
    )

    rebuilt = as_json(levibot("snapshots", "rebuild", "--json"))
    audited = as_json(levibot("audit", manifest.snapshot_id, "--json"))

    assert (rebuilt["snapshot_id"], rebuilt["identical"]) == (manifest.snapshot_id, True)
    assert audited["snapshot_id"] == manifest.snapshot_id
    assert audited["differing"] > 0
    assert audited["unexplained"] == 0
    (cause,) = audited["causes"]
    assert (cause["symbol"], cause["kind"]) == ("ETH/USDT", "corrected")
    assert cause["new"]["close"] == pytest.approx(1.02 * cause["old"]["close"])
    assert cause["known_at"] == seen_at.isoformat(timespec="milliseconds")
    assert "Causes: 1" in levibot("audit")[1]

    workspace.lake.upsert(dataset, workspace.lake.read_all_revisions(dataset).with_columns(pl.col("volume") * 2.0))
    code, shown = levibot("snapshots", "rebuild", manifest.snapshot_id)
    assert code == 1
    assert "in volume" in " ".join(shown.split())


@pytest.mark.usefixtures("workspace")
def test_a_home_without_snapshots_says_how_to_get_one(levibot: Levibot) -> None:
    assert as_json(levibot("snapshots", "--json")) == []
    for arguments in (["audit"], ["snapshots", "rebuild"]):
        code, shown = levibot(*arguments)
        assert code == 1
        assert "build one with `levibot run`" in " ".join(shown.split())
    code, shown = levibot("audit", "20250101T000000Z-0123456789ab")
    assert code == 1
    assert "Expected a snapshot named '20250101T000000Z-0123456789ab'" in " ".join(shown.split())
