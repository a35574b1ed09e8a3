"""Fresh, else kept and flagged, else none; on the file of the home and on a real Redis server."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from levibot_core.errors import LevibotError, MissingFeatureError, OnlineStoreError, StaleFeatureError
from levibot_core.models.bundle import BundleManifest, ModelBundle
from levibot_core.stores.online import FeatureVector, OnlineStore, SqliteOnlineStore, open_online_store
from levibot_core.stores.paths import Home
from levibot_serving.config import ServingSettings, load_serving_settings
from levibot_serving.feature_reader import FeatureReader
from levibot_serving.metrics import Metrics

pytestmark = pytest.mark.anyio

BTC, ETH = "BTC/USDT", "ETH/USDT"
Vector = Callable[..., FeatureVector]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def counted(metrics: Metrics, name: str, **labels: str) -> float:
    text = metrics.render().decode()
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    )


@pytest.fixture
def manifest(base_rate: ModelBundle) -> BundleManifest:
    return base_rate.manifest


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


class CountedReads:
    """A file store that counts how often it is read."""

    def __init__(self, store: SqliteOnlineStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reads = 0
        read = store.get_many

        def counting(symbols: Any) -> dict[str, FeatureVector]:
            self.reads += 1
            return read(symbols)

        monkeypatch.setattr(store, "get_many", counting)


async def test_a_file_is_read_again_only_after_somebody_wrote_to_it(
    features: SqliteOnlineStore,
    settings: ServingSettings,
    manifest: BundleManifest,
    metrics: Metrics,
    vector: Vector,
    home: Home,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    features.put([vector()])
    reading, writing = SqliteOnlineStore(home.online_store), SqliteOnlineStore(home.online_store)
    reader, counts = FeatureReader(reading, settings, metrics), CountedReads(reading, monkeypatch)
    found = [await reader.newest(manifest, BTC, now_ms()) for _ in range(5)]
    assert (counts.reads, all(one is found[0] for one in found)) == (1, True)
    assert counted(metrics, "levibot_cache_hits_total", cache="features") == 4
    for close in (101.0, 102.0, 103.0):
        writing.put([vector(close=close, ts_ms=now_ms(), known_at_ms=now_ms())])
        assert (await reader.newest(manifest, BTC, now_ms())).vector.close == close
    assert counts.reads == 4
    reading.close()
    writing.close()


async def test_a_kept_vector_is_not_served_beyond_its_life_nor_for_a_model_that_it_was_not_read_for(
    settings: ServingSettings,
    manifest: BundleManifest,
    metrics: Metrics,
    vector: Vector,
    home: Home,
) -> None:
    store = SqliteOnlineStore(home.online_store, ttl_s=0.3)
    store.put([vector(source_kind="exchange")])
    reader = FeatureReader(store, settings, metrics)
    assert (await reader.newest(manifest, BTC, now_ms())).degraded is None
    wider = manifest.model_copy(update={"features": (*manifest.features, "of_tomorrow")})
    with pytest.raises(MissingFeatureError, match="of_tomorrow"):
        await reader.newest(wider, BTC, now_ms())
    time.sleep(0.35)
    with pytest.raises(StaleFeatureError, match="have expired"):
        await reader.newest(manifest, BTC, now_ms())
    store.close()


async def test_a_file_that_was_replaced_is_noticed(
    features: SqliteOnlineStore,
    settings: ServingSettings,
    manifest: BundleManifest,
    metrics: Metrics,
    vector: Vector,
    home: Home,
) -> None:
    features.put([vector(close=1.0)])
    store = SqliteOnlineStore(home.online_store)
    reader = FeatureReader(store, settings, metrics)
    assert (await reader.newest(manifest, BTC, now_ms())).vector.close == 1.0
    features.close()
    for file in home.root.glob("online.sqlite*"):
        file.unlink()
    lost = await reader.newest(manifest, BTC, now_ms())
    assert (lost.vector.close, "lost its vectors" in str(lost.degraded)) == (1.0, True)
    features.put([vector(close=2.0)])
    found = await reader.newest(manifest, BTC, now_ms())
    assert (found.vector.close, found.degraded) == (2.0, None)
    store.close()


@pytest.fixture
async def on_redis(
    start_redis: Callable[..., Any], home: Home, metrics: Metrics
) -> AsyncIterator[tuple[Any, OnlineStore, FeatureReader]]:
    server = start_redis()
    settings = load_serving_settings(home=home.root, redis_url=server.url, online_deadline_seconds=0.3)
    store = open_online_store(home, server.url, settings.online_lifetime_s)
    reader = FeatureReader(store, settings, metrics)
    yield server, store, reader
    reader.close()
    server.stop()


async def recovered(reader: FeatureReader, manifest: BundleManifest) -> None:
    """Until the circuit has closed again, at most as long as it may take."""
    deadline = time.monotonic() + 10
    while (await reader.newest(manifest, BTC, now_ms())).degraded is not None:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_while_redis_hangs_or_is_gone_kept_features_serve_flagged_and_others_are_refused(
    on_redis: tuple[Any, OnlineStore, FeatureReader], manifest: BundleManifest, metrics: Metrics, vector: Vector
) -> None:
    server, store, reader = on_redis
    store.put([vector(close=7.0)])
    fresh = await reader.newest(manifest, BTC, now_ms())
    assert fresh.degraded is None
    os.kill(server.pid, signal.SIGSTOP)
    try:
        for _ in range(2):
            kept = await reader.newest(manifest, BTC, now_ms())
            assert kept == replace(fresh, degraded=kept.degraded)
            assert "does not answer in time" in str(kept.degraded)
        with pytest.raises(OnlineStoreError, match=r"ETH/USDT, but .* does not answer within"):
            await reader.newest(manifest, ETH, now_ms())
    finally:
        os.kill(server.pid, signal.SIGCONT)
    await recovered(reader, manifest)

    server.stop()
    for _ in range(8):
        kept = await reader.newest(manifest, BTC, now_ms())
        assert (kept.vector.close, kept.degraded is None) == (7.0, False)
    with pytest.raises(LevibotError):
        await reader.newest(manifest, ETH, now_ms())
    assert counted(metrics, "levibot_circuit_state", dependency="online_store") == 2
    assert counted(metrics, "levibot_retries_total", dependency="online_store") >= 5

    server.start()
    while "lost its vectors" not in str((await reader.newest(manifest, BTC, now_ms())).degraded):
        await asyncio.sleep(0.05)
    store.put([vector(close=8.0)])
    found = await reader.newest(manifest, BTC, now_ms())
    assert (found.vector.close, found.degraded) == (8.0, None)
    assert counted(metrics, "levibot_circuit_state", dependency="online_store") == 0


async def test_kept_features_serve_no_longer_than_until_the_next_bar_closed(
    on_redis: tuple[Any, OnlineStore, FeatureReader], manifest: BundleManifest, vector: Vector
) -> None:
    server, store, reader = on_redis
    known_at_ms = now_ms()
    store.put([vector(known_at_ms=known_at_ms)])
    await reader.newest(manifest, BTC, known_at_ms)
    server.stop()
    assert (await reader.newest(manifest, BTC, known_at_ms + 300_000)).degraded is not None
    with pytest.raises(OnlineStoreError):
        await reader.newest(manifest, BTC, known_at_ms + 300_001)
