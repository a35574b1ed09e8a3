"""Fixtures of the tests that talk to real servers on 127.0.0.1."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def replay() -> ModuleType:
    """The module `replay_exchange`, which is not importable by name: test folders are no packages."""
    name = "levibot_replay_exchange"
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("replay_exchange.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def exchange_fixtures(market_data: Path) -> Path:
    """The folder of recorded REST bodies beside the market data, or a skip that says why."""
    folder = market_data.parent / "exchange_fixtures"
    if not folder.is_dir():
        pytest.skip(f"{folder} does not exist: recorded REST bodies are needed to check the replay against")
    return folder
