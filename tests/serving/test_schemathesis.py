"""What the OpenAPI promises, held against a real server by a tool that has never seen it."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx

from levibot_core.models.bundle import ModelBundle
from levibot_core.stores.online import FeatureVector, SqliteOnlineStore
from levibot_core.stores.paths import Home
from levibot_serving.config import load_serving_settings

_EXAMPLES = "6"
"""Per operation; a person who wants to know more asks for more, see docs/api.md."""


def test_no_request_that_a_machine_thinks_of_breaks_the_api_or_is_answered_otherwise_than_it_says(
    registry: Any,
    home: Home,
    lightgbm_bundle: Callable[..., ModelBundle],
    features: SqliteOnlineStore,
    vector: Callable[..., FeatureVector],
    dagster: Any,
    serve: Callable[..., AbstractContextManager[httpx.Client]],
    eventually: Callable[..., None],
    tmp_path: Path,
) -> None:
    features.put([vector(), vector(symbol="ETH/USDT")])
    registry.register(lightgbm_bundle())
    generous = dict.fromkeys(("predict_per_minute", "login_attempts_per_minute"), 1_000_000)
    settings = load_serving_settings(home=home.root, dagster_url=dagster.url, **generous)
    with serve(settings, role="admin") as client:
        eventually(lambda: client.get("/readyz").status_code == 200)
        command = [
            *(str(Path(sys.executable).with_name("schemathesis")), "run", f"{client.base_url}/openapi.json"),
            *("--header", f"Authorization: {client.headers['Authorization']}"),
            # It never ends, and to sign out ends what the others are asked with.
            *("--exclude-path", "/stream/predictions", "--exclude-path", "/auth/logout"),
            *("--max-examples", _EXAMPLES, "--seed", "1", "--checks", "all", "--warnings", "off", "--no-color"),
            # No schema says which of the models answers, or that a text may not be of blanks alone.
            *("--exclude-checks", "positive_data_acceptance"),
        ]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout[-20000:] + ended.stderr[-2000:]
