"""Fixtures of the tests that talk to real servers on 127.0.0.1."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from levibot_core.stores.online import FeatureVector


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


@pytest.fixture
def run_levibot(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs the command in this process: exit code, what it printed as its result, and its messages on one line."""
    from levibot_pipelines.cli.main import main

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["levibot", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        shown = capsys.readouterr()
        return int(caught.value.code or 0), shown.out, " ".join(shown.err.split())

    return run


@pytest.fixture(scope="session")
def exchange_fixtures(market_data: Path) -> Path:
    """The folder of recorded REST bodies beside the market data, or a skip that says why."""
    folder = market_data.parent / "exchange_fixtures"
    if not folder.is_dir():
        pytest.skip(f"{folder} does not exist: recorded REST bodies are needed to check the replay against")
    return folder


@pytest.fixture(scope="session")
def vector() -> Callable[..., FeatureVector]:
    """Makes a whole vector of a recorded market; keyword arguments replace parts of it."""

    def make(symbol: str = "BTC/USDT", ts_ms: int = 1_000, value: float = 0.5, **changes: object) -> FeatureVector:
        fields: dict[str, object] = {
            "symbol": symbol,
            "ts_ms": ts_ms,
            "known_at_ms": ts_ms + 300_000,
            "feature_set": "v1",
            "source_kind": "recorded",
            "close": 93_576.0,
            "values": {"a": value, "b": -1.25e-7},
        }
        return FeatureVector(**(fields | changes))  # type: ignore[arg-type]

    return make
