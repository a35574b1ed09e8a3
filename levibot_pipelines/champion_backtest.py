"""A version's backtest as its run keeps it, and the same backtest computed again on the same bytes.

Comparing the two is `levibot_core.validation.backtest_regression`'s work, acting on it `.regression_guard`'s.
"""

import json
from typing import Any

from levibot_core.backtest.metrics import backtest_metrics
from levibot_core.backtest.report import trade_records
from levibot_core.errors import RegistryError
from levibot_core.models.design import label_vector
from levibot_core.models.metrics import classification_metrics
from levibot_core.models.row_forecasts import predict_rows, split_with_windows
from levibot_core.validation.backtest_regression import BacktestRecord
from levibot_core.validation.split import chronological_split
from levibot_pipelines.backtests import account_of
from levibot_pipelines.registry import RegisteredVersion
from levibot_pipelines.workspace import Workspace

_REPORT, _LOG_LOSS = "report.json", "test_log_loss"


def recorded_backtest(workspace: Workspace, version: RegisteredVersion) -> BacktestRecord:
    """The backtest that a version was judged by, as its MLflow run keeps it: to the last bit, and with every trade.

    Raises:
        RegistryError: its run has none, or no log loss: it was not made by a lifecycle.
    """
    registry = workspace.registry
    files = registry.logged_files(version.run_id, "backtest")
    log_loss = registry.client.get_run(version.run_id).data.metrics.get(_LOG_LOSS)
    if _REPORT not in files or log_loss is None:
        raise RegistryError(
            f"Expected the backtest and the log loss of version {version.version} in its run {version.run_id}, was "
            "without: it was not made by a lifecycle, so there is nothing to hold it against. `levibot run` makes one "
            "that has both; `levibot models rollback` returns to the champion before it."
        )
    return _record(json.loads(files[_REPORT]), float(log_loss))


def recomputed_backtest(workspace: Workspace, version: RegisteredVersion) -> BacktestRecord:
    """The same backtest by the code of now: the version's bundle, its snapshot, the test period it was judged on.

    Raises:
        SnapshotError: the snapshot is gone, or its bytes are not those that its id names.
        BundleError: the bundle is not whole.
        LevibotError: what the backtest itself refuses.
    """
    bundle = workspace.registry.load_bundle(version.version)
    snapshot = workspace.snapshots.load(version.tags["snapshot_id"])
    # As the asset `backtest/report` does it; a drop is to be found in what the lifecycle would say today.
    split = chronological_split(snapshot.rows)
    result = account_of(workspace, bundle, snapshot, split.test).result
    report = {"metrics": backtest_metrics(result).model_dump(mode="json"), "trades": trade_records(result)}
    whole = split_with_windows(bundle.manifest, split)
    probabilities = predict_rows(bundle, whole.test, whole.history)
    log_loss = classification_metrics(probabilities, label_vector(whole.test, "test"))["log_loss"]
    # As JSON says it, so that both have gone the same way.
    return _record(json.loads(json.dumps(report)), log_loss)


def _record(report: dict[str, Any], log_loss: float) -> BacktestRecord:
    strategy = report["metrics"]["strategy"]
    return BacktestRecord(
        sharpe=strategy["sharpe"],
        trades=strategy["trades"],
        total_return=strategy["total_return"],
        log_loss=log_loss,
        report=report,
    )
