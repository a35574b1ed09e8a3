"""The whole thing: a real server that follows a real registry while it is asked without pause."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import pairwise
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

JUDGED = {
    "tradable": "true",
    "reasons": "[]",
    "gates": json.dumps([{"gate": "latency", "passed": True, "found": "p95 0.2 ms", "required": "at most 80 ms"}]),
}


class Engine:
    """Asks for predictions as fast as it can, on one connection, and remembers every answer."""

    def __init__(self, like: httpx.Client) -> None:
        self._address, self._headers = like.base_url, like.headers
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
        with httpx.Client(base_url=self._address, headers=self._headers, timeout=10) as client:
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


def test_a_promotion_and_a_rollback_under_load_are_followed_within_five_seconds_and_drop_no_request(
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
    second = registry.register(lightgbm_bundle(seed=8), JUDGED, promote=False)
    # Polls as often as it does for users; asked more often than any of them may.
    with serve(load_serving_settings(home=home.root, predict_per_minute=10_000_000), role="admin") as client:
        eventually(lambda: version_served(client) == 1)
        with Engine(client) as one, Engine(client) as two:
            eventually(lambda: len(one.versions) > 50 and len(two.versions) > 50)
            activated = client.post("/ai/models/activate", json={"version": second, "reason": "better"})
            assert activated.status_code == 200, activated.text
            eventually(lambda: one.versions[-1] == two.versions[-1] == 2, seconds=5.0)
            rolled_back = client.post("/ai/models/rollback", json={"reason": "worse"})
            assert rolled_back.json()["champion"] == 1, rolled_back.text
            eventually(lambda: one.versions[-1] == two.versions[-1] == 1, seconds=5.0)
    for engine in (one, two):
        assert engine.failures == []
        assert sorted(set(engine.versions)) == [1, 2]
        swaps = [pair for pair in pairwise(engine.versions) if pair[0] != pair[1]]
        assert swaps == [(1, 2), (2, 1)]


def test_a_restart_beside_a_registry_that_hangs_serves_the_last_good_model(
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
    with serve(settings) as client:
        eventually(lambda: (settings.folders.root / "serving" / "current.json").is_file())
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and never says a word
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with serve(settings.model_copy(update={"mlflow_tracking_uri": address})) as client:
            eventually(lambda: version_served(client) == 1)
            prediction = client.get("/ai/predict", params={"symbol": "BTCUSDT"}).json()
            assert (prediction["model_version"], prediction["prob_up"] > 0.5) == (1, True)
            assert "has not answered since this process started" in prediction["note"]


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

    def ask(like: httpx.Client) -> None:
        address = like.base_url.join("/ai/predict?symbol=BTCUSDT")
        answers.append(httpx.get(address, headers=like.headers, timeout=10))

    monkeypatch.setattr(FeatureReader, "newest", slowly)
    with serve(settings) as client:
        eventually(lambda: version_served(client) == 1)
        asking = threading.Thread(target=ask, args=(client,))
        asking.start()
        assert began.wait(10)
        threading.Timer(0.3, go_on.set).start()
    asking.join(10)
    assert [answer.status_code for answer in answers] == [200]


def test_the_program_starts_in_an_empty_home_and_ends_on_a_signal(
    tmp_path: Path, visitors: Any, eventually: Eventually
) -> None:
    log, home = tmp_path / "log", Home.at(tmp_path / "a home with spaces")
    arguments = [sys.executable, "-m", "uvicorn", "levibot_serving.main:app", "--port", "0"]
    environment = {**os.environ, "LEVIBOT_HOME": str(home.root)}
    with log.open("w") as file:
        process = subprocess.Popen(arguments, stdout=file, stderr=file, env=environment, cwd=tmp_path)
    try:
        eventually(lambda: "Uvicorn running on" in log.read_text(), seconds=30.0)
        found = re.search(r"http://127\.0\.0\.1:\d+", log.read_text())
        assert found is not None
        with httpx.Client(base_url=found[0], headers=visitors.headers("viewer")) as client:
            assert client.get("/livez").status_code == 200
            eventually(lambda: "make demo" in client.get("/readyz").json()["error"]["message"], seconds=30.0)
            assert not home.root.exists()
            visitors.move_in(home)
            eventually(lambda: client.get("/ai/models").status_code == 503)
            with client.stream("GET", "/stream/predictions") as stream:
                lines = stream.iter_lines()
                assert next(lines) == ": heartbeat"
                process.send_signal(signal.SIGTERM)
                assert list(lines) == [""]  # a stream without end does not keep the program from ending
        process.wait(30)
    finally:
        if process.poll() is None:
            process.kill()
    assert "Traceback" not in log.read_text()
