"""Where the features of a forecast come from, and what stands around it: sent candles, the lake, the kill switch."""

import time
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest

from levibot_core.features.compute import compute_features
from levibot_core.features.registry import load_registry
from levibot_core.features.sent_candles import usable_candles
from levibot_core.features.sent_market import CandleRow
from levibot_core.market.sources.base import SourceIdentity
from levibot_core.market.timeframe import Timeframe
from levibot_core.models.bundle import ModelBundle
from levibot_core.models.novelty import NOVELTY, fit_novelty
from levibot_core.schemas import CANDLES, FUNDING_RATES
from levibot_core.stores.kill_switch import KillSwitch
from levibot_core.stores.lake import Lake
from levibot_core.stores.online import FeatureVector, SqliteOnlineStore
from levibot_core.stores.online_redis import RedisOnlineStore
from levibot_core.stores.paths import Home, candles_dataset

Api = Callable[..., httpx.AsyncClient]
Bundles = Callable[..., ModelBundle]
ErrorOf = Callable[[httpx.Response], dict[str, Any]]
Vector = Callable[..., FeatureVector]

pytestmark = pytest.mark.anyio

NAMES = ("log_return_1", "realized_volatility_48", "leader_return_3")
BAR = Timeframe.parse("5m")
STEP = BAR.milliseconds
NEEDED = 49


