"""The candidate's backtest on the test rows."""

import dagster as dg

from levibot_core.backtest.candidate import backtest_model
from levibot_core.backtest.metrics import backtest_metrics, reasons_against_trading
from levibot_core.backtest.report import ReportContext, write_html_report, write_json_report
from levibot_core.models.bundle import ModelBundle
from levibot_core.models.candidate import BUNDLE
from levibot_core.validation.split import chronological_split
from levibot_pipelines.defs.shared.metadata import OWNERS
from levibot_pipelines.references import BacktestReference, ModelReference
from levibot_pipelines.registration import log_backtest, reasons_of_provenance
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
    """Trading the candidate on rows nothing was fitted on: next-bar fills, fees, slippage, buy-and-hold beside it."""
    version, snapshot = calibrated_model.version, workspace.snapshots.load(calibrated_model.snapshot_id)
    bundle = ModelBundle.load(calibrated_model.folder / BUNDLE)
    rows = chronological_split(snapshot.rows).test
    result = backtest_model(bundle, snapshot, rows)
    summary = backtest_metrics(result)
    reasons = (*reasons_of_provenance(bundle.manifest), *reasons_against_trading(summary))
    about = ReportContext(
        title=f"Backtest of {bundle.manifest.model_name} version {version}",
        model_name=bundle.manifest.model_name,
        model_version=version,
        snapshot_id=snapshot.manifest.snapshot_id,
        source=snapshot.manifest.source.description,
        reasons=reasons,
    )
    folder = workspace.home.reports / "backtests"
    reference = BacktestReference(
        version=version,
        html=folder / f"v{version}.html",
        json_file=folder / f"v{version}.json",
        reasons_against_trading=reasons,
    )
    write_html_report(reference.html, result, summary, about)
    write_json_report(reference.json_file, result, summary, about)
    log_backtest(workspace.registry, calibrated_model, summary, reference)
    return dg.MaterializeResult(
        value=reference,
        metadata={
            "dagster/row_count": summary.strategy.trades,
            "net_return": summary.strategy.total_return,
            "buy_and_hold_return": summary.buy_and_hold.total_return,
            "against_trading": "; ".join(reasons) or "nothing",
            "html": dg.MetadataValue.path(reference.html),
        },
    )
