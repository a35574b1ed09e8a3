"""The model registry of a home: registered bundles and their aliases. Who may become champion: `levibot_core.registry`.

Plain Python over MLflow, used by Dagster assets and the command line alike. Versions as such are in
`levibot_core.registry.versions`, runs in `.runs`, what MLflow stores of a model in `.packaging`. What a model is lives
in `levibot_core.models.bundle`; whether one may be promoted is decided by `levibot_core.validation.gates`.
"""

import os
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import polars as pl

from levibot_core.errors import RegistryError
from levibot_core.labels.definition import event_in_words
from levibot_core.models.bundle import BundleManifest, ModelBundle
from levibot_core.registry.versions import CHALLENGER, CHAMPION, PREVIOUS, RegisteredVersion
from levibot_pipelines.packaging import copy_model_code, example_frame, model_requirements, model_signature
from levibot_pipelines.runs import Runs
from levibot_serving.registered_versions import MlflowVersions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow import MlflowClient

__all__ = ["CHALLENGER", "CHAMPION", "PREVIOUS", "ModelRegistry", "RegisteredVersion"]

_MODEL_SCRIPT = Path(__file__).resolve().parents[1] / "mlflow" / "models" / "levibot_bundle.py"
_TASKS = {
    "direction": "probability that the price is higher after the horizon",
    "triple_barrier": "probability that the profit is reached before the stop, within the horizon",
}
_ADDRESS_VARIABLES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")


class ModelRegistry(Runs, MlflowVersions):
    """Runs, versions and aliases of one registered model."""

    @property
    def _client(self) -> "MlflowClient":
        return self.client

    def register(
        self,
        run_id: str,
        bundle_folder: Path,
        description: str,
        tags: Mapping[str, str],
        example: pl.DataFrame | None = None,
    ) -> int:
        """Log the bundle as a pyfunc model of that run and register it; return the version.

        The model carries the code that reads it and names the few packages it needs, so that
        `mlflow.pyfunc.load_model` works where nothing of the platform is installed.

        Args:
            run_id: The run.
            bundle_folder: The bundle.
            description: Of the version, for people.
            tags: Of the version.
            example: A few real rows with `symbol` and the bundle's features; None in a home without any.
        """
        import mlflow

        bundle = ModelBundle.load(bundle_folder)
        with self._fluent(), TemporaryDirectory(dir=self.home.root) as folder:
            with mlflow.start_run(run_id=run_id):
                logged = mlflow.pyfunc.log_model(
                    name="model",
                    python_model=str(_MODEL_SCRIPT),
                    artifacts={"bundle": str(bundle_folder)},
                    signature=model_signature(bundle.manifest),
                    input_example=example_frame(bundle.manifest, example),
                    pip_requirements=model_requirements(bundle.manifest.family),
                    code_paths=[str(copy_model_code(Path(folder)))],
                )
            # Not mlflow.register_model: it prints what it does.
            self._describe(bundle.manifest)
            created = self.client.create_model_version(
                self.model_name,
                source=logged.model_uri,
                run_id=run_id,
                description=description,
                tags=dict(tags),
                model_id=logged.model_id,
            )
        return int(created.version)

    def _describe(self, manifest: BundleManifest) -> None:
        """Make the registered model where there is none, and say what it is."""
        from mlflow.exceptions import MlflowException

        about = {
            "task": _TASKS[manifest.label.kind],
            "timeframe": manifest.timeframe,
            "horizon_bars": str(manifest.horizon_bars),
            "symbols": ", ".join(manifest.symbols),
            "feature_set": manifest.feature_set,
        }
        description = (
            f"Probability, for {about['symbols']}, that {event_in_words(manifest.label, manifest.timeframe)}. "
            "`champion` is what the inference API serves; it moves only when every promotion gate has passed. Nothing "
            "trained on a simulated market is ever tradable."
        )
        try:
            self.client.create_registered_model(self.model_name, tags=about, description=description)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            self.client.update_registered_model(self.model_name, description)
            for name, value in about.items():
                self.client.set_registered_model_tag(self.model_name, name, value)

    def describe(self, version: int, description: str) -> None:
        """Replace the description that people see beside a version; Markdown."""
        self.client.update_model_version(self.model_name, str(version), description)

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
