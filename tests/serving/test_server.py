"""The whole thing: a real server that follows a real registry while it is asked without pause."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

from levibot_core.models.bundle import ModelBundle
from levibot_core.stores.online import FeatureVector, SqliteOnlineStore
from levibot_core.stores.paths import Home
from levibot_serving.config import ServingSettings, load_serving_settings
from levibot_serving.feature_reader import FeatureReader

Bundles = Callable[..., ModelBundle]
Eventually = Callable[..., None]
Serve = Callable[[ServingSettings], AbstractContextManager[httpx.Client]]
Vector = Callable[..., FeatureVector]

# MLflow 3.17 maps its tables with what SQLAlchemy 2.1 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")


class Engine:
    """Asks for predictions as fast as it can, on one connection, and remembers every answer."""

    def __init__(self, address: httpx.URL) -> None:
        self._address = address
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.versions: list[int] = []
        self.failures: list[str] = []

    def __enter__(self) -> "Engine":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        with httpx.Client(base_url=self._address, timeout=10) as client:
            while not self._stop.is_set():
                try:
                    response = client.get("/ai/predict", params={"symbol": "BTCUSDT"})
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))
                    continue
                if response.status_code == 200:
                    self.versions.append(response.json()["model_version"])
                else:
                    self.failures.append(response.text)


def version_served(client: httpx.Client) -> int | None:
    response = client.get("/readyz")
    return int(response.json()["version"]) if response.status_code == 200 else None


def test_a_promotion_under_load_is_followed_within_five_seconds_and_drops_no_request(
    registry: Any,
    home: Home,
    lightgbm_bundle: Bundles,
    features: SqliteOnlineStore,
    vector: Vector,
    serve: Serve,
    eventually: Eventually,
) -> None:
    features.put([vector()])
    registry.register(lightgbm_bundle())
    second = registry.register(lightgbm_bundle(seed=8), promote=False)
    with serve(load_serving_settings(home=home.root)) as client:  # polls as often as it does for users
        eventually(lambda: version_served(client) == 1)
        with Engine(client.base_url) as one, Engine(client.base_url) as two:
            eventually(lambda: len(one.versions) > 50 and len(two.versions) > 50)
            registry.promote(second)
            eventually(lambda: one.versions[-1] == two.versions[-1] == 2, seconds=5.0)
            registry.promote(1)
            eventually(lambda: one.versions[-1] == two.versions[-1] == 1, seconds=5.0)
    for engine in (one, two):
        assert engine.failures == []
        assert sorted(set(engine.versions)) == [1, 2]


def test_the_last_good_model_is_served_while_the_registry_is_gone_and_after_a_restart(
    registry: Any,
    settings: ServingSettings,
    lightgbm_bundle: Bundles,
    features: SqliteOnlineStore,
    vector: Vector,
    serve: Serve,
    eventually: Eventually,
) -> None:
    features.put([vector()])
    registry.register(lightgbm_bundle())
    away = registry.database.with_suffix(".away")

    def reachable(client: httpx.Client) -> bool:
        return bool(client.get("/ai/models").json().get("registry", {}).get("reachable"))

    with serve(settings) as client:
        eventually(lambda: version_served(client) == 1)
        # A model is served a moment before the state of the registry is told.
        eventually(lambda: reachable(client))
        registry.database.rename(away)
        eventually(lambda: not reachable(client))
        prediction = client.get("/ai/predict", params={"symbol": "BTCUSDT"}).json()
        assert (prediction["model_version"], prediction["tradable"]) == (1, True)
        assert "registry" in prediction["note"]

    with serve(settings) as client:
        eventually(lambda: version_served(client) == 1)
        models = client.get("/ai/models").json()
        assert models["meta"][models["current"]]["from_cache"] is True
        assert models["registry"]["last_contact_age_s"] is None
        assert client.get("/ai/predict", params={"symbol": "BTCUSDT"}).status_code == 200

        away.rename(registry.database)
        eventually(lambda: reachable(client))
        models = client.get("/ai/models").json()
        assert models["meta"][models["current"]]["from_cache"] is False


def test_an_altered_cache_is_refused_at_a_restart_without_the_registry(
    registry: Any,
    settings: ServingSettings,
    lightgbm_bundle: Bundles,
    serve: Serve,
    eventually: Eventually,
    error_of: Callable[[httpx.Response], dict[str, Any]],
) -> None:
    registry.register(lightgbm_bundle())
    with serve(settings) as client:
        eventually(lambda: (settings.folders.root / "serving" / "current.json").is_file())
    registry.database.unlink()
    booster = next((settings.folders.root / "serving" / "models").rglob("booster.txt"))
    booster.write_bytes(booster.read_bytes()[:-1])
    with serve(settings) as client:
        eventually(lambda: "booster.txt was altered" in client.get("/readyz").text)
        response = client.get("/ai/predict", params={"symbol": "BTCUSDT"})
        assert response.status_code == 503
        assert error_of(response)["code"] == "model_not_loaded"


def test_a_champion_altered_in_the_registry_never_serves(
    registry: Any,
    settings: ServingSettings,
    lightgbm_bundle: Bundles,
    serve: Serve,
    eventually: Eventually,
) -> None:
    registry.register(lightgbm_bundle())
    second = registry.register(lightgbm_bundle(seed=8), promote=False)
    booster = registry.files(second) / "booster.txt"
    booster.write_text(booster.read_text().replace("leaf_value=", "leaf_value=1", 1))
    with serve(settings) as client:
        eventually(lambda: version_served(client) == 1)
        registry.promote(second)
        eventually(lambda: "Version 2 is not served" in client.get("/healthz").text)
        assert version_served(client) == 1


def test_a_request_in_flight_is_answered_when_the_server_is_asked_to_stop(
    registry: Any,
    settings: ServingSettings,
    lightgbm_bundle: Bundles,
    features: SqliteOnlineStore,
    vector: Vector,
    serve: Serve,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    features.put([vector()])
    registry.register(lightgbm_bundle())
    began, go_on, read = threading.Event(), threading.Event(), FeatureReader.newest
    answers: list[httpx.Response] = []

    async def slowly(self: FeatureReader, *arguments: Any) -> Any:
        began.set()
        while not go_on.is_set():
            await asyncio.sleep(0.01)
        return await read(self, *arguments)

    def ask(address: httpx.URL) -> None:
        answers.append(httpx.get(address.join("/ai/predict?symbol=BTCUSDT"), timeout=10))

    monkeypatch.setattr(FeatureReader, "newest", slowly)
    with serve(settings) as client:
        eventually(lambda: version_served(client) == 1)
        asking = threading.Thread(target=ask, args=(client.base_url,))
        asking.start()
        assert began.wait(10)
        threading.Timer(0.3, go_on.set).start()
    asking.join(10)
    assert [answer.status_code for answer in answers] == [200]


def test_the_program_starts_in_an_empty_home_and_ends_on_a_signal(tmp_path: Path, eventually: Eventually) -> None:
    log = tmp_path / "log"
    arguments = [sys.executable, "-m", "uvicorn", "levibot_serving.main:app", "--port", "0"]
    environment = {**os.environ, "LEVIBOT_HOME": str(tmp_path / "a home with spaces")}
    with log.open("w") as file:
        process = subprocess.Popen(arguments, stdout=file, stderr=file, env=environment, cwd=tmp_path)
    try:
        eventually(lambda: "Uvicorn running on" in log.read_text(), seconds=30.0)
        found = re.search(r"http://127\.0\.0\.1:\d+", log.read_text())
        assert found is not None
        with httpx.Client(base_url=found[0]) as client:
            assert client.get("/livez").status_code == 200
            eventually(lambda: "make demo" in client.get("/readyz").json()["error"]["message"], seconds=30.0)
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    finally:
        if process.poll() is None:
            process.kill()
    assert "Traceback" not in log.read_text()
    assert not (tmp_path / "a home with spaces").exists()
