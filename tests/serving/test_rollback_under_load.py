"""A rollback and a promotion by the command of another process, while engines ask a real server without pause."""

import json
import os
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
from levibot_core.registry.alias_database import AliasDatabase
from levibot_core.registry.champions import champions, promote
from levibot_core.registry.versions import CANDIDATE_TAG
from levibot_core.stores.online import FeatureVector, SqliteOnlineStore
from levibot_core.stores.paths import Home
from levibot_serving.config import load_serving_settings

_ROOT = Path(__file__).resolve().parents[2]

# MLflow 3.17 maps its tables with what SQLAlchemy 2.1 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")


def _levibot(home: Home, *arguments: str) -> dict[str, Any]:
    ended = subprocess.run(
        [sys.executable, "-m", "levibot_pipelines.cli", "models", *arguments, "--reason", "a test", "--json"],
        cwd=_ROOT,
        env={**os.environ, "LEVIBOT_HOME": str(home.root)},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def test_no_request_fails_while_another_process_rolls_back_and_promotes(
    registry: Any,
    home: Home,
    lightgbm_bundle: Callable[..., ModelBundle],
    features: SqliteOnlineStore,
    vector: Callable[..., FeatureVector],
    serve: Callable[..., AbstractContextManager[httpx.Client]],
    eventually: Callable[..., None],
) -> None:
    features.put([vector()])
    database = AliasDatabase(home, "levibot-5m-h12")
    for seed in (7, 8):
        promote(database, registry.register(lightgbm_bundle(seed=seed), promote=False), "ada", "a first one")
    database.annotate(2, {CANDIDATE_TAG: "it dropped"})
    answers: list[int | str] = []
    stop = threading.Event()

    def ask(engine: httpx.Client) -> None:
        with httpx.Client(base_url=engine.base_url, headers=engine.headers, timeout=10) as client:
            while not stop.wait(0.01):
                response = client.get("/ai/predict", params={"symbol": "BTCUSDT"})
                answers.append(response.json()["model_version"] if response.is_success else response.text)

    settings = load_serving_settings(home=home.root, engine_predict_per_minute=100_000)
    with serve(settings, role="service") as client:
        eventually(lambda: client.get("/readyz").status_code == 200)
        engines = [threading.Thread(target=ask, args=(client,)) for _ in range(3)]
        for engine in engines:
            engine.start()
        try:
            eventually(lambda: answers[-1:] == [2])
            rolled_back = _levibot(home, "rollback")
            eventually(lambda: answers[-1:] == [1])
            promoted = _levibot(home, "promote", "2", "--force")
            eventually(lambda: answers[-1:] == [2])
        finally:
            stop.set()
            for engine in engines:
                engine.join()
    assert (rolled_back["champion"], rolled_back["was_rollback_candidate"]) == (1, "it dropped")
    assert (promoted["champion"], promoted["replaced"]) == (2, 1)
    assert champions(database) == [1, 2]
    assert set(answers) == {1, 2}
