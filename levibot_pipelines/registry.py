"""The model registry of a home: MLflow runs, registered bundles, aliases and their audit trail.

Plain Python over MLflow, used by Dagster assets and the command line alike. What a model is lives in
`levibot_core.models.bundle`; whether one may be promoted is decided by `levibot_core.validation.gates`.
"""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from levibot_core.errors import RegistryError
from levibot_core.models.bundle import ModelBundle
from levibot_core.stores.files import append_json_line
from levibot_core.stores.paths import Home, not_writable
from levibot_pipelines.instance import process_lives

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
_MODEL_SCRIPT = Path(__file__).resolve().parents[1] / "mlflow" / "models" / "levibot_bundle.py"
_RUN_OWNER_TAG = "levibot.owner_pid"
_ADDRESS_VARIABLES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    """One version of the registered model, with the tags the platform gave it."""

    version: int
    run_id: str
    aliases: tuple[str, ...]
    tags: Mapping[str, str]
    created_at: datetime

    @property
    def tradable(self) -> bool:
        """Whether engines may act on it."""
        return self.tags.get("tradable") == "true"

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is not tradable."""
        return tuple(json.loads(self.tags.get("reasons", "[]")))

    @property
    def family(self) -> str:
        """Kind of model, such as `lightgbm`."""
        return self.tags.get("family", "unknown")

    @property
    def metrics(self) -> Mapping[str, float]:
        """Figures on the untouched test rows."""
        return dict(json.loads(self.tags.get("metrics", "{}")))

    @property
    def gates(self) -> Sequence[Mapping[str, Any]]:
        """Verdicts of the promotion gates; empty when it was never judged."""
        return list(json.loads(self.tags.get("gates", "[]")))


def ensure_database(path: Path) -> None:
    """Make MLflow's database when there is none, whole or not at all.

    MLflow migrates a new file step by step and cannot go on from a half-made one, which a full disk or a killed
    process would leave behind; so the steps are done beside the place and the file moved there last.

    Raises:
        HomeNotWritableError: the folder cannot be written.
    """
    if path.exists():
        return
    from mlflow import MlflowClient

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=path.parent, prefix=".unfinished-") as folder:
            made = Path(folder) / path.name
            MlflowClient(f"sqlite:///{made}", f"sqlite:///{made}").search_experiments(max_results=1)
            made.replace(path)
    except OSError as error:
        raise not_writable(path, error) from error


class ModelRegistry:
    """Runs, versions and aliases of one registered model."""

    def __init__(self, home: Home, model_name: str, tracking_uri: str | None = None) -> None:
        # MLflow reports its use and draws progress bars over ours unless told otherwise; it offers no other way.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
        self.home = home
        self.model_name = model_name
        self.tracking_uri = tracking_uri or home.tracking_uri

    @cached_property
    def client(self) -> "MlflowClient":
        """An MLflow client on this home's store. The first one migrates a new database, which takes seconds."""
        from mlflow import MlflowClient  # Two seconds of import that most commands do not need.

        if self.tracking_uri == self.home.tracking_uri:
            ensure_database(self.home.mlflow_database)
        return MlflowClient(tracking_uri=self.tracking_uri, registry_uri=self.tracking_uri)

    # Runs ------------------------------------------------------------------------------------------------------

    def experiment_id(self, name: str | None = None) -> str:
        """The experiment of that name (the model's own by default), made when missing."""
        name = name or self.model_name
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        location = (self.home.mlflow / "artifacts" / name).as_uri()
        return str(self.client.create_experiment(name, artifact_location=location))

    def start_run(self, run_name: str, tags: Mapping[str, str]) -> str:
        """Open a run that later stages write to by its id, also from other processes."""
        owner = {_RUN_OWNER_TAG: str(os.getpid())}
        run = self.client.create_run(self.experiment_id(), run_name=run_name, tags={**tags, **owner})
        return str(run.info.run_id)

    @contextmanager
    def closing(self, run_id: str) -> "Iterator[str]":
        """Close a run when the block ends: `FINISHED`, or `FAILED` when it raises."""
        try:
            yield run_id
        except BaseException:
            self.client.set_terminated(run_id, status="FAILED")
            raise
        self.client.set_terminated(run_id, status="FINISHED")

    def log(
        self,
        run_id: str,
        params: Mapping[str, object] | None = None,
        metrics: Mapping[str, float | None] | None = None,
        tags: Mapping[str, str] | None = None,
        files: Mapping[str, bytes | str] | None = None,
        folders: Mapping[str, Path] | None = None,
    ) -> None:
        """Add to a run. `files` and `folders` are keyed by their path among the run's artifacts."""
        from mlflow.entities import Metric, Param, RunTag

        now = int(datetime.now(UTC).timestamp() * 1000)
        self.client.log_batch(
            run_id,
            metrics=[
                Metric(name, float(value), now, 0) for name, value in (metrics or {}).items() if value is not None
            ],
            params=[Param(name, str(value)) for name, value in (params or {}).items()],
            tags=[RunTag(name, value) for name, value in (tags or {}).items()],
        )
        for path, folder in (folders or {}).items():
            self.client.log_artifacts(run_id, str(folder), path)
        with TemporaryDirectory(dir=self.home.root) as temporary:
            for path, content in (files or {}).items():
                local = Path(temporary) / Path(path).name
                local.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
                parent = Path(path).parent.as_posix()
                self.client.log_artifact(run_id, str(local), None if parent == "." else parent)

    def logged_files(self, run_id: str, folder: str) -> dict[str, bytes]:
        """The files that lie directly in a folder of a run's artifacts, by name; empty where there is none."""
        with TemporaryDirectory(dir=self.home.root) as temporary:
            paths = [item.path for item in self.client.list_artifacts(run_id, folder) if not item.is_dir]
            return {
                Path(path).name: Path(self.client.download_artifacts(run_id, path, temporary)).read_bytes()
                for path in paths
            }

    def close_abandoned_runs(self) -> int:
        """Mark as KILLED every run still open whose process no longer lives; return how many."""
        from mlflow.entities import RunStatus

        still_open = f"attributes.status = '{RunStatus.to_string(RunStatus.RUNNING)}'"
        runs = self.client.search_runs([self.experiment_id()], filter_string=still_open)
        abandoned = [run for run in runs if not process_lives(run.data.tags.get(_RUN_OWNER_TAG))]
        for run in abandoned:
            self.client.set_terminated(run.info.run_id, status="KILLED")
        return len(abandoned)

    # Versions --------------------------------------------------------------------------------------------------

    def register(self, run_id: str, bundle_folder: Path, description: str, tags: Mapping[str, str]) -> int:
        """Log the bundle as a pyfunc model of that run and register it; return the version."""
        import mlflow
        import pandas as pd
        from mlflow.models import infer_signature

        bundle = ModelBundle.load(bundle_folder)
        example = pd.DataFrame([dict.fromkeys(bundle.manifest.features, 0.01)])
        example["symbol"] = bundle.manifest.symbols[0]
        with self._fluent():
            with mlflow.start_run(run_id=run_id):
                logged = mlflow.pyfunc.log_model(
                    name="model",
                    python_model=str(_MODEL_SCRIPT),
                    artifacts={"bundle": str(bundle_folder)},
                    signature=infer_signature(example, pd.Series([0.5], name="prob_up")),
                    input_example=example,
                    # Inferring requirements takes seven seconds; the platform's own constraints say more.
                    pip_requirements=["levibot-platform"],
                )
            # Not mlflow.register_model: it prints what it does.
            self._ensure_registered_model()
            created = self.client.create_model_version(
                self.model_name,
                source=logged.model_uri,
                run_id=run_id,
                description=description,
                tags=dict(tags),
                model_id=logged.model_id,
            )
        return int(created.version)

    def _ensure_registered_model(self) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(self.model_name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def describe(self, version: int, description: str) -> None:
        """Replace the description that people see beside a version; Markdown."""
        self.client.update_model_version(self.model_name, str(version), description)

    def annotate(self, version: int, tags: Mapping[str, str]) -> None:
        """Add or replace tags of a version."""
        for name, value in tags.items():
            self.client.set_model_version_tag(self.model_name, str(version), name, value)

    def versions(self) -> list[RegisteredVersion]:
        """Every version, newest first."""
        found = self.client.search_model_versions(f"name = '{self.model_name}'")
        aliases = self._aliases()
        return sorted((_registered(item, aliases) for item in found), key=lambda item: -item.version)

    def version(self, version: int) -> RegisteredVersion:
        """One version.

        Raises:
            RegistryError: there is no such version.
        """
        for found in self.versions():
            if found.version == version:
                return found
        known = ", ".join(str(found.version) for found in self.versions()) or "none"
        raise RegistryError(f"Expected a version of {self.model_name} ({known}), was {version}.")

    def by_alias(self, alias: str) -> RegisteredVersion | None:
        """The version an alias points to, or None."""
        return next((found for found in self.versions() if alias in found.aliases), None)

    def snapshots_in_use(self) -> dict[str, tuple[str, ...]]:
        """Every snapshot that a model of this home names, whatever the model: id to `name version`, oldest first."""
        users: dict[str, tuple[str, ...]] = {}
        page = self.client.search_model_versions()
        found = list(page)
        while page.token:
            page = self.client.search_model_versions(page_token=page.token)
            found += page
        for item in sorted(found, key=lambda item: (item.name, int(item.version))):
            snapshot_id = item.tags.get("snapshot_id", "")
            users[snapshot_id] = (*users.get(snapshot_id, ()), f"{item.name} {item.version}")
        return users

    def load_bundle(self, version: int) -> ModelBundle:
        """The bundle of a version, its hashes checked.

        Raises:
            RegistryError: the version has no bundle.
        """
        from mlflow.artifacts import download_artifacts

        with TemporaryDirectory(dir=self.home.root) as temporary:
            uri = f"models:/{self.model_name}/{version}"
            with self._fluent():
                folder = Path(download_artifacts(artifact_uri=uri, dst_path=temporary))
            manifests = list(folder.rglob("manifest.json"))
            if not manifests:
                raise RegistryError(f"Expected a bundle in {uri}, but it holds no manifest.json.")
            return ModelBundle.load(manifests[0].parent)

    # Aliases ---------------------------------------------------------------------------------------------------

    def set_challenger(self, version: int) -> None:
        """Point `challenger` at a version."""
        self.client.set_registered_model_alias(self.model_name, CHALLENGER, str(version))

    def promote(self, version: int, actor: str, reason: str) -> RegisteredVersion | None:
        """Make a version the champion; return the one it replaces, or None.

        The audit record is written first, then `previous`, and `champion` last, so that an interruption never
        leaves a champion that nothing explains.
        """
        replaced = self.by_alias(CHAMPION)
        self._audit(actor, replaced.version if replaced else None, version, reason)
        if replaced is not None and replaced.version != version:
            self.client.set_registered_model_alias(self.model_name, PREVIOUS, str(replaced.version))
        self.client.set_registered_model_alias(self.model_name, CHAMPION, str(version))
        return replaced

    def _audit(self, actor: str, from_version: int | None, to_version: int, reason: str) -> None:
        record = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "actor": actor,
            "model": self.model_name,
            "alias": CHAMPION,
            "from": from_version,
            "to": to_version,
            "reason": reason,
        }
        append_json_line(self.home.logs / "promotions.jsonl", record)

    def _aliases(self) -> dict[int, tuple[str, ...]]:
        from mlflow.exceptions import MlflowException

        try:
            registered = self.client.get_registered_model(self.model_name)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return {}
            raise
        by_version: dict[int, tuple[str, ...]] = {}
        for alias, version in registered.aliases.items():
            by_version[int(version)] = (*by_version.get(int(version), ()), alias)
        return by_version

    @contextmanager
    def _fluent(self) -> "Iterator[None]":
        """Point MLflow's module-level API, which logging and downloading a model still need, at this home."""
        import mlflow

        # MLflow keeps the addresses in the environment, where they would outlive this home's turn.
        before = {name: os.environ.get(name) for name in _ADDRESS_VARIABLES}
        mlflow.set_tracking_uri(self.tracking_uri)
        mlflow.set_registry_uri(self.tracking_uri)
        try:
            yield
        finally:
            mlflow.set_tracking_uri(None)  # type: ignore[arg-type]
            mlflow.set_registry_uri(None)  # type: ignore[arg-type]
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


def _registered(item: "ModelVersion", aliases: Mapping[int, tuple[str, ...]]) -> RegisteredVersion:
    return RegisteredVersion(
        version=int(item.version),
        run_id=str(item.run_id),
        aliases=tuple(sorted(aliases.get(int(item.version), ()))),
        tags=dict(item.tags),
        created_at=datetime.fromtimestamp(item.creation_timestamp / 1000, UTC),
    )
