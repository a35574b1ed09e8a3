"""The code location, loaded once per test session against an empty home."""

import warnings
from collections.abc import Iterator

import dagster as dg
import pytest

from levibot_core.stores.paths import Home


@pytest.fixture(scope="session")
def definitions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.Definitions]:
    """Everything the code location holds."""
    from levibot_pipelines.definitions import defs

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setenv("LEVIBOT_HOME", str(tmp_path_factory.mktemp("definitions") / "home"))
        # Dagster's own marks on features that are used on purpose; see levibot_pipelines.definitions.
        warnings.simplefilter("ignore")
        yield defs()


@pytest.fixture
def simulated_home(home: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    """An empty home on the simulated market, as the environment of the test names it."""
    monkeypatch.setenv("LEVIBOT_HOME", str(home.root))
    monkeypatch.setenv("LEVIBOT_SOURCE", "simulated")
    return home
