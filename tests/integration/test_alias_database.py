"""Aliases moved in MLflow's database without MLflow: the same as through it, for whoever looks at either."""

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from levibot_core.errors import RegistryError
from levibot_core.registry.alias_database import AliasDatabase, is_known
from levibot_core.registry.champions import champions, promote, roll_back
from levibot_core.registry.versions import CHALLENGER, CHAMPION, PREVIOUS
from levibot_core.stores.paths import Home
from levibot_pipelines.registry import ModelRegistry
from levibot_pipelines.versions import open_versions

NAME = "levibot-5m-h12"
HEAVY = {"dagster", "lightgbm", "matplotlib", "mlflow", "numba", "pandas", "sqlalchemy"}


@pytest.fixture
def registry(registry_home: Home) -> ModelRegistry:
    """Three versions and no alias."""
    registry = ModelRegistry(registry_home, NAME)
    registry.client.create_registered_model(NAME)
    for number in range(1, 4):
        run = registry.start_run(f"run {number}", {})
        source = f"{registry.home.models.as_uri()}/{number}"
        registry.client.create_model_version(NAME, source=source, run_id=run, tags={"family": "lightgbm"})
    return registry


@pytest.fixture
def database(registry: ModelRegistry) -> AliasDatabase:
    return AliasDatabase(registry.home, NAME)


def test_both_see_the_same_versions_whoever_wrote_them(registry: ModelRegistry, database: AliasDatabase) -> None:
    database.point(CHAMPION, 2)
    database.annotate(2, {"state": "promoted", "reasons": '["ü, %"]'})
    registry.point(CHALLENGER, 3)
    registry.annotate(3, {"state": "rolled_back"})
    assert database.versions() == registry.versions()

    database.annotate(2, {"state": "retired"})
    database.point(CHAMPION, 3)
    database.point(CHALLENGER, None)
    database.point(PREVIOUS, None)
    registry.client.delete_model_version(NAME, "1")
    assert [version.version for version in registry.versions()] == [3, 2]
    assert database.versions() == registry.versions()
    assert int(registry.client.get_model_version_by_alias(NAME, CHAMPION).version) == 3


def test_a_promotion_and_a_rollback_are_the_same_through_either(
    registry: ModelRegistry, database: AliasDatabase
) -> None:
    promote(database, 1, "ada", "first")
    promote(registry, 2, "ada", "better")
    promote(database, 3, "ada", "better still")
    assert champions(database) == champions(registry) == [1, 2, 3]

    roll_back(database, "bob", "it loses money")
    roll_back(registry, "bob", "so does this one")
    assert database.versions() == registry.versions()
    assert champions(database) == [1]


def test_what_is_not_there_is_named_and_nothing_is_written(registry: ModelRegistry, database: AliasDatabase) -> None:
    before = registry.versions()
    for attempt in (lambda: database.point(CHAMPION, 7), lambda: database.annotate(7, {"state": "promoted"})):
        with pytest.raises(RegistryError, match=r"\(3, 2, 1\), was 7"):
            attempt()
    assert registry.versions() == before


def test_a_database_of_another_revision_is_left_to_mlflow(registry: ModelRegistry, tmp_path: Path) -> None:
    home = registry.home
    assert isinstance(open_versions(home, NAME), AliasDatabase)

    with closing(sqlite3.connect(home.mlflow_database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'of tomorrow'")
    assert not is_known(home.mlflow_database)
    assert isinstance(open_versions(home, NAME), ModelRegistry)

    (tmp_path / "text.db").write_text("no database", encoding="utf-8")
    assert not is_known(tmp_path / "text.db")
    assert not is_known(tmp_path / "missing.db")


def test_a_database_that_cannot_be_written_is_an_error_in_words(
    registry: ModelRegistry, database: AliasDatabase
) -> None:
    path = registry.home.mlflow_database
    shutil.copy(path, path.with_suffix(".kept"))
    path.unlink()
    path.mkdir()

    with pytest.raises(RegistryError, match="unable to open"):
        database.point(CHAMPION, None)


def test_a_rollback_by_command_loads_neither_mlflow_nor_what_computes(registry: ModelRegistry) -> None:
    """What makes it quick; how quick it is stands in docs/promotion.md."""
    for version in (1, 2):
        promote(registry, version, "ada", "better")
    code = (
        "import sys; from levibot_pipelines.cli.main import app\n"
        "try: app(['models', 'rollback', '--reason', 'a test'])\n"
        "except SystemExit as ended: assert not ended.code\n"
        f"print(*sorted({HEAVY} & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code],
        env={"LEVIBOT_HOME": str(registry.home.root)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert answer.stdout.splitlines()[-1] == ""
    assert champions(registry) == [1]
