from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from levibot_core.models.bundle import ModelBundle
from levibot_core.stores.online import FeatureVector, SqliteOnlineStore
from levibot_core.stores.paths import Home
from levibot_core.stores.prediction_log import PredictionLog
from levibot_serving.contract import PREDICTION_EXAMPLE, Prediction
from levibot_serving.prediction_journal import PredictionJournal

Api = Callable[..., httpx.AsyncClient]
Bundles = Callable[..., ModelBundle]
Vector = Callable[..., FeatureVector]


def prediction(**changes: Any) -> Prediction:
    now = datetime.now(UTC)
    values = {**PREDICTION_EXAMPLE, "timestamp": now, "as_of": now - timedelta(seconds=1), **changes}
    return Prediction.model_validate(values)


@pytest.fixture
def log(home: Home) -> PredictionLog:
    return PredictionLog(home.predictions)


def test_what_says_the_same_is_written_once_and_what_says_more_again(log: PredictionLog) -> None:
    journal = PredictionJournal(log, 30)
    first = prediction()
    later = first.model_copy(update={"timestamp": first.timestamp + timedelta(seconds=1)})
    killed = later.model_copy(update={"side": "flat", "abstain": True, "tradable": False})
    other = later.model_copy(update={"symbol": "ETH/USDT"})
    for said in (first, later, killed, killed, other, first):
        journal.record(said)
    journal.record(first, "challenger")
    found = journal.newest(10)
    assert [(item.symbol, item.side, item.role) for item in found] == [
        ("BTC/USDT", "long", "challenger"),
        ("BTC/USDT", "long", "champion"),
        ("ETH/USDT", "long", "champion"),
        ("BTC/USDT", "flat", "champion"),
        ("BTC/USDT", "long", "champion"),
    ]
    assert [item.symbol for item in journal.newest(1, "champion")] == ["BTC/USDT"]
    assert len(journal.newest(10, "champion", signals_only=True)) == 3


def test_a_restarted_worker_and_its_neighbour_read_what_was_written(log: PredictionLog) -> None:
    before = PredictionJournal(log, 30)
    before.start()
    before.record(prediction())
    before.stop()
    neighbour = PredictionJournal(log, 30)
    neighbour.record(prediction(symbol="ETH/USDT"))
    assert [item.symbol for item in neighbour.newest(5)] == ["ETH/USDT", "BTC/USDT"]
    assert len(PredictionJournal(log, 30).newest(5)) == 2


def test_a_full_queue_and_a_folder_that_cannot_be_written_drop_and_count(home: Home) -> None:
    (home.root / "file").write_text("")
    journal = PredictionJournal(PredictionLog(home.root / "file" / "below"), 30, queue_limit=2)
    for number in range(3):
        journal.record(prediction(model_version=number))
    assert journal.dropped == 1
    journal.flush()
    assert journal.dropped == 3


def test_old_days_are_let_go(log: PredictionLog) -> None:
    journal = PredictionJournal(log, kept_days=2)
    today = datetime.now(UTC)
    for days in (3, 1, 0):
        journal.record(prediction(timestamp=today - timedelta(days=days)))
        journal.flush()
    assert sorted(log.files()) == [(today - timedelta(days=days)).date() for days in (1, 0)]


@pytest.mark.anyio
async def test_what_was_forecast_is_listed_and_settled_over_the_api(
    api: Api, stub_registry: Any, lightgbm_bundle: Bundles, features: SqliteOnlineStore, vector: Vector
) -> None:
    stub_registry.hold(lightgbm_bundle(horizon_bars=1), 3)
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    async with api() as client:
        for age_ms, close in ((600_000, 100.0), (300_000, 101.0), (0, 100.5)):
            features.put([vector(ts_ms=now_ms - age_ms - 301_000, known_at_ms=now_ms - age_ms - 1_000, close=close)])
            assert (await client.get("/ai/predict", params={"symbol": "BTCUSDT"})).status_code == 200
        recent = (await client.get("/analytics/predictions/recent", params={"limit": 2})).json()
        signals = (await client.get("/ops/signal_log")).json()["items"]
        deciles = (await client.get("/analytics/deciles", params={"window": "7d"})).json()
        refused = [
            await client.get("/analytics/predictions/recent", params={"limit": 2001}),
            await client.get("/ops/signal_log", params={"limit": 1001}),
            await client.get("/analytics/deciles", params={"window": "1h"}),
        ]
    assert recent["total"] == 2
    newest = recent["items"][0]
    assert (newest["symbol"], newest["price"], newest["model_version"], newest["role"]) == (
        "BTC/USDT",
        100.5,
        3,
        "champion",
    )
    assert newest["ts"] == pytest.approx(datetime.fromisoformat(newest["ts_iso"]).timestamp())
    assert [item["side"] for item in signals] == ["long", "long"]  # of the oldest features no side is taken
    # It always leans up: 100 -> 101 was foreseen, 101 -> 100.5 was not, and the newest is open.
    assert (deciles["forecasts"], deciles["settled"], deciles["hit_rate"]) == (3, 2, 0.5)
    assert [response.status_code for response in refused] == [422, 422, 422]
