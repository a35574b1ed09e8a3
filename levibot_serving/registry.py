"""The model registry as serving sees it: which version is the champion, and the files of that version.

MLflow is imported when the registry is first asked, never when this module is: in a full environment it brings
pandas along. What is done with a version is decided in `levibot_serving.model_store`.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict

from levibot_core.errors import RegistryError
from levibot_core.registry.versions import CHALLENGER, CHAMPION
from levibot_core.resilience import CircuitOpenError, Dependency

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

__all__ = ["CHAMPION", "GuardedRegistry", "MlflowRegistry", "ModelRecord", "ModelRegistry"]

_Result = TypeVar("_Result")

_SQLITE = "sqlite:///"
_NO_SUCH_ALIAS = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"})


class ModelRecord(BaseModel):
    """What the registry says about one version of a registered model."""

    model_config = ConfigDict(frozen=True)

    name: str
    version: int
    created_ms: int
    source: str
    aliases: tuple[str, ...]
    tags: dict[str, str]

    @property
    def key(self) -> str:
        """Name for the files of this version, such as `3-5f0c61a2b9de`.

        The version number alone would not do: a registry made anew counts from 1 again.
        """
        identity = f"{self.name}\n{self.version}\n{self.created_ms}\n{self.source}"
        return f"{self.version}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"


class ModelRegistry(Protocol):
    """Where promoted models are found."""

    def champion(self, name: str) -> ModelRecord | None:
        """The version that carries the alias `champion`, or None when the registry has none.

        Raises:
            RegistryError: the registry did not answer.
        """
        ...

    def challenger(self, name: str) -> ModelRecord | None:
        """The version that carries the alias `challenger`, or None.

        Raises:
            RegistryError: the registry did not answer.
        """
        ...

    def record_of(self, name: str, version: int) -> ModelRecord:
        """What the registry says about one version.

        Raises:
            RegistryError: the registry did not answer, or has no such version.
        """
        ...

    def download(self, record: ModelRecord, folder: Path) -> None:
        """Copy every file of the version below `folder`, which exists.

        Raises:
            RegistryError: the registry or its artifact store did not deliver.
        """
        ...


class MlflowRegistry:
    """An MLflow registry in a SQLite file or behind HTTP. Here it is only read.

    The limits on HTTP are MLflow's environment variables, the one way it offers; values set by a person stay.
    """

    def __init__(self, tracking_uri: str, timeout_seconds: int) -> None:
        self._uri = tracking_uri
        self._limits = {
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
            "MLFLOW_HTTP_REQUEST_TIMEOUT": str(timeout_seconds),
            # The next poll is the retry.
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
            # A pooled connection would go on reading a database file that was moved away or restored.
            "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool",
        }

    def champion(self, name: str) -> ModelRecord | None:
        """See `ModelRegistry.champion`."""
        return self._by_alias(name, CHAMPION)

    def challenger(self, name: str) -> ModelRecord | None:
        """See `ModelRegistry.challenger`."""
        return self._by_alias(name, CHALLENGER)

    def record_of(self, name: str, version: int) -> ModelRecord:
        """See `ModelRegistry.record_of`."""
        with self.asking():
            return _record_of(self.client.get_model_version(name, str(version)))

    def _by_alias(self, name: str, alias: str) -> ModelRecord | None:
        with self.asking():
            from mlflow.exceptions import MlflowException

            try:
                return _record_of(self.client.get_model_version_by_alias(name, alias))
            except MlflowException as error:
                if error.error_code in _NO_SUCH_ALIAS:
                    return None
                raise

    def download(self, record: ModelRecord, folder: Path) -> None:
        """See `ModelRegistry.download`."""
        with self.asking():
            from mlflow.artifacts import download_artifacts

            # Not `models:/name/version`: MLflow resolves that against its global registry, not against ours.
            uri = self.client.get_model_version_download_uri(record.name, str(record.version))
            download_artifacts(artifact_uri=uri, dst_path=str(folder), tracking_uri=self._uri)

    @cached_property
    def client(self) -> "MlflowClient":
        """MLflow's client; to be used while `asking`."""
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Set MLflow's limits, and turn whatever the registry raises into one error that says what to do."""
        for name, value in self._limits.items():
            os.environ.setdefault(name, value)
        try:
            self._expect_database()
            yield
        except RegistryError:
            raise
        except Exception as error:
            raise RegistryError(
                f"Expected an answer of the model registry at {self._without_secrets(self._uri)}, "
                f"was {type(error).__name__}: {self._without_secrets(str(error))[:400]}. "
                "Start MLflow, or correct MLFLOW_TRACKING_URI."
            ) from error

    def _without_secrets(self, text: str) -> str:
        """The text on one line, without the user and the password that the address may carry."""
        credentials, at, _ = urlsplit(self._uri).netloc.rpartition("@")
        return " ".join((text.replace(credentials + at, "") if at else text).split())

    def _expect_database(self) -> None:
        """MLflow creates a database that is missing; a reader must not."""
        if not self._uri.startswith(_SQLITE):
            return
        database = Path(self._uri.removeprefix(_SQLITE))
        if not database.is_file():
            raise RegistryError(
                f"Expected the model registry in {database}, but there is no such file. Run `make demo` in this home, "
                "or set LEVIBOT_HOME or MLFLOW_TRACKING_URI."
            )


class GuardedRegistry:
    """A registry behind a circuit: one that is down costs a call every few seconds instead of a wait every time."""

    def __init__(self, registry: ModelRegistry, dependency: Dependency) -> None:
        """The registry; its failures are what the dependency knows as such."""
        self._registry = registry
        self._dependency = dependency

    def champion(self, name: str) -> ModelRecord | None:
        """See `ModelRegistry.champion`."""
        return self._called(lambda: self._registry.champion(name))

    def challenger(self, name: str) -> ModelRecord | None:
        """See `ModelRegistry.challenger`."""
        return self._called(lambda: self._registry.challenger(name))

    def record_of(self, name: str, version: int) -> ModelRecord:
        """See `ModelRegistry.record_of`. Not behind the circuit: a version that is not there is no failure of it."""
        return self._registry.record_of(name, version)

    def download(self, record: ModelRecord, folder: Path) -> None:
        """See `ModelRegistry.download`. Tried once: half a download stays in the folder."""
        self._registry.download(record, folder)

    def _called(self, function: Callable[[], _Result]) -> _Result:
        try:
            return self._dependency.call(function)
        except CircuitOpenError as error:
            raise RegistryError(str(error)) from error


def _record_of(version: "ModelVersion") -> ModelRecord:
    return ModelRecord(
        name=str(version.name),
        version=int(version.version),
        created_ms=int(version.creation_timestamp),
        source=str(version.source),
        aliases=tuple(version.aliases),
        tags=dict(version.tags),
    )
