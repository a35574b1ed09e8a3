import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from levibot_core.labels.definition import TripleBarrierLabel
from levibot_core.models.bundle import ModelBundle
from levibot_core.models.conformal import INTERVAL, ReturnInterval, interval_text
from levibot_core.models.volatility import VOLATILITY_BOOSTER, VOLATILITY_SETTINGS
from levibot_core.models.volatility_fitting import train_volatility
from levibot_serving.config import ServingSettings
from levibot_serving.model_store import ModelStore
from levibot_serving.predictor import predict

FEATURES = ("return_1", "realized_volatility_48", "rsi_14")
Bundles = Callable[..., ModelBundle]
Stores = Callable[[], ModelStore]


@pytest.fixture
def store(model_store: Stores) -> ModelStore:
    return model_store()


@pytest.fixture(scope="session")
def parts() -> dict[str, bytes]:
    """A volatility head of a few trees, and an interval."""
    generator = np.random.default_rng(1)
    rows = np.column_stack([generator.normal(size=(600, len(FEATURES))), generator.integers(0, 2, 600)])
    volatility = np.exp(generator.normal(-5.0, 0.5, 600))
    head = train_volatility(
        (rows[:400], volatility[:400]), (rows[400:], volatility[400:]), FEATURES, 12, 1, max_rounds=5
    )
    return {
        VOLATILITY_BOOSTER: head.booster_text.encode(),
        VOLATILITY_SETTINGS: head.settings_text.encode(),
        INTERVAL: interval_text(ReturnInterval(0.9, 1.5, 0.005)).encode(),
    }


def version_of(store: ModelStore) -> int:
    assert store.served is not None
    return store.served.version


def test_the_champion_is_served(store: ModelStore, stub_registry: Any, lightgbm_bundle: Bundles) -> None:
    stub_registry.hold(lightgbm_bundle(), 3)
    store.refresh()
    assert store.served is not None
    assert (store.served.version, store.served.tradable, store.served.from_cache) == (3, True, False)
    assert store.served.snapshot_id == lightgbm_bundle().manifest.snapshot_id
    assert (store.status.registry_reachable, store.status.problem, store.swaps) == (True, None, 1)
    assert store.status.last_contact_age_s is not None


def test_the_last_good_model_answers_while_the_registry_takes_its_time(
    model_store: Stores, stub_registry: Any, lightgbm_bundle: Bundles, eventually: Callable[..., None]
) -> None:
    stub_registry.hold(lightgbm_bundle(), 3)
    model_store().refresh()
    asked, answer, champion = threading.Event(), threading.Event(), stub_registry.champion

    def slowly(name: str) -> Any:
        asked.set()
        assert answer.wait(10)
        return champion(name)

    stub_registry.champion = slowly
    store = model_store()
    store.start()
    assert asked.wait(10)
    assert store.served is not None
    assert (version_of(store), store.served.from_cache) == (3, True)
    assert store.status.problem == "The model registry has not been asked yet."
    answer.set()
    eventually(lambda: store.status.problem is None)
    assert (version_of(store), store.served.from_cache, store.swaps) == (3, False, 1)
    store.stop()


def test_a_promotion_is_followed_and_a_rollback_needs_no_download(
    store: ModelStore, stub_registry: Any, lightgbm_bundle: Bundles
) -> None:
    for version in (1, 2, 1):
        stub_registry.hold(lightgbm_bundle(), version)
        store.refresh()
        assert version_of(store) == version
    assert (store.swaps, stub_registry.downloads) == (3, 2)


def test_the_optional_parts_are_read_and_reach_the_answer(
    store: ModelStore, stub_registry: Any, lightgbm_bundle: Bundles, parts: dict[str, bytes], vector: Any
) -> None:
    stub_registry.hold(lightgbm_bundle().with_parts(parts))
    store.refresh()
    assert store.served is not None
    features = vector()
    prediction = predict(store.served, "BTC/USDT", features, features.known_at_ms, 60.0)
    assert prediction.volatility is not None
    assert prediction.interval_level == 0.9
    assert prediction.price_lower is not None
    assert prediction.price_upper is not None
    assert prediction.price_lower < prediction.current_price < prediction.price_upper


