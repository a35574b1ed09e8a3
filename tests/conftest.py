"""Fixtures shared by every tier, and the rule that keeps cheap tests cheap.

Tiers by cost: `unit` (the core, no orchestrator, no registry, no server), `dagster` (definitions, checks, sensors),
`serving` (the API), `integration` (servers, whole runs).
"""

import os
import shutil
from pathlib import Path

import pytest

from levibot_core.stores.paths import Home

_EXPENSIVE_FIXTURES = frozenset({"migrated_registry", "registry_home"})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a unit test that asks for an expensive fixture: it would slow the tier that people run all day."""
    for item in items:
        expensive = _EXPENSIVE_FIXTURES & set(getattr(item, "fixturenames", ()))
        if expensive and "unit" in item.path.parts:
            raise pytest.UsageError(
                f"{item.nodeid} is in tests/unit but uses {', '.join(sorted(expensive))}. Move it to tests/integration."
            )


@pytest.fixture(autouse=True)
def _isolated_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads the settings of the person who runs it, and MLflow tells nobody."""
    for name in list(os.environ):
        if name.startswith("LEVIBOT_") and name != "LEVIBOT_MARKET_DATA":
            monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("DO_NOT_TRACK", "true")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A new, empty home."""
    return Home.at(tmp_path / "home").create()


@pytest.fixture(scope="session")
def market_data() -> Path:
    """The folder of recorded market data, or a skip that says why."""
    folder = os.environ.get("LEVIBOT_MARKET_DATA")
    if not folder:
        pytest.skip("LEVIBOT_MARKET_DATA is not set: tests on recorded candles need it")
    return Path(folder)


@pytest.fixture(scope="session")
def migrated_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables, made once: the migrations take eight seconds."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def registry_home(home: Home, migrated_registry: Path) -> Home:
    """A new home whose registry is ready to use."""
    shutil.copy(migrated_registry, home.mlflow / "mlflow.db")
    return home
