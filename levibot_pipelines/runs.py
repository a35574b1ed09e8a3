"""The runs of a home in MLflow: one experiment per family of a model, a run per training, one below it per trial.

Registered versions and their aliases are in `levibot_pipelines.registry`; what a training logs, in `.registration`.
"""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from levibot_core.stores.paths import Home, not_writable
from levibot_core.stores.snapshot_manifest import SnapshotManifest
from levibot_pipelines.instance import process_lives
from levibot_pipelines.trial_runs import TrialRun, log_trial_runs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow import MlflowClient

_RUN_OWNER_TAG = "levibot.owner_pid"


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


class Runs:
    """The runs of one registered model."""

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

    def experiment_id(self, family: str | None = None) -> str:
        """The experiment of a family of the model, or the model's own, made when missing."""
        name = f"{self.model_name}/{family}" if family else self.model_name
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        location = (self.home.mlflow / "artifacts" / name).as_uri()
        return str(self.client.create_experiment(name, artifact_location=location))

    def start_run(self, run_name: str, tags: Mapping[str, str], family: str | None = None) -> str:
        """Open a run that later stages write to by its id, also from other processes."""
        owner = {_RUN_OWNER_TAG: str(os.getpid())}
        run = self.client.create_run(self.experiment_id(family), run_name=run_name, tags={**tags, **owner})
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

    def log_snapshot(self, run_id: str, snapshot: SnapshotManifest) -> None:
        """Log a training snapshot as the data set that a run was trained on."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        # A data set of MLflow's own kinds would carry the rows through pandas to compute what the manifest knows.
        dataset = Dataset(
            name=snapshot.snapshot_id,
            digest=snapshot.checksum[:32],
            source_type="local",
            source=json.dumps({"uri": (self.home.snapshots / snapshot.snapshot_id).as_uri()}),
            schema=json.dumps(
                {"mlflow_colspec": [{"type": "double", "name": name, "required": True} for name in snapshot.features]}
            ),
            profile=json.dumps({"num_rows": snapshot.rows, "num_features": len(snapshot.features)}),
        )
        context = InputTag("mlflow.data.context", "training")
        self.client.log_inputs(run_id, datasets=[DatasetInput(dataset, [context])])

    def log_trials(self, run_id: str, trials: Sequence[TrialRun]) -> None:
        """Add one finished run per trial below a run."""
        log_trial_runs(self.client, run_id, trials)

    def close_abandoned_runs(self) -> int:
        """Mark as KILLED every run still open whose process no longer lives; return how many."""
        from mlflow.entities import RunStatus

        experiments = [
            found.experiment_id
            for found in self.client.search_experiments(filter_string=f"name LIKE '{self.model_name}%'")
            if found.name == self.model_name or found.name.startswith(f"{self.model_name}/")
        ]
        still_open = f"attributes.status = '{RunStatus.to_string(RunStatus.RUNNING)}'"
        runs = self.client.search_runs(experiments, filter_string=still_open) if experiments else []
        abandoned = [run for run in runs if not process_lives(run.data.tags.get(_RUN_OWNER_TAG))]
        for run in abandoned:
            self.client.set_terminated(run.info.run_id, status="KILLED")
        return len(abandoned)
