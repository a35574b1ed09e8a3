"""Calibrate every family's candidate, score them on untouched rows, and register the better one."""

import dagster as dg

from levibot_core.validation.split import chronological_split
from levibot_pipelines.defs.shared.metadata import OWNERS, plot
from levibot_pipelines.references import CandidateReference, ModelReference
from levibot_pipelines.registration import calibrate_family, register_lowest_loss
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
def calibrated_model(
    workspace: dg.ResourceParam[Workspace],
    lightgbm: CandidateReference,
    xgboost: CandidateReference,
    tft: CandidateReference,
) -> dg.MaterializeResult[ModelReference]:
    """The family of the lowest validation log loss, calibrated, in MLflow's registry. Not served, not judged yet."""
    snapshot = workspace.snapshots.load(lightgbm.snapshot_id)
    split = chronological_split(snapshot.rows)
    trained = [candidate for candidate in (lightgbm, xgboost, tft) if candidate.left_out is None]
    calibrated = [calibrate_family(workspace.registry, candidate, split) for candidate in trained]
    chosen, model = register_lowest_loss(
        workspace.registry, calibrated, split, snapshot.candles, workspace.settings.threads
    )
    report = chosen.calibrated.report
    return dg.MaterializeResult(
        value=model,
        metadata={
            "version": model.version,
            "family": chosen.reference.family,
            "method": report.method,
            **{f"{found.reference.family}_validation_log_loss": found.validation_log_loss for found in calibrated},
            **{f"test_{name}": value for name, value in report.metrics["test"].items()},
            "test_log_loss_of_the_base_rate": report.base_rate_log_loss["test"],
            **uncertainty_metadata(chosen.uncertainty),
            **{name: plot(png) for name, png in chosen.plots.items()},
        },
    )