@pytest.mark.parametrize("broken", ["volatility.txt", "volatility.json", "interval.json"])
def test_a_broken_part_is_refused_and_the_last_good_model_stays(
    store: ModelStore, stub_registry: Any, lightgbm_bundle: Bundles, parts: dict[str, bytes], broken: str
) -> None:
    stub_registry.hold(lightgbm_bundle(), 1)
    store.refresh()
    stub_registry.hold(lightgbm_bundle().with_parts({**parts, broken: b"{}"}), 2)
    store.refresh()
    assert version_of(store) == 1
    assert "Version 2 is not served" in str(store.status.problem)


def test_a_model_of_barriers_is_not_served_as_a_forecast_of_direction(
    store: ModelStore, stub_registry: Any, lightgbm_bundle: Bundles
) -> None:
    stub_registry.hold(lightgbm_bundle(), 1)
    store.refresh()
    barriers = TripleBarrierLabel(max_bars=lightgbm_bundle().manifest.horizon_bars)
    stub_registry.hold(lightgbm_bundle(triple_barrier=barriers), 2)
    store.refresh()
    assert version_of(store) == 1
    assert "would not mean what engines take it for" in str(store.status.problem)


def test_looking_again_changes_nothing(store: ModelStore, stub_registry: Any, lightgbm_bundle: Bundles) -> None:
    stub_registry.hold(lightgbm_bundle())
    store.refresh()
    before = store.served
    store.refresh()
    assert store.served is before
    assert (store.swaps, stub_registry.downloads) == (1, 1)


def test_a_tag_that_changes_is_followed_without_a_swap(
    store: ModelStore, stub_registry: Any, lightgbm_bundle: Bundles
) -> None:
    stub_registry.hold(lightgbm_bundle())
    store.refresh()
    before = store.served
    stub_registry.hold(lightgbm_bundle(), tags={"tradable": "false", "reasons": '["withdrawn"]'})
    store.refresh()
    assert before is not None
    assert store.served is not None
    assert (store.served.tradable, store.served.reasons) == (False, ("withdrawn",))
    assert store.served.bundle is before.bundle
    assert (store.served.loaded_at_ms, store.swaps) == (before.loaded_at_ms, 1)


def test_the_last_good_model_stays_when_the_registry_goes(
    store: ModelStore, stub_registry: Any, lightgbm_bundle: Bundles
) -> None:
    stub_registry.hold(lightgbm_bundle())
    store.refresh()
    contact = store.status.last_contact
    stub_registry.failure = "gone"
    store.refresh()
    assert version_of(store) == 1
    assert (store.status.registry_reachable, store.status.problem) == (False, "gone")
    assert store.status.last_contact == contact


def test_the_last_good_model_stays_when_the_alias_goes(
    store: ModelStore, stub_registry: Any, lightgbm_bundle: Bundles
) -> None:
    stub_registry.hold(lightgbm_bundle())
    store.refresh()
    stub_registry.record = None
    store.refresh()
    assert version_of(store) == 1
    assert store.status.registry_reachable
    assert "alias 'champion'" in str(store.status.problem)


def test_a_restart_without_the_registry_serves_the_last_good_model(
    model_store: Stores, stub_registry: Any, lightgbm_bundle: Bundles
) -> None:
    stub_registry.hold(lightgbm_bundle(), 4, {"tradable": "false", "reasons": '["why"]'})
    model_store().refresh()

    stub_registry.failure = "gone"
    restarted = model_store()
    restarted.refresh()
    assert restarted.served is not None
    assert (restarted.served.version, restarted.served.from_cache) == (4, True)
    assert (restarted.served.tradable, restarted.served.reasons) == (False, ("why",))

    stub_registry.failure = None
    restarted.refresh()
    assert (restarted.served.from_cache, restarted.status.problem) == (False, None)
    assert (restarted.swaps, stub_registry.downloads) == (1, 1)