def walk(seed: int, bars: int = NEEDED) -> list[CandleRow]:
    """Candles of which the last closed just now."""
    random = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(random.normal(0.0, 0.002, bars)))
    first = np.concatenate([[100.0], close[:-1]])
    columns = (first, np.maximum(first, close), np.minimum(first, close), close, random.uniform(1.0, 9.0, bars))
    newest = BAR.floor(time.time_ns() // 1_000_000) - STEP
    opens = range(newest - (bars - 1) * STEP, newest + 1, STEP)
    return list(zip(opens, *(column.tolist() for column in columns), strict=True))


def frame(symbol: str, rows: list[CandleRow]) -> pl.DataFrame:
    return usable_candles(symbol, rows, BAR, len(rows), rows[-1][0] + STEP)


def fill_lake(home: Home, **candles: list[CandleRow]) -> None:
    lake = Lake(home.lake)
    lake.set_current_source(SourceIdentity("exchange", "exchange-test", "test", "a test"))
    for name, rows in candles.items():
        whole = frame(f"{name}/USDT", rows).with_columns(revision=pl.lit(0, pl.Int32), venue=pl.lit("test"))
        lake.append(candles_dataset("exchange-test", "spot", "5m"), whole.select(CANDLES.polars_schema.names()), 0)


def offline(symbol: str, **candles: list[CandleRow]) -> dict[str, float]:
    """The newest features as training data has them."""
    known = pl.concat([frame(f"{name}/USDT", rows) for name, rows in candles.items()])
    computed = compute_features(known, FUNDING_RATES.empty(), load_registry("v1").only(NAMES), BAR)
    return computed.filter(pl.col("symbol") == symbol).tail(1).select(NAMES).row(0, named=True)


@pytest.fixture
def champion(stub_registry: Any, bundle_on: Callable[..., ModelBundle]) -> ModelBundle:
    """A model on features that can be computed."""
    bundle = bundle_on(NAMES)
    stub_registry.hold(bundle, 3)
    return bundle


async def test_candles_in_the_body_are_computed_with_the_bits_of_training_data(api: Api, champion: ModelBundle) -> None:
    own, leader = walk(1), walk(2)
    body = {
        "symbol": "ETHUSDT",
        "candles": own,
        "leader_candles": leader,
        "candles_source": "exchange",
        "explain": True,
    }
    async with api() as client:
        response = await client.post("/ai/predict", json=body)
    assert response.status_code == 200, response.text
    prediction = response.json()
    values = offline("ETH/USDT", BTC=leader, ETH=own)
    seen = {item["feature"]: item["value"] for item in prediction["explanation"]["contributions"]}
    assert {name: seen[name].hex() for name in NAMES} == {name: values[name].hex() for name in NAMES}
    raw = champion.predict(champion.matrix_row("ETH/USDT", values))
    assert prediction["prob_up"] == raw[0]
    assert (prediction["symbol"], prediction["source"], prediction["fallback"]) == ("ETH/USDT", "exchange", False)
    assert prediction["_current_price"] == own[-1][4]


@pytest.mark.usefixtures("champion")
async def test_nobody_sends_features_of_his_own_making(api: Api, error_of: ErrorOf) -> None:
    """The earlier engines sent features that the model did not know; absent ones became zeros."""
    unknown = {"vol": 0.2, "spread": 1.0, "funding_rate": 0.0001, "inflow": 3.0, "outflow": 2.0, "whale_txs": 7}
    async with api() as client:
        for body in ({"features": unknown}, unknown, {"candles": [unknown]}):
            response = await client.post("/ai/predict", json={"symbol": "BTCUSDT", **body})
            assert (response.status_code, error_of(response)["code"]) == (422, "invalid_request")


@pytest.mark.usefixtures("champion")
async def test_candles_of_unknown_origin_are_forecast_and_not_tradable(api: Api) -> None:
    async with api() as client:
        response = await client.post("/ai/predict", json={"symbol": "BTC-USDT", "candles": walk(2)})
        told = await client.post(
            "/ai/predict", json={"symbol": "BTC-USDT", "candles": walk(3), "candles_source": "exchange"}
        )
        recent = (await client.get("/analytics/predictions/recent")).json()["items"]
        deciles = (await client.get("/analytics/deciles")).json()
    prediction = response.json()
    assert (prediction["source"], prediction["tradable"]) == ("request", False)
    assert any("never tradable" in reason for reason in prediction["reasons"])
    assert told.json()["source"] == "exchange"
    # What is looked back on later does not rest on what somebody said.
    assert ([item["source"] for item in recent], deciles["forecasts"]) == (["request", "request"], 0)


@pytest.mark.usefixtures("champion")
@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda rows: rows[1:], "too_few"),
        (lambda rows: rows[:0], "too_few"),
        (lambda rows: [(row[0] - STEP, *row[1:]) if place < 20 else row for place, row in enumerate(rows)], "gap"),
        (lambda rows: [*rows, (rows[-1][0] + STEP, *rows[-1][1:])], "unclosed"),
        (lambda rows: [*rows[:-1], (*rows[-1][:4], None, 1.0)], "not_finite"),
        (lambda rows: [(row[0] + 1, *row[1:]) for row in rows], "off_grid"),
        (lambda rows: rows[::-1], "out_of_order"),
    ],
)
async def test_candles_that_cannot_be_used_are_refused_with_the_cause_and_what_is_needed(
    api: Api, error_of: ErrorOf, change: Callable[[list[CandleRow]], list[CandleRow]], cause: str
) -> None:
    async with api() as client:
        response = await client.post("/ai/predict", json={"symbol": "BTCUSDT", "candles": change(walk(2))})
        listed = (await client.get("/ai/models/list")).status_code  # without a registry
    error = error_of(response)
    assert (response.status_code, error["code"]) == (422, "unusable_candles")
    assert error["details"] == {"cause": cause, "candles_needed": NEEDED}
    assert listed == 503


async def test_without_a_vector_the_lake_is_computed_from_and_the_answer_says_so(
    api: Api, home: Home, champion: ModelBundle
) -> None:
    own, leader = walk(1), walk(2)
    fill_lake(home, BTC=leader, ETH=own)
    async with api() as client:
        got = (await client.get("/ai/predict", params={"symbol": "ETHUSDT"})).json()
        posted = (await client.post("/ai/predict", json={"symbol": "ETHUSDT"})).json()
    values = offline("ETH/USDT", BTC=leader, ETH=own)
    for prediction in (got, posted):
        assert prediction["prob_up"] == champion.predict(champion.matrix_row("ETH/USDT", values))[0]
        assert (prediction["fallback"], prediction["abstain"], prediction["source"]) == (True, False, "exchange")
        assert prediction["fallback_reason"] == (
            "the online store gave no features; they were computed from the home's candles"
        )


