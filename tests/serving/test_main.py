import subprocess
import sys
from pathlib import Path

import pytest

from levibot_core.errors import ConfigurationError
from levibot_serving import main
from levibot_serving.config import ServingSettings
from levibot_serving.main import create_app

HEAVY = ["dagster", "torch", "pandas", "evidently", "sklearn", "mlflow", "lightgbm", "matplotlib", "optuna", "scipy"]


def test_importing_the_api_loads_nothing_heavy_and_touches_no_disk(tmp_path: Path) -> None:
    program = (
        "import sys, levibot_serving.main\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "levibot_serving.main.app\n"
        "sys.exit(', '.join(loaded) or 0)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []


def test_the_application_is_made_when_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEVIBOT_HOME", str(tmp_path / "home"))
    assert main.app.title == "LeviBot inference"
    assert not hasattr(main, "application")
    assert list(tmp_path.iterdir()) == []


def test_a_setting_that_cannot_be_used_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEVIBOT_HORIZON_BARS", "many")
    with pytest.raises(ConfigurationError, match="horizon_bars"):
        create_app()


def test_every_endpoint_documents_its_errors_in_the_one_shape(settings: ServingSettings) -> None:
    schema = create_app(settings).openapi()
    assert set(schema["paths"]) == {
        *("/ai/predict", "/ai/predict/batch", "/ai/explain", "/ai/models", "/ai/models/list", "/ai/models/activate"),
        *("/ai/models/rollback", "/ai/select", "/features", "/features/{symbol}", "/analytics/predictions/recent"),
        *("/analytics/deciles", "/ops/signal_log", "/stream/predictions", "/backtest/run", "/backtest/reports"),
        *("/backtest/reports/{id}", "/live/kill", "/live/status", "/livez", "/readyz", "/healthz", "/metrics"),
        *("/auth/login", "/auth/logout", "/auth/me", "/auth/refresh"),
    }
    responses = schema["paths"]["/ai/predict"]["get"]["responses"]
    assert set(responses) == {"200", "400", "401", "403", "404", "422", "429", "503", "504"}
    for status in ("400", "404", "422", "503"):
        assert responses[status]["content"]["application/json"]["schema"]["$ref"].endswith("/ErrorResponse")
    assert "HTTPValidationError" not in schema["components"]["schemas"]
    prediction = schema["components"]["schemas"]["Prediction"]
    assert set(prediction["examples"][0]) <= set(prediction["properties"])
    assert all("description" in field for field in prediction["properties"].values())
