from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from levibot_core.errors import RegistryError
from levibot_core.models.bundle import ModelBundle
from levibot_core.stores.online import FeatureVector, SqliteOnlineStore
from levibot_core.stores.prediction_log import PredictionLog
from levibot_serving.cache import ModelCache
from levibot_serving.challenger_shadow import ChallengerShadow
from levibot_serving.config import ServingSettings
from levibot_serving.prediction_journal import PredictionJournal

Bundles = Callable[..., ModelBundle]
Vector = Callable[..., FeatureVector]


class OfferingRegistry:
    """Hands out the version that another registry holds as the challenger."""

    def __init__(self, held: Any) -> None:
        self._held = held
        self.aliases: tuple[str, ...] = ("challenger",)

    def challenger(self, name: str) -> Any:
        record = self._held.champion(name)
        return None if record is None else record.model_copy(update={"aliases": self.aliases})

    def download(self, record: Any, folder: Any) -> None:
        self._held.record = record
        self._held.download(record, folder)


@pytest.fixture
def journal(settings: ServingSettings) -> PredictionJournal:
    return PredictionJournal(PredictionLog(settings.folders.predictions), 30)


@pytest.fixture
def shadow(
    stub_registry: Any, settings: ServingSettings, features: SqliteOnlineStore, journal: PredictionJournal
) -> ChallengerShadow:
    cache = ModelCache(settings.folders.root / "serving")
    registry: Any = OfferingRegistry(stub_registry)
    return ChallengerShadow(registry, cache, settings.model_name, features, journal, 60.0, queue_limit=3)


def test_the_challenger_says_what_it_would_have_said_once_per_bar_and_nobody_may_trade_it(
    shadow: ChallengerShadow, journal: PredictionJournal, stub_registry: Any, lightgbm_bundle: Bundles, vector: Vector
) -> None:
    asked = vector()
    shadow.offer(asked, asked.known_at_ms)  # before there is a challenger: nothing waits
    stub_registry.hold(lightgbm_bundle(seed=8), 9)
    shadow.work()
    for _ in range(2):
        shadow.offer(asked, asked.known_at_ms)
        shadow.offer(replace(asked, symbol="ETH/USDT"), asked.known_at_ms)
        shadow.work()
    found = journal.newest(10)
    assert sorted((item.symbol, item.role, item.model_version, item.tradable) for item in found) == [
        ("BTC/USDT", "challenger", 9, False),
        ("ETH/USDT", "challenger", 9, False),
    ]
    assert (shadow.scored, shadow.failed, shadow.dropped) == (2, 0, 0)


def test_what_it_cannot_forecast_or_does_not_keep_up_with_is_counted_and_harms_nobody(
    shadow: ChallengerShadow, stub_registry: Any, lightgbm_bundle: Bundles, vector: Vector
) -> None:
    stub_registry.hold(lightgbm_bundle(feature_set="v2"), 9)
    shadow.work()
    asked = vector()
    for number in range(5):
        shadow.offer(replace(asked, ts_ms=asked.ts_ms + number), asked.known_at_ms)
    shadow.work()
    assert (shadow.scored, shadow.failed, shadow.dropped) == (0, 3, 2)


def test_a_challenger_that_became_champion_or_went_is_none_and_a_registry_that_is_away_changes_nothing(
    shadow: ChallengerShadow, stub_registry: Any, lightgbm_bundle: Bundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub_registry.hold(lightgbm_bundle(), 9)
    shadow.follow()
    assert shadow.challenger is not None
    stub_registry.failure = "the registry is away"
    shadow.follow()
    assert shadow.challenger is not None
    stub_registry.failure = None
    monkeypatch.setattr(shadow._registry, "aliases", ("challenger", "champion"), raising=False)
    shadow.follow()
    assert shadow.challenger is None


def test_a_challenger_that_holds_no_bundle_is_refused_once(
    shadow: ChallengerShadow, stub_registry: Any, lightgbm_bundle: Bundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub_registry.hold(lightgbm_bundle(), 9)

    def pickle_alone(_: Any, folder: Any) -> None:
        stub_registry.downloads += 1
        (folder / "model.pkl").write_bytes(b"never read")

    monkeypatch.setattr(stub_registry, "download", pickle_alone)
    for _ in range(3):
        shadow.follow()
    assert (shadow.challenger, stub_registry.downloads) == (None, 1)


def test_its_thread_ends_when_it_is_told_to(shadow: ChallengerShadow, stub_registry: Any) -> None:
    stub_registry.failure = str(RegistryError("away"))
    shadow.start()
    shadow.stop()
    assert shadow.challenger is None
