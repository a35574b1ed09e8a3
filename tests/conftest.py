"""Fixtures shared by every tier: isolated homes and the folder of recorded market data."""

import os
from pathlib import Path

import pytest

from levibot_core.stores.paths import Home


@pytest.fixture(autouse=True)
def _isolated_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads the settings of the person who runs it."""
    for name in list(os.environ):
        if name.startswith("LEVIBOT_") and name != "LEVIBOT_MARKET_DATA":
            monkeypatch.delenv(name)


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
