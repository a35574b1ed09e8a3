"""The registry of a home on this machine, read from MLflow's database and folders without loading MLflow.

MLflow's client for databases takes seconds to load and more memory than the rest of the API. It is still asked about a
database of a revision that is not known, about files that are elsewhere, and about every registry behind HTTP.
"""

import shutil
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from levibot_core.errors import RegistryError
from levibot_core.registry.alias_database import AliasDatabase, is_known
from levibot_core.registry.versions import CHALLENGER, CHAMPION, RegisteredVersion
from levibot_core.stores.paths import Home
from levibot_serving.config import ServingSettings
from levibot_serving.registry import MlflowRegistry, ModelRecord, ModelRegistry


class HomeRegistry:
    """Reads the home's own database where it is known, and asks MLflow else."""

    def __init__(self, home: Home, mlflow: MlflowRegistry) -> None:
        self._home = home
        self._mlflow = mlflow

    def champion(self, name: str) -> ModelRecord | None:
        """See `ModelRegistry.champion`."""
        return self._by_alias(name, CHAMPION) if self._known else self._mlflow.champion(name)

    def challenger(self, name: str) -> ModelRecord | None:
        """See `ModelRegistry.challenger`."""
        return self._by_alias(name, CHALLENGER) if self._known else self._mlflow.challenger(name)

    def record_of(self, name: str, version: int) -> ModelRecord:
        """See `ModelRegistry.record_of`."""
        if not self._known:
            return self._mlflow.record_of(name, version)
        database = AliasDatabase(self._home, name)
        return _record(database, database.version(version))

    def download(self, record: ModelRecord, folder: Path) -> None:
        """See `ModelRegistry.download`."""
        files = self._files_of(record) if self._known else None
        if files is None:
            self._mlflow.download(record, folder)
            return
        try:
            shutil.copytree(files, folder, dirs_exist_ok=True)
        except (OSError, shutil.Error) as error:
            raise RegistryError(
                f"Expected to copy version {record.version} from {files}, but {error}. Make sure that the folder can "
                "be read and that the home's device has space."
            ) from error

    @property
    def _known(self) -> bool:
        return is_known(self._home.mlflow_database)

    def _by_alias(self, name: str, alias: str) -> ModelRecord | None:
        database = AliasDatabase(self._home, name)
        found = database.by_alias(alias)
        return None if found is None else _record(database, found)

    def _files_of(self, record: ModelRecord) -> Path | None:
        """The folder of a version; None where it is not one of this machine."""
        location = urlsplit(AliasDatabase(self._home, record.name).origin(record.version).location)
        if location.scheme not in ("", "file") or location.netloc not in ("", "localhost"):
            return None
        folder = Path(url2pathname(location.path))
        return folder if folder.is_dir() else None


def open_registry(settings: ServingSettings) -> ModelRegistry:
    """The registry of the settings; nothing is asked or loaded yet."""
    mlflow = MlflowRegistry(settings.tracking_uri, settings.registry_timeout_seconds)
    home = settings.folders
    return HomeRegistry(home, mlflow) if settings.tracking_uri == home.tracking_uri else mlflow


def _record(database: AliasDatabase, version: RegisteredVersion) -> ModelRecord:
    origin = database.origin(version.version)
    return ModelRecord(
        name=database.model_name,
        version=version.version,
        created_ms=origin.created_ms,
        source=origin.source,
        aliases=version.aliases,
        tags=dict(version.tags),
    )
