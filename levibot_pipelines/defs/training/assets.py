"""The base rate, and one candidate per family."""

import dagster as dg

from levibot_core.models.predictors import LIGHTGBM, TFT, XGBOOST
from levibot_core.validation.split import chronological_split
from levibot_pipelines.defs.shared.metadata import OWNERS, plot
from levibot_pipelines.references import CandidateReference, SnapshotReference
from levibot_pipelines.registration import ensure_base_rate
from levibot_pipelines.training import no_candidate, train_family, why_left_out
from levibot_pipelines.workspace import Workspace

_SNAPSHOT = {"training_snapshot": dg.AssetIn(["feature_store", "training_snapshot"])}


@dg.asset(key_prefix="training", group_name="training", ins=_SNAPSHOT, kinds={"python", "mlflow"}, owners=OWNERS)
def base_rate(
    workspace: dg.ResourceParam[Workspace], training_snapshot: SnapshotReference
) -> dg.MaterializeResult[None]:
    """The first champion of a home: how often prices rose. Made once; every candidate has to beat it."""
    snapshot = workspace.snapshots.load(training_snapshot.snapshot_id)
    train = chronological_split(snapshot.rows).train
    version = ensure_base_rate(workspace, snapshot.manifest, train)
    return dg.MaterializeResult(
        metadata={
            "registered": f"version {version}" if version else "nothing: this home has a champion already",
            "share_of_rises": float(train["label"].to_numpy().mean()),
            "dagster/row_count": train.height,
        }
    )


def _candidate(family: str, description: str, *kinds: str) -> dg.AssetsDefinition:
    @dg.asset(
        name=family,
        key_prefix="training",
        group_name="training",
        ins=_SNAPSHOT,
        io_manager_key="references",
        kinds={*kinds, "mlflow"},
        owners=OWNERS,
        description=description,
    )
    def candidate(
        context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace], training_snapshot: SnapshotReference
    ) -> dg.MaterializeResult[CandidateReference]:
        if (reason := why_left_out(workspace, family)) is not None:
            context.log.warning(f"{family} is left out: {reason}")
            left_out = no_candidate(workspace, family, training_snapshot.snapshot_id, reason)
            return dg.MaterializeResult(value=left_out, metadata={"left_out": reason})
        trained = train_family(workspace, family, training_snapshot.snapshot_id, context.run_id, context.log.info)
        tuning = trained.candidate.tuning
        best = tuning.best_trial
        return dg.MaterializeResult(
            value=trained.reference,
            metadata={
                "dagster/row_count": trained.train_rows,
                "trials": tuning.trials.height,
                "pruned": tuning.pruned,
                "resumed": tuning.resumed,
                "validation_log_loss": tuning.best_value,
                "validation_profit_weighted_log_loss": best["profit_weighted_log_loss"],
                "validation_sharpe_per_day": best["sharpe_per_day"],
                **{name: plot(png) for name, png in trained.plots.items()},
                "mlflow_run": trained.reference.run_id,
            },
        )

    return candidate


_TUNED = "A classifier of {}, tuned on the validation part; a killed study resumes where it was."
lightgbm = _candidate(LIGHTGBM, _TUNED.format("LightGBM"), "lightgbm", "optuna")
xgboost = _candidate(XGBOOST, _TUNED.format("XGBoost"), "xgboost", "optuna")
tft = _candidate(
    TFT, "A Temporal Fusion Transformer on windows of bars, trained once with the profile's parameters.", "pytorch"
)