async def test_a_feature_that_is_not_defined_on_sent_candles_is_the_callers_matter(
    api: Api, stub_registry: Any, bundle_on: Callable[..., ModelBundle], error_of: ErrorOf
) -> None:
    stub_registry.hold(bundle_on(("log_return_1", "funding_rate_last")))
    candles = walk(2)
    settled = candles[-1][0] + STEP - 3_600_000
    async with api() as client:
        response = await client.post("/ai/predict", json={"symbol": "BTCUSDT", "candles": candles})
        funded = await client.post(
            "/ai/predict", json={"symbol": "BTCUSDT", "candles": candles, "funding": [[settled, 0.0001]]}
        )
    error = error_of(response)
    assert (response.status_code, error["code"], error["details"]["abstain"]) == (422, "features_undefined", True)
    assert "funding_rate_last. Give settled funding rates" in error["message"]
    assert funded.status_code == 200


@pytest.mark.usefixtures("champion")
async def test_a_store_that_is_down_is_stood_in_for_by_the_lake(api: Api, home: Home, redis_server: Any) -> None:
    redis_server.stop()
    fill_lake(home, BTC=walk(2))
    store = RedisOnlineStore(redis_server.url, 60.0)
    try:
        async with api(features=store) as client:
            prediction = (await client.get("/ai/predict", params={"symbol": "BTCUSDT"})).json()
    finally:
        store.close()
        redis_server.start()
    assert (prediction["fallback"], prediction["abstain"]) == (True, False)


@pytest.mark.usefixtures("champion")
async def test_an_old_vector_is_replaced_by_fresh_candles_of_the_lake_and_kept_without_them(
    api: Api, home: Home, features: SqliteOnlineStore, vector: Vector
) -> None:
    now_ms = time.time_ns() // 1_000_000
    old = {"ts_ms": now_ms - 3_900_000, "known_at_ms": now_ms - 3_600_000, "values": dict.fromkeys(NAMES, 0.01)}
    features.put([vector(**old)])
    async with api() as client:
        kept = (await client.get("/ai/predict", params={"symbol": "BTCUSDT"})).json()
    assert (kept["abstain"], kept["fallback"], kept["side"], kept["tradable"]) == (True, True, "flat", False)
    assert "3600 s old" in kept["fallback_reason"]
    fill_lake(home, BTC=walk(2))
    async with api() as client:
        fresh = (await client.get("/ai/predict", params={"symbol": "BTCUSDT"})).json()
    assert (fresh["abstain"], fresh["fallback"]) == (False, True)
    assert "newer ones were computed" in fresh["fallback_reason"]
    assert fresh["feature_age_s"] < 400


@pytest.mark.usefixtures("champion")
async def test_without_features_and_candles_it_abstains_with_its_reasons_and_no_number(
    api: Api, error_of: ErrorOf
) -> None:
    async with api() as client:
        responses = [
            await client.get("/ai/predict", params={"symbol": "BTCUSDT"}),
            await client.post("/ai/predict", json={"symbol": "BTCUSDT"}),
        ]
    for response in responses:
        error = error_of(response)
        assert (response.status_code, error["code"]) == (503, "features_unavailable")
        assert (error["details"]["abstain"], error["details"]["side"]) == (True, "flat")
        assert "nothing was ingested" in error["details"]["reasons"][1]
        assert "prob_up" not in response.text


