import subprocess
import sys
from pathlib import Path

import pytest

from levibot_core.config import Settings, load_settings
from levibot_core.errors import ConfigurationError, MarketDataUnavailableError
from levibot_core.market.sources import open_source


@pytest.fixture(autouse=True)
def _no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LEVIBOT_MARKET_DATA", raising=False)


def test_recorded_without_a_folder_says_what_to_set() -> None:
    with pytest.raises(ConfigurationError, match="LEVIBOT_SOURCE=recorded expected LEVIBOT_MARKET_DATA"):
        open_source(Settings(source="recorded"))


@pytest.mark.parametrize("source", ["recorded", "auto"])
def test_a_folder_that_is_set_is_used_and_an_empty_one_is_an_error(source: str, tmp_path: Path) -> None:
    with pytest.raises(MarketDataUnavailableError, match="no Parquet file at all"):
        open_source(load_settings(source=source, market_data=tmp_path))


def test_auto_takes_the_recorded_folder_first(market_data: Path) -> None:
    assert open_source(Settings(source="auto", market_data=market_data)).identity.kind == "recorded"


def test_the_simulated_market_takes_seed_and_edge_from_the_settings() -> None:
    identity = open_source(Settings(source="simulated", seed=11, simulated_edge=0.05)).identity

    assert identity.key == "simulated-s11-e0.05"


def test_a_source_nobody_knows_is_refused_by_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEVIBOT_SOURCE", "teapot")

    with pytest.raises(ConfigurationError, match=r"LEVIBOT_SOURCE: .*teapot"):
        load_settings()


def test_the_interface_is_imported_without_ccxt() -> None:
    script = "import sys, levibot_core.market.sources, levibot_core.market.quality; sys.exit('ccxt' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
