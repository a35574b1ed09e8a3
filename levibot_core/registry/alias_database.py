"""The aliases of a registered model in MLflow's SQLite database, moved without loading MLflow.

Loading MLflow and what it needs of SQL takes longer than a rollback may. So the commands that change the champion read
and write three tables themselves, as MLflow's store does: one row per version, per tag and per alias. A database of a
revision that is not known here, a server's, and everything else about models are left to MLflow
(`levibot_pipelines.registry`, `levibot_serving.registered_versions`).
"""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from levibot_core.errors import RegistryError
from levibot_core.registry.versions import RegisteredVersion, RegisteredVersions
from levibot_core.stores.paths import Home

KNOWN_REVISIONS: Final = frozenset({"dc11669786a5"})
"""Revisions of MLflow's schema that this module was tested with; others are left to MLflow."""
_WORKSPACE, _DELETED = "default", "Deleted_Internal"
_PATIENCE_SECONDS = 30.0
_VERSIONS = """
    SELECT version, run_id, creation_time FROM model_versions
    WHERE workspace = ? AND name = ? AND current_stage IS NOT ? ORDER BY version DESC
"""
_TAGS = "SELECT version, key, value FROM model_version_tags WHERE workspace = ? AND name = ?"
_ALIASES = "SELECT version, alias FROM registered_model_aliases WHERE workspace = ? AND name = ? ORDER BY alias"
_ORIGIN = """
    SELECT creation_time, source, storage_location FROM model_versions
    WHERE workspace = ? AND name = ? AND version = ? AND current_stage IS NOT ?
"""
_PUT_TAG = """
    INSERT INTO model_version_tags (workspace, name, version, key, value) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (workspace, key, name, version) DO UPDATE SET value = excluded.value
"""
_PUT_ALIAS = """
    INSERT INTO registered_model_aliases (workspace, name, alias, version) VALUES (?, ?, ?, ?)
    ON CONFLICT (workspace, name, alias) DO UPDATE SET version = excluded.version
"""
_TAKE_ALIAS = "DELETE FROM registered_model_aliases WHERE workspace = ? AND name = ? AND alias = ?"


def is_known(database: Path) -> bool:
    """Whether a file is MLflow's database, in a revision that this module was tested with."""
    if not database.is_file():
        return False
    try:
        with closing(sqlite3.connect(database, timeout=_PATIENCE_SECONDS)) as connection:
            found = {str(row[0]) for row in connection.execute("SELECT version_num FROM alembic_version")}
    except sqlite3.DatabaseError:
        return False
    return bool(found) and found <= KNOWN_REVISIONS


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a version came from.

    Attributes:
        created_ms: When it was registered, UTC milliseconds.
        source: As it was registered, such as `models:/m-…`.
        location: The address of its files.
    """

    created_ms: int
    source: str
    location: str


class AliasDatabase(RegisteredVersions):
    """The versions and aliases of one registered model, in a database that `is_known`."""

    def __init__(self, home: Home, model_name: str) -> None:
        self.home = home
        self.model_name = model_name

    def versions(self) -> list[RegisteredVersion]:
        """See `RegisteredVersions.versions`."""
        of_model = (_WORKSPACE, self.model_name)
        tags: dict[int, dict[str, str]] = {}
        aliases: dict[int, tuple[str, ...]] = {}
        with self._connected() as connection:
            rows = connection.execute(_VERSIONS, (*of_model, _DELETED)).fetchall()
            for version, key, value in connection.execute(_TAGS, of_model):
                tags.setdefault(version, {})[key] = value
            for version, alias in connection.execute(_ALIASES, of_model):
                aliases[version] = (*aliases.get(version, ()), alias)
        return [
            RegisteredVersion(
                version=version,
                run_id=str(run_id),
                aliases=aliases.get(version, ()),
                tags=tags.get(version, {}),
                created_at=datetime.fromtimestamp(created_ms / 1000, UTC),
            )
            for version, run_id, created_ms in rows
        ]

    def origin(self, version: int) -> Origin:
        """Where a version came from.

        Raises:
            RegistryError: there is no such version, or the database cannot be read.
        """
        with self._connected() as connection:
            row = connection.execute(_ORIGIN, (_WORKSPACE, self.model_name, version, _DELETED)).fetchone()
        if row is None:
            raise RegistryError(f"Expected a version {version} of {self.model_name}, was none. See the list of models.")
        created_ms, source, location = row
        return Origin(int(created_ms), str(source), str(location or source))

    def annotate(self, version: int, tags: Mapping[str, str]) -> None:
        """See `RegisteredVersions.annotate`; all tags or none.

        Raises:
            RegistryError: there is no such version, or the database cannot be written.
        """
        self.version(version)
        with self._connected() as connection:
            rows = [(_WORKSPACE, self.model_name, version, key, value) for key, value in tags.items()]
            connection.executemany(_PUT_TAG, rows)

    def point(self, alias: str, version: int | None) -> None:
        """See `RegisteredVersions.point`.

        Raises:
            RegistryError: there is no such version, or the database cannot be written.
        """
        if version is not None:
            self.version(version)
        with self._connected() as connection:
            if version is None:
                connection.execute(_TAKE_ALIAS, (_WORKSPACE, self.model_name, alias))
            else:
                connection.execute(_PUT_ALIAS, (_WORKSPACE, self.model_name, alias, version))

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """One transaction, given up whole when anything fails."""
        try:
            with (
                closing(sqlite3.connect(self.home.mlflow_database, timeout=_PATIENCE_SECONDS)) as connection,
                connection,
            ):
                yield connection
        except sqlite3.Error as error:
            raise RegistryError(
                f"Expected to read and write {self.home.mlflow_database}, but {error}. Make sure that its device works "
                "and has space and that nothing holds the file, then run the command again."
            ) from error
