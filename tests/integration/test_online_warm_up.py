"""The online store is filled from the lake: by its asset, by a command, by `levibot up`, and by itself when emptied."""

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from levibot_core.config import load_settings
from levibot_core.market.sources import SourceIdentity
from levibot_core.schemas import CANDLES, TIMESTAMP
from levibot_pipelines.cli.main import main
from levibot_pipelines.cli.up import fill_online_store
from levibot_pipelines.defs.feature_store.assets import online_features
from levibot_pipelines.defs.feature_store.sensors import ONLINE_FEATURES, empty_online_store
from levibot_pipelines.workspace import Workspace

SYMBOLS = ("BTC/USDT", "ETH/USDT")
OPENED = datetime(2026, 1, 2, 3, 0, tzinfo=UTC)


@pytest.fixture
def workspace(tmp_path: Path, redis_server: Any, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A home whose lake holds one bar of candles and features per symbol, with its online store on a Redis server."""
    monkeypatch.setenv("LEVIBOT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LEVIBOT_SYMBOLS", "BTCUSDT,ETHUSDT")
    monkeypatch.setenv("REDIS_URL", redis_server.url)
    opened = Workspace.open(load_settings())
    identity = SourceIdentity("recorded", "recorded", "recorded:test", "one bar")
    opened.lake.set_current_source(identity)
    bars = pl.DataFrame({"symbol": SYMBOLS}).with_columns(
        pl.lit(OPENED).cast(TIMESTAMP).alias("ts"),
        pl.lit(OPENED + timedelta(minutes=5)).cast(TIMESTAMP).alias("known_at"),
    )
    prices = [pl.lit(100.0).alias(name) for name in ("open", "high", "low", "close", "volume")]
    candles = bars.with_columns(*prices, pl.lit(0, pl.Int32).alias("revision"), pl.lit("test").alias("venue"))
    opened.lake.append(opened.candles(identity), CANDLES.enforce(candles), observed_at_ms=0)
    values = [pl.lit(float(place)).alias(name) for place, name in enumerate(opened.feature_set.names)]
    opened.lake.upsert(opened.features(identity), opened.feature_set.table().enforce(bars.with_columns(values)))
    return opened


def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """What a command of the shell prints with `--json`."""
    monkeypatch.setattr(sys, "argv", ["levibot", *arguments, "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    return json.loads(capsys.readouterr().out)


def tick(instance: dg.DagsterInstance, workspace: Workspace) -> dg.SensorResult | dg.SkipReason:
    context = dg.build_sensor_context(instance=instance, resources={"workspace": workspace})
    result = empty_online_store(context)
    assert isinstance(result, dg.SensorResult | dg.SkipReason)
    return result


def reason(result: dg.SensorResult | dg.SkipReason) -> str:
    assert isinstance(result, dg.SkipReason)
    return result.skip_message or ""


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    # Closed, or its temporary folder is cleaned up in the middle of another test, with a warning.
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


def test_an_emptied_server_is_filled_and_one_that_holds_vectors_is_left_alone(
    workspace: Workspace, redis_server: Any, instance: dg.DagsterInstance
) -> None:
    assert "never materialised" in reason(tick(instance, workspace))
    assert workspace.online_store.get_many(SYMBOLS) == {}

    assert dg.materialize([online_features], instance=instance, resources={"workspace": workspace}).success
    put = workspace.online_store.get_many(SYMBOLS)
    assert sorted(put) == sorted(SYMBOLS)
    assert "holds vectors" in reason(tick(instance, workspace))

    redis_server.restart()
    filled = tick(instance, workspace)
    assert isinstance(filled, dg.SensorResult)
    assert [event.asset_key for event in filled.asset_events] == [ONLINE_FEATURES]
    assert workspace.online_store.get_many(SYMBOLS) == put
    assert not filled.run_requests
    for symbol in SYMBOLS:
        history = workspace.online_store.history(symbol, 60)
        assert history is not None
        assert history.vectors == (put[symbol],)


def test_a_server_that_cannot_be_reached_is_waited_for(
    workspace: Workspace, redis_server: Any, instance: dg.DagsterInstance
) -> None:
    instance.report_runless_asset_event(dg.AssetMaterialization(ONLINE_FEATURES))
    redis_server.stop()
    try:
        assert "does not answer" in reason(tick(instance, workspace))
    finally:
        redis_server.start()
    assert isinstance(tick(instance, workspace), dg.SensorResult)


def test_one_command_fills_an_emptied_server_and_another_shows_what_it_holds(
    workspace: Workspace, redis_server: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    filled = command(monkeypatch, capsys, "online", "warm-up")
    assert filled == {"store": workspace.online_store.place, "put": list(SYMBOLS), "incomplete": {}}
    shown = command(monkeypatch, capsys, "online", "show")["vectors"]
    assert [(row["symbol"], row["state"], row["source"]) for row in shown] == [
        (symbol, "served", "recorded") for symbol in SYMBOLS
    ]
    assert {row["features"] for row in shown} == {len(workspace.feature_set.names)}

    redis_server.restart()
    shown = command(monkeypatch, capsys, "online", "show")["vectors"]
    assert [(row["state"], row["known_at"]) for row in shown] == [("none", None), ("none", None)]


def test_starting_the_servers_fills_the_store_first_and_goes_on_when_it_cannot(
    workspace: Workspace, redis_server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    fill_online_store(workspace)
    assert sorted(workspace.online_store.get_many(SYMBOLS)) == sorted(SYMBOLS)
    assert "2 vectors in Redis at" in capsys.readouterr().err.replace("\n", "")
    redis_server.stop()
    try:
        fill_online_store(workspace)
    finally:
        redis_server.start()
    assert "does not answer" in capsys.readouterr().err


def test_a_home_without_data_has_nothing_to_fill(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill_online_store(Workspace.open(load_settings(home=tmp_path / "empty")))
    assert capsys.readouterr().err == ""
