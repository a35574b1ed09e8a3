"""End to end: features from the lake to the online store, served over HTTP, logged, and computed again."""

import json
import struct
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from levibot_core.features.refresh import FeatureTables, latest_vectors, refresh_features
from levibot_core.features.registry import load_registry
from levibot_core.market.ingest import Slice, ingest_candles, ingest_funding
from levibot_core.market.simulator import SimulationParameters
from levibot_core.market.sources.simulated import SimulatedSource
from levibot_core.market.timeframe import Timeframe
from levibot_core.models.base_rate import base_rate_bundle
from levibot_core.models.bundle import BundleIdentity
from levibot_core.stores.lake import Lake
from levibot_core.stores.online import SqliteOnlineStore
from levibot_core.stores.paths import Home, candles_dataset, fear_greed_dataset, features_dataset, funding_dataset
from levibot_core.stores.served_log import ServedLog
from levibot_pipelines.cli.main import main
from levibot_serving.config import ServingSettings
from levibot_serving.parity import ParityFigures

Serve = Callable[[ServingSettings], AbstractContextManager[httpx.Client]]
Eventually = Callable[..., None]

SET = load_registry("v2")
FIVE_MINUTES = Timeframe.parse("5m")
SYMBOLS = ("BTC/USDT", "ETH/USDT")
START_MS = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000)
BARS = 4
END_MS = START_MS + (SET.warm_up + 10) * FIVE_MINUTES.milliseconds


def fill_lake(home: Home) -> SimulatedSource:
    """Candles and funding of a simulated market, up to `END_MS`."""
    source, lake = SimulatedSource(SimulationParameters(seed=3), FIVE_MINUTES, lambda: END_MS), Lake(home.lake)
    key = source.identity.key
    slices = [Slice(symbol, START_MS, END_MS) for symbol in SYMBOLS]
    candles = candles_dataset(key, "spot", "5m")
    ingest_candles(source, lake, candles, "spot", FIVE_MINUTES, slices, END_MS, lambda _: None)
    funded = [Slice(symbol, START_MS - 7 * 86_400_000, END_MS) for symbol in SYMBOLS]
    ingest_funding(source, lake, funding_dataset(key), funded, END_MS, lambda _: None)
    lake.append(fear_greed_dataset(key), source.fear_greed(START_MS - 20 * 86_400_000, END_MS), END_MS)
    lake.set_current_source(source.identity)
    return source


def refresh_online(home: Home, source: SimulatedSource, bar: int) -> None:
    """What the pipeline does at a close: features of everything up to that bar, the newest into the online store."""
    lake, key = Lake(home.lake), source.identity.key
    tables = FeatureTables(
        candles_dataset(key, "spot", "5m"),
        funding_dataset(key),
        fear_greed_dataset(key),
        features_dataset(key, "spot", "5m", SET.version, SET.table()),
    )
    end_ms = END_MS - (BARS - 1 - bar) * FIVE_MINUTES.milliseconds
    slices = [Slice(symbol, START_MS, end_ms) for symbol in SYMBOLS]
    refresh_features(lake, tables, SET, FIVE_MINUTES, slices, on_progress=lambda _: None)
    newest = latest_vectors(
        lake,
        candles_dataset=tables.candles,
        features_dataset=tables.features,
        symbols=SYMBOLS,
        source_kind="simulated",
    )
    assert newest.incomplete == {}
    store = SqliteOnlineStore(home.online_store)
    store.put(newest.complete)
    store.close()


@pytest.fixture
def cached_champion(stub_registry: Any, model_store: Callable[[], Any], bundle_identity: BundleIdentity) -> None:
    """A champion in the local cache, from which a server without a registry starts."""
    stub_registry.hold(
        base_rate_bundle(bundle_identity.model_copy(update={"feature_set": SET.version, "features": SET.names}))
    )
    model_store().refresh()


