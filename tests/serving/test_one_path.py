"""GET, POST and batch are one path: the same answer, the same cache, the same door."""

from collections.abc import Callable, Sequence
from typing import Any

import httpx
import numpy as np
import pytest

from levibot_core.errors import OnlineStoreError
from levibot_core.models.bundle import ModelBundle
from levibot_core.models.novelty import NOVELTY, fit_novelty
from levibot_core.stores.online import FeatureVector, SqliteOnlineStore

pytestmark = pytest.mark.anyio

Api = Callable[..., httpx.AsyncClient]
Bundles = Callable[..., ModelBundle]
Vector = Callable[..., FeatureVector]
QUERY = {"symbol": "BTCUSDT"}


async def ask_everywhere(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    """One symbol, by every endpoint that forecasts."""
    batch = await client.post("/ai/predict/batch", json={"symbols": ["BTCUSDT"]})
    alone = [await client.get("/ai/predict", params=QUERY), await client.post("/ai/predict", json=QUERY)]
    return [batch.json()["items"][0]["prediction"], *(response.json() for response in alone)]


async def test_every_endpoint_gives_the_same_answer_from_one_question_to_the_model(
    api: Api, stub_registry: Any, lightgbm_bundle: Bundles, features: SqliteOnlineStore, vector: Vector
) -> None:
    rows = np.random.default_rng(7).normal(size=(500, 3))
    stub_registry.hold(lightgbm_bundle().with_parts({NOVELTY: fit_novelty(rows)}))
    fresh = vector()
    features.put([fresh])
    async with api(now_ms=lambda: fresh.known_at_ms + 1000) as client:
        answers = [*await ask_everywhere(client), *await ask_everywhere(client)]
        text = (await client.get("/metrics")).text
    assert answers == [answers[0]] * 6
    assert answers[0]["novelty"] > 0
    assert 'levibot_cache_misses_total{cache="forecast"} 1.0' in text
    assert 'levibot_cache_hits_total{cache="forecast"} 5.0' in text
    for endpoint, count in (("/ai/predict", 4), ("/ai/predict/batch", 2)):
        for stage in ("features", "model", "answer"):
            assert f'levibot_stage_duration_seconds_count{{endpoint="{endpoint}",stage="{stage}"}} {count}.0' in text


async def test_kept_features_are_flagged_at_every_endpoint(
    api: Api, stub_registry: Any, lightgbm_bundle: Bundles, features: SqliteOnlineStore, vector: Vector
) -> None:
    class Failing:
        """A store that answers until it fails."""

        place = "a store that fails"
        fails = False

        def get_many(self, symbols: Sequence[str]) -> dict[str, FeatureVector]:
            if self.fails:
                raise OnlineStoreError("it is gone")
            return features.get_many(symbols)

        def last_known_at_ms(self, symbols: Sequence[str]) -> dict[str, int]:
            return features.last_known_at_ms(symbols)

    features.put([vector()])
    stub_registry.hold(lightgbm_bundle())
    store = Failing()
    async with api(features=store) as client:
        fresh = await ask_everywhere(client)
        store.fails = True
        kept = await ask_everywhere(client)
    assert [answer["fallback"] for answer in fresh] == [False] * 3
    assert {answer["fallback_reason"] for answer in kept} == {
        "the online store cannot be read: these are the last features that were read"
    }
    assert {answer["prob_up"] for answer in kept} == {fresh[0]["prob_up"]}


async def test_a_query_that_was_answered_before_lets_nobody_past_the_door(
    api: Api, stub_registry: Any, lightgbm_bundle: Bundles, features: SqliteOnlineStore, vector: Vector
) -> None:
    features.put([vector()])
    stub_registry.hold(lightgbm_bundle())
    async with api() as client:
        statuses = [(await client.get("/ai/predict", params=QUERY)).status_code for _ in range(61)]
        client.headers.pop("authorization")
        nobody = await client.get("/ai/predict", params=QUERY)
    assert statuses == [200] * 60 + [429]
    assert nobody.status_code == 401
