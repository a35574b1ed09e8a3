"""Calibrate the candidate, score it on untouched rows, and register it."""

import dagster as dg

from levibot_core.models.candidate import Candidate, calibrate_candidate
from levibot_core.models.plots import importance_png, reliability_png
from levibot_core.validation.split import chronological_split
from levibot_pipelines.defs.shared.metadata import OWNERS, plot
from levibot_pipelines.references import CandidateReference, ModelReference
from levibot_pipelines.registration import register_candidate
from levibot_pipelines.workspace import Workspace


@dg.asset(
    key_prefix="calibration",
    group_name="calibration",
    ins={"candidate": dg.AssetIn(["training", "candidate"])},
    io_manager_key="references",
    kinds={"python", "scikitlearn", "mlflow"},
    owners=OWNERS,
)
def calibrated_model(
    workspace: dg.ResourceParam[Workspace], candidate: CandidateReference
) -> dg.MaterializeResult[ModelReference]:
    """The candidate with calibrated probabilities, as a bundle in MLflow's registry. Not served, not judged yet."""
    split = chronological_split(workspace.snapshots.load(candidate.snapshot_id).rows)
    calibrated = calibrate_candidate(Candidate.load(candidate.folder), split)
    calibrated.save(candidate.folder)
    report = calibrated.report
    reliability = reliability_png(
        report.reliability, calibrated.test_probabilities, report.base_rate, "Reliability on the test rows"
    )
    importance = importance_png({item.feature: item.gain_share for item in report.importance}, "Share of the gain")
    plots = {"reliability": reliability, "importance": importance}
    version = register_candidate(workspace.registry, candidate.run_id, candidate.folder, calibrated, plots)
    return dg.MaterializeResult(
        value=ModelReference(
            version=version, run_id=candidate.run_id, snapshot_id=candidate.snapshot_id, folder=candidate.folder
        ),
        metadata={
            "version": version,
            "method": report.method,
            **{f"test_{name}": value for name, value in report.metrics["test"].items()},
            "test_log_loss_of_the_base_rate": report.base_rate_log_loss["test"],
            "reliability": plot(reliability),
            "importance": plot(importance),
        },
    )
