"""The base rate, and a LightGBM candidate tuned with Optuna."""

import dagster as dg
import numpy as np

from levibot_core.models.base_rate import fit_base_rate
from levibot_core.models.candidate import train_candidate
from levibot_core.models.metrics import log_losses
from levibot_core.models.plots import tuning_history_png
from levibot_core.validation.split import SplitResult, chronological_split
from levibot_pipelines.defs.shared.metadata import OWNERS, plot
from levibot_pipelines.rebuilding import log_recipe
from levibot_pipelines.references import CandidateReference, SnapshotReference
from levibot_pipelines.registration import bundle_identity, ensure_base_rate, log_training
from levibot_pipelines.workspace import Workspace

_SNAPSHOT = {"training_snapshot": dg.AssetIn(["feature_store", "training_snapshot"])}


@dg.asset(key_prefix="training", group_name="training", ins=_SNAPSHOT, kinds={"python", "mlflow"}, owners=OWNERS)
def base_rate(
    workspace: dg.ResourceParam[Workspace], training_snapshot: SnapshotReference
) -> dg.MaterializeResult[None]:
    """The first champion of a home: how often prices rose. Made once; every candidate has to beat it."""
    snapshot = workspace.snapshots.load(training_snapshot.snapshot_id)
    labels = chronological_split(snapshot.rows).train["label"].to_numpy()
    version = ensure_base_rate(workspace, snapshot.manifest, labels)
    return dg.MaterializeResult(
        metadata={
            "registered": f"version {version}" if version else "nothing: this home has a champion already",
            "share_of_rises": float(labels.mean()),
            "dagster/row_count": len(labels),
        }
    )


@dg.asset(
    key_prefix="training",
    group_name="training",
    ins=_SNAPSHOT,
    io_manager_key="references",
    kinds={"lightgbm", "optuna", "mlflow"},
    owners=OWNERS,
)
def candidate(
    context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace], training_snapshot: SnapshotReference
) -> dg.MaterializeResult[CandidateReference]:
    """A LightGBM classifier, tuned on the validation part; the study resumes where a killed run left it."""
    snapshot = workspace.snapshots.load(training_snapshot.snapshot_id)
    split = chronological_split(snapshot.rows)
    registry, profile = workspace.registry, workspace.profile
    registry.close_abandoned_runs()
    tags = {"snapshot_id": training_snapshot.snapshot_id, "dagster/run_id": context.run_id}
    with registry.closing(registry.start_run(f"candidate {training_snapshot.snapshot_id}", tags)) as run_id:
        trained = train_candidate(
            split,
            bundle_identity(workspace, snapshot.manifest),
            profile,
            workspace.settings.threads,
            workspace.home.trials / f"{workspace.settings.model_name}.journal",
            workspace.settings.model_name,
            on_trial=lambda done, total, value, best: context.log.info(_trial_line(done, total, value, best)),
        )
        folder = workspace.home.models / run_id
        trained.save(folder)
        history = tuning_history_png(trained.tuning.trials, _base_rate_loss(split), "Validation log loss per trial")
        log_training(registry, run_id, trained, snapshot.manifest, history)
        log_recipe(workspace, run_id, trained, snapshot.manifest)
    return dg.MaterializeResult(
        value=CandidateReference(run_id=run_id, snapshot_id=training_snapshot.snapshot_id, folder=folder),
        metadata={
            "dagster/row_count": split.train.height,
            "trials": trained.tuning.trials.height,
            "pruned": trained.tuning.pruned,
            "resumed": trained.tuning.resumed,
            "best_validation_log_loss": trained.tuning.best_value,
            "history": plot(history),
            "mlflow_run": run_id,
        },
    )


def _trial_line(done: int, total: int, value: float | None, best: float) -> str:
    found = "pruned" if value is None else f"log loss {value:.5f}"
    return f"trial {done}/{total}: {found}, best {best:.5f}"


def _base_rate_loss(split: SplitResult) -> float:
    base_rate = fit_base_rate(split.train["label"].to_numpy())
    labels = split.validation["label"].to_numpy()
    return float(log_losses(np.full(labels.size, base_rate), labels).mean())
