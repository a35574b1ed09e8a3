"""The candidate's backtest on the test rows."""

import dagster as dg

from levibot_core.models.bundle import ModelBundle
from levibot_core.models.candidate import BUNDLE
from levibot_core.validation.split import chronological_split
from levibot_pipelines.backtests import BacktestSubject, keep_report, report_on
from levibot_pipelines.defs.shared.metadata import OWNERS
from levibot_pipelines.references import BacktestReference, ModelReference
from levibot_pipelines.registration import log_backtest
from levibot_pipelines.workspace import Workspace


@dg.asset(
    key_prefix="backtest",
    group_name="backtest",
    ins={"calibrated_model": dg.AssetIn(["calibration", "calibrated_model"])},
    io_manager_key="references",
    kinds={"python", "polars", "html"},
    owners=OWNERS,
)
def report(
    workspace: dg.ResourceParam[Workspace], calibrated_model: ModelReference
) -> dg.MaterializeResult[BacktestReference]:
    """Trading those forecasts that pay their costs, on rows nothing was fitted on; buying and holding beside it.

    The account has the sizes and limits of the live engines and pays funding where it settled.
    """
    snapshot = workspace.snapshots.load(calibrated_model.snapshot_id)
    bundle = ModelBundle.load(calibrated_model.folder / BUNDLE)
    subject = BacktestSubject(calibrated_model.version, bundle, snapshot, chronological_split(snapshot.rows).test)
    made = report_on(workspace, subject)
    reference = keep_report(workspace.home, made)
    log_backtest(workspace.registry, calibrated_model, made.summary, reference)
    return dg.MaterializeResult(
        value=reference,
        metadata={
            "dagster/row_count": made.summary.strategy.trades,
            "net_return": made.summary.strategy.total_return,
            "buy_and_hold_return": made.summary.buy_and_hold.total_return,
            "funding": made.funding.note,
            "against_trading": "; ".join(reference.reasons_against_trading) or "nothing",
            "html": dg.MetadataValue.path(reference.html),
        },
    )