def test_a_registry_that_answers_without_a_champion_is_believed_over_the_cache(
    model_store: Stores, stub_registry: Any, lightgbm_bundle: Bundles
) -> None:
    stub_registry.hold(lightgbm_bundle())
    model_store().refresh()
    stub_registry.record = None
    restarted = model_store()
    restarted.refresh()
    assert restarted.served is None


def test_an_altered_cache_is_refused_and_says_so(
    model_store: Stores, stub_registry: Any, lightgbm_bundle: Bundles, settings: ServingSettings
) -> None:
    stub_registry.hold(lightgbm_bundle())
    model_store().refresh()
    booster = settings.folders.root / "serving" / "models" / stub_registry.record.key / "booster.txt"
    booster.write_text(booster.read_text().replace("leaf_value=", "leaf_value=1", 1))

    stub_registry.failure = "gone"
    restarted = model_store()
    restarted.refresh()
    assert restarted.served is None
    assert "gone" in str(restarted.status.problem)
    assert "booster.txt was altered" in str(restarted.status.problem)


def test_a_version_that_cannot_be_served_leaves_the_model_and_is_not_fetched_again_at_once(
    store: ModelStore, stub_registry: Any, lightgbm_bundle: Bundles
) -> None:
    stub_registry.hold(lightgbm_bundle(), 1)
    store.refresh()
    stub_registry.hold(lightgbm_bundle(model_name="another"), 2)
    for _ in range(3):
        store.refresh()
    assert version_of(store) == 1
    assert "Version 2 is not served" in str(store.status.problem)
    assert "'another'" in str(store.status.problem)
    assert stub_registry.downloads == 2
    stub_registry.hold(lightgbm_bundle(), 3)
    store.refresh()
    assert version_of(store) == 3


def test_a_first_champion_that_cannot_be_served_leaves_the_one_of_the_last_start(
    model_store: Stores, stub_registry: Any, lightgbm_bundle: Bundles
) -> None:
    stub_registry.hold(lightgbm_bundle(), 1)
    model_store().refresh()
    stub_registry.hold(lightgbm_bundle(model_name="another"), 2)
    restarted = model_store()
    restarted.refresh()
    assert version_of(restarted) == 1
    assert restarted.status.registry_reachable


def test_a_cache_that_cannot_be_written_is_reported_and_serving_goes_on(
    store: ModelStore, stub_registry: Any, lightgbm_bundle: Bundles, settings: ServingSettings
) -> None:
    stub_registry.hold(lightgbm_bundle())
    pointer = settings.folders.root / "serving" / "current.json"
    pointer.mkdir(parents=True)
    store.refresh()
    assert version_of(store) == 1
    assert store.status.problem is None
    assert "current.json" in str(store.status.cache_problem)

    pointer.rmdir()
    store.refresh()
    assert store.status.cache_problem is None
    assert pointer.is_file()


def test_an_unforeseen_failure_does_not_end_the_thread(
    store: ModelStore,
    stub_registry: Any,
    lightgbm_bundle: Bundles,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[[Callable[[], bool]], None],
) -> None:
    calls: list[str] = []

    def fails_once(name: str) -> Any:
        calls.append(name)
        if len(calls) == 1:
            raise TypeError("a defect")
        return stub_registry.record

    stub_registry.hold(lightgbm_bundle())
    monkeypatch.setattr(stub_registry, "champion", fails_once)
    monkeypatch.setattr(store, "_poll_seconds", 0.01)
    store.start()
    try:
        eventually(lambda: store.served is not None)
    finally:
        store.stop()
