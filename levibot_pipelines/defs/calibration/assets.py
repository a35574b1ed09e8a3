"""Calibrate every family's candidate, combine them, and register the ensemble or the better of them."""

import dagster as dg

from levibot_pipelines.defs.shared.metadata import OWNERS, plot
from levibot_pipelines.ensemble import make_ensemble
from levibot_pipelines.references import CandidateReference, EnsembleReference, ModelReference
from levibot_pipelines.registration import register_best
from levibot_pipelines.uncertainty import uncertainty_metadata
from levibot_pipelines.workspace import Workspace


@dg.asset(
    key_prefix="calibration",
    group_name="calibration",
    ins={family: dg.AssetIn(["training", family]) for family in ("lightgbm", "xgboost", "tft")},
    io_manager_key="references",
    kinds={"python", "scikitlearn", "mlflow"},
    owners=OWNERS,
)
def ensemble(
    context: dg.AssetExecutionContext,
    workspace: dg.ResourceParam[Workspace],
    lightgbm: CandidateReference,
    xgboost: CandidateReference,
    tft: CandidateReference,
) -> dg.MaterializeResult[EnsembleReference]:
    """Every family calibrated, and one model of all of them: taken only where it beats its best member."""
    found = make_ensemble(workspace, (lightgbm, xgboost, tft), context.run.run_id)
    context.log.info(found.reference.reason)
    return dg.MaterializeResult(
        value=found.reference,
        metadata={
            "taken": found.reference.taken,
            "reason": found.reference.reason,
            **{f"{made.reference.family}_validation_log_loss": made.validation_log_loss for made in found.members},
            **found.figures,
            **{name: plot(png) for name, png in found.plots.items()},
        },
    )


@dg.asset(
    key_prefix="calibration",
    group_name="calibration",
    ins={"ensemble": dg.AssetIn(["calibration", "ensemble"])},
    io_manager_key="references",
    kinds={"python", "scikitlearn", "mlflow"},
    owners=OWNERS,
)
def calibrated_model(
    workspace: dg.ResourceParam[Workspace], ensemble: EnsembleReference
) -> dg.MaterializeResult[ModelReference]:
    """The ensemble, or else the family of the lowest validation log loss, in MLflow's registry. Not judged yet."""
    snapshot = workspace.snapshots.load(ensemble.members[0].snapshot_id)
    chosen, model = register_best(workspace.registry, ensemble, snapshot, workspace.settings.threads)
    report = chosen.calibrated.report
    return dg.MaterializeResult(
        value=model,
        metadata={
            "version": model.version,
            "family": chosen.reference.family,
            "ensemble": ensemble.reason,
            "method": report.method,
            **{f"test_{name}": value for name, value in report.metrics["test"].items()},
            "test_log_loss_of_the_base_rate": report.base_rate_log_loss["test"],
            **uncertainty_metadata(chosen.uncertainty),
            **{name: plot(png) for name, png in chosen.plots.items()},
        },
    )