async def test_a_batch_answers_each_symbol_for_itself(api: Api, champion: ModelBundle) -> None:
    own, leader = walk(1), walk(2)
    body = {
        "symbols": ["BTC/USDT", "ethusdt", "DOGE-USDT", "???", "BTC/USDT"],
        "candles": {"BTCUSDT": leader, "ETH-USDT": own},
        "candles_source": "recorded",
    }
    async with api() as client:
        response = await client.post("/ai/predict/batch", json=body)
        holed = await client.post(
            "/ai/predict/batch", json={**body, "candles": {"BTCUSDT": leader, "ETHUSDT": own[1:]}}
        )
        strange = await client.post("/ai/predict/batch", json={**body, "horizon": 5})
    items = response.json()["items"]
    assert [item["symbol"] for item in items] == ["BTC/USDT", "ETH/USDT", "DOGE/USDT", "???"]
    assert [item["error"]["code"] if item["error"] else None for item in items] == [
        *(None, None, "unknown_symbol", "unknown_symbol")
    ]
    values = offline("ETH/USDT", BTC=leader, ETH=own)
    assert items[1]["prediction"]["prob_up"] == champion.predict(champion.matrix_row("ETH/USDT", values))[0]
    assert len({item["prediction"]["timestamp"] for item in items[:2]}) == 1
    first, second, *_ = holed.json()["items"]
    assert first["prediction"] is not None
    assert (second["error"]["status"], second["error"]["details"]["cause"]) == (422, "too_few")
    assert strange.status_code == 400


async def test_novelty_is_told_by_bundles_that_keep_it_and_null_for_others(
    api: Api, stub_registry: Any, lightgbm_bundle: Bundles, features: SqliteOnlineStore, vector: Vector
) -> None:
    features.put([vector()])
    stub_registry.hold(lightgbm_bundle())
    async with api() as client:
        assert (await client.get("/ai/predict", params={"symbol": "BTCUSDT"})).json()["novelty"] is None
    rows = np.random.default_rng(7).normal(size=(500, 3))
    stub_registry.hold(lightgbm_bundle().with_parts({NOVELTY: fit_novelty(rows)}), 2)
    async with api() as client:
        ordinary = (await client.get("/ai/predict", params={"symbol": "BTCUSDT"})).json()["novelty"]
        features.put([vector(values={"return_1": 50.0, "realized_volatility_48": 0.02, "rsi_14": 0.3})])
    async with api() as client:
        strange = (await client.get("/ai/predict", params={"symbol": "BTCUSDT"})).json()["novelty"]
    assert 0.0 <= ordinary < 0.9
    assert strange == 1.0


async def test_the_kill_switch_silences_every_forecast_of_every_endpoint(
    api: Api, home: Home, stub_registry: Any, lightgbm_bundle: Bundles, features: SqliteOnlineStore, vector: Vector
) -> None:
    features.put([vector()])
    stub_registry.hold(lightgbm_bundle())
    async with api() as client:
        assert (await client.get("/ai/predict", params={"symbol": "BTCUSDT"})).json()["tradable"] is True
        # Another worker of the home throws it.
        KillSwitch(home.kill_switch).throw(True, "misquotes", "ada")
        answers = [
            (await client.get("/ai/predict", params={"symbol": "BTCUSDT"})).json(),
            (await client.get("/ai/predict", params={"symbol": "BTCUSDT", "explain": "1"})).json(),
            (await client.post("/ai/predict", json={"symbol": "BTCUSDT"})).json(),
            (await client.post("/ai/predict/batch", json={"symbols": ["BTCUSDT"]})).json()["items"][0]["prediction"],
        ]
        KillSwitch(home.kill_switch).throw(False, "quotes are back", "ada")
        assert (await client.get("/ai/predict", params={"symbol": "BTCUSDT"})).json()["tradable"] is True
    for answer in answers:
        assert (answer["tradable"], answer["side"], answer["abstain"]) == (False, "flat", True)
        assert answer["reasons"][0] == "the kill switch is on: misquotes"
        assert answer["prob_up"] != 0.5  # what the model says is still told
    assert answers[1]["explanation"]["contributions"]
