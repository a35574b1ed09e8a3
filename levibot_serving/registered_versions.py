"""Registered versions behind an MLflow client, and how the API opens those of its registry.

MLflow is imported when something is asked, as in `levibot_serving.registry`. Who may become champion, and in which
order aliases move, is decided in `levibot_core.registry.champions`.
"""

from abc import abstractmethod
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from levibot_core.registry.alias_database import AliasDatabase, is_known
from levibot_core.registry.versions import RegisteredVersion, RegisteredVersions
from levibot_core.stores.paths import Home
from levibot_serving.config import ServingSettings
from levibot_serving.registry import MlflowRegistry

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


class MlflowVersions(RegisteredVersions):
    """The versions of one registered model, through the client that a subclass has."""

    @property
    @abstractmethod
    def _client(self) -> "MlflowClient":
        """What asks MLflow."""

    def annotate(self, version: int, tags: Mapping[str, str]) -> None:
        """See `RegisteredVersions.annotate`."""
        for name, value in tags.items():
            self._client.set_model_version_tag(self.model_name, str(version), name, value)

    def versions(self) -> list[RegisteredVersion]:
        """See `RegisteredVersions.versions`."""
        found = self._client.search_model_versions(f"name = '{self.model_name}'")
        aliases = self._aliases()
        return sorted((_registered(item, aliases) for item in found), key=lambda item: -item.version)

    def point(self, alias: str, version: int | None) -> None:
        """See `RegisteredVersions.point`."""
        if version is None:
            self._client.delete_registered_model_alias(self.model_name, alias)
        else:
            self._client.set_registered_model_alias(self.model_name, alias, str(version))

    def _aliases(self) -> dict[int, tuple[str, ...]]:
        from mlflow.exceptions import MlflowException

        try:
            registered = self._client.get_registered_model(self.model_name)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return {}
            raise
        by_version: dict[int, tuple[str, ...]] = {}
        for alias, version in registered.aliases.items():
            by_version[int(version)] = (*by_version.get(int(version), ()), alias)
        return by_version


class RegistryVersions(MlflowVersions):
    """The versions in the registry that the API follows; what it raises is a RegistryError that says what to do."""

    def __init__(self, registry: MlflowRegistry, home: Home, model_name: str) -> None:
        self.home = home
        self.model_name = model_name
        self._registry = registry

    @property
    def _client(self) -> "MlflowClient":
        return self._registry.client

    def annotate(self, version: int, tags: Mapping[str, str]) -> None:
        """See `RegisteredVersions.annotate`."""
        with self._registry.asking():
            super().annotate(version, tags)

    def versions(self) -> list[RegisteredVersion]:
        """See `RegisteredVersions.versions`."""
        with self._registry.asking():
            return super().versions()

    def point(self, alias: str, version: int | None) -> None:
        """See `RegisteredVersions.point`."""
        with self._registry.asking():
            super().point(alias, version)


def served_versions(settings: ServingSettings, registry: MlflowRegistry) -> RegisteredVersions:
    """The versions of the model that the API serves: from the home's own database where that is safe, else by MLflow.

    The client alone, as it is installed for serving, reads registries over HTTP and no database.
    """
    home = settings.folders
    if settings.tracking_uri == home.tracking_uri and is_known(home.mlflow_database):
        return AliasDatabase(home, settings.model_name)
    return RegistryVersions(registry, home, settings.model_name)


def _registered(item: "ModelVersion", aliases: Mapping[int, tuple[str, ...]]) -> RegisteredVersion:
    return RegisteredVersion(
        version=int(item.version),
        run_id=str(item.run_id),
        aliases=tuple(sorted(aliases.get(int(item.version), ()))),
        tags=dict(item.tags),
        created_at=datetime.fromtimestamp(item.creation_timestamp / 1000, UTC),
    )