def levibot(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["levibot", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0), capsys.readouterr().out


def flip_lowest_bit(path: Path, line: int, feature: str) -> tuple[dict[str, Any], float]:
    """Alter one bit of one number in the log; returns the line as it was, and the number as it is now."""
    lines = path.read_text("utf-8").splitlines(keepends=True)
    served = json.loads(lines[line])
    (bits,) = struct.unpack("<Q", struct.pack("<d", served["values"][feature]))
    (altered,) = struct.unpack("<d", struct.pack("<Q", bits ^ 1))
    lines[line] = json.dumps(served | {"values": served["values"] | {feature: altered}}) + "\n"
    path.write_text("".join(lines), "utf-8")
    return served, altered


@pytest.mark.usefixtures("cached_champion")
def test_what_is_served_over_http_is_what_the_offline_computation_gives_until_a_bit_is_flipped(
    home: Home,
    settings: ServingSettings,
    serve: Serve,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LEVIBOT_HOME", str(home.root))
    source = fill_lake(home)
    with serve(settings) as client:
        eventually(lambda: client.get("/readyz").status_code == 200)
        for bar in range(BARS):
            refresh_online(home, source, bar)
            for symbol in ("BTCUSDT", "ETHUSDT", "BTCUSDT"):
                assert client.get("/ai/predict", params={"symbol": symbol}).status_code == 200

    code, printed = levibot(monkeypatch, capsys, "features", "parity", "--json")
    report = json.loads(printed)
    values = BARS * len(SYMBOLS) * (len(SET.names) + 1)
    assert code == 0, report
    assert (report["compared"], report["mismatches"], report["differences"]) == (values, 0, [])
    assert (report["vectors"], report["servings"]) == (BARS * 2, BARS * 3)
    assert (report["unreadable_lines"], report["not_comparable"]) == (0, {})
    assert "bit for bit" in levibot(monkeypatch, capsys, "features", "parity")[1]

    (path,) = ServedLog(home.served_vectors).files().values()
    served, altered = flip_lowest_bit(path, line=1, feature="rsi_14")
    path.write_bytes(path.read_bytes() + b'{"symbol": "BTC/USDT", "ts_')
    code, printed = levibot(monkeypatch, capsys, "features", "parity", "--json")
    report = json.loads(printed)
    assert code == 1
    assert (report["compared"], report["mismatches"], report["unreadable_lines"]) == (values, 1, 1)
    (difference,) = report["differences"]
    assert (difference["symbol"], difference["feature"]) == (served["symbol"], "rsi_14")
    assert datetime.fromisoformat(difference["ts"]).timestamp() * 1000 == served["ts_ms"]
    assert (difference["served"], difference["offline"]) == (altered, served["values"]["rsi_14"])
    code, printed = levibot(monkeypatch, capsys, "features", "parity")
    assert code == 1
    assert "rsi_14" in printed


def test_totals_of_the_report_and_the_state_of_the_log_are_scraped(
    home: Home, settings: ServingSettings, serve: Serve
) -> None:
    def scraped(client: httpx.Client) -> dict[str, float]:
        families = text_string_to_metric_families(client.get("/metrics").text)
        return {sample.name: sample.value for family in families for sample in family.samples if not sample.labels}

    with serve(settings) as client:
        before = scraped(client)
        home.parity_report.parent.mkdir(parents=True)
        report = {
            "replayed_at": "2026-01-02T00:00:00+00:00",
            "parity_compared_total": 82,
            "parity_mismatches_total": 3,
        }
        home.parity_report.write_text(json.dumps(report))
        found = scraped(client)
        home.parity_report.write_text("torn {")
        torn = scraped(client)
        dropped = client.get("/metrics").text
    assert not any(name.startswith("levibot_parity") for name in (before | torn))
    assert found["levibot_parity_mismatches_total"] == 3
    assert found["levibot_parity_compared_total"] == 82
    assert found["levibot_parity_checked_timestamp_seconds"] == 1_767_312_000
    assert before["levibot_served_vectors_total"] == before["levibot_served_vector_lines_total"] == 0
    for reason in ("queue_full", "not_written"):
        assert f'levibot_served_vectors_dropped_total{{reason="{reason}"}} 0.0' in dropped


def test_the_report_is_read_once_per_change(tmp_path: Path) -> None:
    path = tmp_path / "parity.json"
    figures = ParityFigures(path)
    assert figures.totals() is None
    path.write_text(
        '{"replayed_at": "2026-01-02T00:00:00+00:00", "parity_compared_total": 1, "parity_mismatches_total": 0}'
    )
    first = figures.totals()
    assert first is not None
    assert figures.totals() is first
    path.unlink()
    assert figures.totals() is None
