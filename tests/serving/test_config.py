from pathlib import Path

import pytest

from levibot_core.errors import ConfigurationError
from levibot_serving.config import load_serving_settings


def test_the_registry_is_the_homes_own_unless_mlflow_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEVIBOT_HOME", str(tmp_path))
    assert load_serving_settings().tracking_uri == f"sqlite:///{tmp_path / 'mlflow' / 'mlflow.db'}"

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert load_serving_settings().tracking_uri == "http://127.0.0.1:5000"


def test_the_served_model_follows_the_shared_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEVIBOT_TIMEFRAME", "1h")
    monkeypatch.setenv("LEVIBOT_HORIZON_BARS", "4")
    assert load_serving_settings().model_name == "levibot-1h-h4"


def test_a_keyword_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEVIBOT_REGISTRY_POLL_SECONDS", "9")
    assert load_serving_settings(registry_poll_seconds=1.5).registry_poll_seconds == 1.5
    assert load_serving_settings(registry_poll_seconds=None).registry_poll_seconds == 9.0


def test_a_value_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEVIBOT_REGISTRY_POLL_SECONDS", "never")
    with pytest.raises(ConfigurationError, match=r"registry_poll_seconds.*'never'"):
        load_serving_settings()
