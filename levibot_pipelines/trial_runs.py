"""One MLflow run per trial below the run of its training, as MLflow shows searches for parameters.

Through MLflow's client each run costs six transactions, and a search of two hundred trials half a minute. Where MLflow
keeps its runs in a database, as it does unless told otherwise, they are written in one transaction instead.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.store.tracking.dbmodels.models import SqlRun

_PARENT, _NAME = "mlflow.parentRunId", "mlflow.runName"


@dataclass(frozen=True, slots=True)
class TrialRun:
    """One finished trial: its name, times in UTC milliseconds, and what it was given and found."""

    name: str
    started_ms: int
    ended_ms: int
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]


def log_trial_runs(client: "MlflowClient", parent_run_id: str, trials: Sequence[TrialRun]) -> None:
    """Add one finished run per trial below a run, in its experiment."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    parent = client.get_run(parent_run_id)
    store = client._tracking_client.store
    if not isinstance(store, SqlAlchemyStore):
        for trial in trials:
            _log_one(client, parent, trial)
        return
    with store.ManagedSessionMaker(read_only=False) as session:
        session.add_all([_row(parent, trial) for trial in trials])


def _log_one(client: "MlflowClient", parent: "Run", trial: TrialRun) -> None:
    from mlflow.entities import Metric, Param

    tags = {**trial.tags, _PARENT: parent.info.run_id}
    run = client.create_run(parent.info.experiment_id, trial.started_ms, tags, trial.name)
    client.log_batch(
        run.info.run_id,
        metrics=[Metric(name, value, trial.ended_ms, 0) for name, value in trial.metrics.items()],
        params=[Param(name, value) for name, value in trial.params.items()],
    )
    client.set_terminated(run.info.run_id, "FINISHED", trial.ended_ms)


def _row(parent: "Run", trial: TrialRun) -> "SqlRun":
    """The rows that MLflow's own store would have written for the calls of `_log_one`."""
    from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlMetric, SqlParam, SqlRun, SqlTag

    run_id = uuid.uuid4().hex
    folder, _, _ = parent.info.artifact_uri.rpartition(parent.info.run_id)
    run = SqlRun(
        run_uuid=run_id,
        name=trial.name,
        experiment_id=parent.info.experiment_id,
        artifact_uri=f"{folder}{run_id}/artifacts",
        source_type="UNKNOWN",
        source_name="",
        entry_point_name="",
        source_version="",
        user_id=parent.info.user_id,
        status="FINISHED",
        start_time=trial.started_ms,
        end_time=trial.ended_ms,
        lifecycle_stage="active",
    )
    tags = {**trial.tags, _PARENT: parent.info.run_id, _NAME: trial.name}
    run.tags = [SqlTag(key=name, value=value) for name, value in tags.items()]
    run.params = [SqlParam(key=name, value=value) for name, value in trial.params.items()]
    figures = [
        {"key": name, "value": value, "timestamp": trial.ended_ms, "step": 0, "is_nan": False}
        for name, value in trial.metrics.items()
    ]
    run.metrics = [SqlMetric(**figure) for figure in figures]
    run.latest_metrics = [SqlLatestMetric(**figure) for figure in figures]
    return run
