"""`/live`, `/features`, `/ai/select` and `/backtest/reports`: what people and engines ask beside forecasts."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from levibot_core.models.bundle import ModelBundle
from levibot_core.stores.audit_log import AuditLog
from levibot_core.stores.online import FeatureVector, SqliteOnlineStore
from levibot_core.stores.paths import Home

Api = Callable[..., httpx.AsyncClient]
Bundles = Callable[..., ModelBundle]
ErrorOf = Callable[[httpx.Response], dict[str, Any]]
Vector = Callable[..., FeatureVector]

pytestmark = pytest.mark.anyio


async def test_the_kill_switch_is_thrown_recorded_and_told(
    api: Api, home: Home, stub_registry: Any, lightgbm_bundle: Bundles, error_of: ErrorOf
) -> None:
    stub_registry.hold(lightgbm_bundle())
    async with api(role="admin") as client:
        before = (await client.get("/live/status")).json()
        thrown = (await client.post("/live/kill", json={"on": True, "reason": "misquotes"})).json()
        killed = (await client.get("/live/status")).json()
        metrics = (await client.get("/metrics")).text
        off = (await client.post("/live/kill", json={"on": False, "reason": "quotes are back"})).json()
        after = (await client.get("/live/status")).json()
        refused = [await client.post("/live/kill", json=body) for body in ({"on": True}, {"reason": "none given"}, {})]
    assert before == {
        **{"kill_switch_active": False, "reason": "", "mode": "live", "active": True, "actor": "", "since": None}
    }
    assert (thrown["kill_switch"], thrown["reason"], off["kill_switch"]) == (True, "misquotes", False)
    assert (killed["kill_switch_active"], killed["mode"], killed["active"], killed["reason"]) == (
        *(True, "killed", False, "misquotes"),
    )
    assert "levibot_kill_switch_active 1.0" in metrics
    assert 'levibot_challenger_forecasts_total{outcome="scored"} 0.0' in metrics
    assert (after["mode"], after["active"], after["reason"]) == ("live", True, "quotes are back")
    assert [error_of(response)["code"] for response in refused] == ["invalid_request"] * 3
    records = AuditLog(home.audit_log).read()
    assert [(record.event, record.details) for record in records] == [
        ("kill_switch", {"on": True, "reason": "misquotes"}),
        ("kill_switch", {"on": False, "reason": "quotes are back"}),
    ]


async def test_a_repeated_question_is_silenced_at_once_and_counted_as_what_was_given(
    api: Api, stub_registry: Any, lightgbm_bundle: Bundles, features: SqliteOnlineStore, vector: Vector
) -> None:
    stub_registry.hold(lightgbm_bundle(), 3)
    features.put([vector()])
    given: list[dict[str, Any]] = []
    async with api(role="admin") as client:
        for on in (False, True, False):
            await client.post("/live/kill", json={"on": on, "reason": "misquotes"})
            given += [(await client.get("/ai/predict?symbol=BTCUSDT")).json() for _ in range(2)]
        metrics = (await client.get("/metrics")).text
    assert [(one["side"], one["tradable"], one["abstain"]) for one in given] == [
        *[("long", True, False)] * 2,
        *[("flat", False, True)] * 2,
        *[("long", True, False)] * 2,
    ]
    labels = 'fallback="false",model="levibot-5m-h12"'
    assert f'levibot_predictions_total{{abstain="false",{labels},side="long",version="3"}} 4.0' in metrics
    assert f'levibot_predictions_total{{abstain="true",{labels},side="flat",version="3"}} 2.0' in metrics


async def test_the_switch_goes_on_even_where_it_cannot_be_recorded_and_never_off_unrecorded(
    api: Api, home: Home, error_of: ErrorOf
) -> None:
    home.audit_log.write_bytes(b"not a record\n")
    async with api(role="admin") as client:
        for on in (True, False):
            response = await client.post("/live/kill", json={"on": on, "reason": "misquotes"})
            assert (response.status_code, error_of(response)["code"]) == (503, "unavailable")
            assert (await client.get("/live/status")).json()["kill_switch_active"] is True


@pytest.mark.parametrize("spelled", ["BTCUSDT", "btc-usdt", "BTC/USDT", "BTC%2FUSDT"])
async def test_features_are_told_by_symbol_in_every_spelling(
    api: Api, features: SqliteOnlineStore, vector: Vector, spelled: str
) -> None:
    features.put([vector()])
    async with api(role="admin") as client:
        response = await client.get(f"/features/{spelled}")
        some = (await client.get(f"/features/{spelled}", params={"names": "rsi_14"})).json()
    found = response.json()
    assert response.status_code == 200
    assert (found["symbol"], found["close"], found["stale"], found["source"]) == ("BTC/USDT", 100.0, False, "recorded")
    assert found["values"]["return_1"] == 1.5
    assert 0.0 < found["feature_age_s"] < 60.0
    assert some["values"] == {"rsi_14": 0.3}


async def test_features_that_are_not_there_are_refused(
    api: Api, features: SqliteOnlineStore, vector: Vector, error_of: ErrorOf
) -> None:
    features.put([vector()])
    async with api(role="admin") as client:
        expected = {
            "/features/ETHUSDT": (503, "features_unavailable"),
            "/features/DOGEUSDT": (404, "unknown_symbol"),
            "/features/nonsense!": (422, "invalid_request"),
            "/features/BTCUSDT?names=rsi_15": (400, "unknown_feature"),
            "/features": (422, "invalid_request"),
        }
        for path, found in expected.items():
            response = await client.get(path)
            assert (response.status_code, error_of(response)["code"]) == found, path


async def test_features_of_many_are_read_at_once_and_fail_one_by_one(
    api: Api, features: SqliteOnlineStore, vector: Vector
) -> None:
    features.put([vector(), vector(symbol="ETH/USDT", close=7.0)])
    async with api(role="admin") as client:
        items = (await client.get("/features", params={"symbols": "ETHUSDT,BTC-USDT,SOL/USDT,DOGEUSDT,??"})).json()[
            "items"
        ]
        many = await client.get("/features", params={"symbols": ",".join(f"A{number}USDT" for number in range(65))})
    assert [item["symbol"] for item in items] == ["ETH/USDT", "BTC/USDT", "SOL/USDT", "DOGE/USDT", "??"]
    assert items[0]["features"]["close"] == 7.0
    assert [item["error"] and item["error"]["status"] for item in items] == [None, None, 503, 404, 404]
    assert many.status_code == 400


async def test_only_what_answers_can_be_selected(
    api: Api, stub_registry: Any, lightgbm_bundle: Bundles, error_of: ErrorOf
) -> None:
    stub_registry.hold(lightgbm_bundle(), 5)
    async with api(role="admin") as client:
        for name in ("levibot-5m-h12", "lightgbm"):
            chosen = (await client.post("/ai/select", json={"name": name})).json()
            assert (chosen["current"], chosen["message"]) == ("levibot-5m-h12", "Version 5 (lightgbm) answers.")
        for name in ("tft", "ensemble", "nonsense"):
            error = error_of(await client.post("/ai/select", json={"name": name}))
            assert (error["code"], error["details"]) == ("not_served", {"served": ["levibot-5m-h12", "lightgbm"]})


async def test_reports_are_listed_and_shown(api: Api, home: Home) -> None:
    strategy = {
        **{"sharpe": -0.4, "sortino": None, "max_drawdown": -0.01, "hit_rate": 0.5, "annualised_return": 0.1},
        "trades": 3,
    }
    report = {
        "symbols": ["BTC/USDT", "ETH/USDT"],
        "start": "2026-01-01T00:00:00Z",
        "end": "2026-01-31T00:00:00Z",
        "metrics": {"strategy": strategy},
        "trades": [{"symbol": "BTC/USDT"}],
    }
    home.backtests.mkdir(parents=True)
    (home.backtests / "v7.json").write_text(json.dumps(report))
    (home.backtests / "v8.json").write_text("{")
    (home.backtests / "notes.json").write_text("{}")
    async with api(role="admin") as client:
        (entry,) = (await client.get("/backtest/reports")).json()
        whole = (await client.get("/backtest/reports/v7")).json()
        missing = [
            await client.get(f"/backtest/reports/{name}") for name in ("v8", "v9", "notes", "..%2Fsecrets", "b-1")
        ]
    assert (entry["id"], entry["symbol"], entry["status"]) == ("v7", "BTC/USDT, ETH/USDT", "done")
    assert entry["window"] == "2026-01-01 to 2026-01-31"
    assert (entry["metrics"]["win_rate"], entry["metrics"]["total_trades"]) == (0.5, 3)
    assert entry["links"] == {"json": "/backtest/reports/v7"}
    assert whole["report"] == report
    assert {response.status_code for response in missing} == {404}


async def test_without_dagster_a_backtest_is_refused_with_what_to_do(api: Api, home: Home, error_of: ErrorOf) -> None:
    async with api(role="admin") as client:
        response = await client.post("/backtest/run", json={"symbol": "BTCUSDT"})
        strange = await client.post("/backtest/run", json={"symbol": "BTCUSDT", "days": 0})
        short = await client.post("/backtest/run", json={"symbol": "BTCUSDT"}, headers={"Idempotency-Key": "1"})
    assert (response.status_code, error_of(response)["code"]) == (503, "dagster_unavailable")
    assert "LEVIBOT_DAGSTER_URL" in error_of(response)["message"]
    assert (strange.status_code, short.status_code) == (422, 422)
    assert list((home.backtests / "requests").glob("*.json")) == []
