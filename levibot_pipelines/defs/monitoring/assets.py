"""The features in operation, each asset with its picture; tables and pictures are also among the reports of the home.

Not part of the lifecycle: nothing waits for these, and with hundreds of features they take longer than a person wants
to. They have a job and schedules of their own.
"""

import time
from typing import Any

import dagster as dg
import polars as pl

from levibot_core.drift.history import psi_history
from levibot_core.drift.plots import psi_history_png
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY
from levibot_core.monitoring.correlation import CLUSTER_THRESHOLD, measure_correlation
from levibot_core.monitoring.parity_report import read_parity_report, write_parity_report
from levibot_core.monitoring.plots import correlation_png, parity_png, shap_history_png, shap_png, staleness_png
from levibot_core.stores.files import write_json_atomically
from levibot_pipelines import monitored
from levibot_pipelines.defs.shared.metadata import OWNERS, plot, table
from levibot_pipelines.parity import replay_served_vectors
from levibot_pipelines.workspace import Workspace

WINDOW_DAYS, WINDOWS = 7, 26
CORRELATION_ROWS, SHAP_ROWS = 10_000, 500


@dg.asset(
    key_prefix="monitoring",
    group_name="monitoring",
    deps=[["feature_store", "features"], ["promotion", "champion"]],
    kinds={"python", "polars", "parquet"},
    owners=OWNERS,
)
def feature_psi(workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult[None]:
    """Population stability index of every feature, week by week, against the champion's training snapshot."""
    champion, snapshot = monitored.champion_snapshot(workspace)
    rows = monitored.whole_feature_rows(workspace, snapshot, days=WINDOW_DAYS * WINDOWS)
    history = psi_history(snapshot.rows, rows, snapshot.manifest.features, WINDOW_DAYS * MILLISECONDS_PER_DAY, WINDOWS)
    newest = history.filter(pl.col("window_end") == pl.col("window_end").max())
    title = f"Drift per week against the training data of version {champion.version}"
    png = monitored.keep_picture(workspace, "feature_psi", psi_history_png(history, snapshot.manifest.last_ts, title))
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": history.height,
            "champion_version": champion.version,
            "windows": history["window_end"].n_unique(),
            "critical_features": newest.filter(pl.col("level") == "critical").height,
            "warning_features": newest.filter(pl.col("level") == "warning").height,
            "plot": plot(png),
            "highest": table(newest.sort("psi", descending=True).head(10), ["feature", "psi", "level"]),
            "path": dg.MetadataValue.path(monitored.keep_table(workspace, "feature_psi", history)),
        }
    )


@dg.asset(
    key_prefix="monitoring",
    group_name="monitoring",
    deps=[["feature_store", "features"]],
    kinds={"python", "polars"},
    owners=OWNERS,
)
def feature_staleness(workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult[None]:
    """Age of the newest value of every feature of every symbol, by the clock of the source."""
    report = monitored.feature_staleness(workspace, now_ms=time.time_ns() // 1_000_000)
    png = monitored.keep_picture(workspace, "feature_staleness", staleness_png(report, "Oldest feature values"))
    write_json_atomically(monitored.staleness_report(workspace), report.to_dict())
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": report.table.height,
            "stale": report.stale.height,
            "limit_s": report.limit_s,
            "clock": dg.MetadataValue.timestamp(report.clock_ms / 1000),
            "plot": plot(png),
            "symbols": table(report.by_symbol),
            "path": dg.MetadataValue.path(monitored.keep_table(workspace, "feature_staleness", report.table)),
        }
    )


@dg.asset(
    key_prefix="monitoring",
    group_name="monitoring",
    deps=[["promotion", "champion"]],
    kinds={"python", "scipy", "parquet"},
    owners=OWNERS,
)
def feature_correlation(workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult[None]:
    """Spearman correlation of all features of the champion's snapshot, clusters that say the same, and inflation."""
    _, snapshot = monitored.champion_snapshot(workspace)
    report = measure_correlation(snapshot.rows, snapshot.manifest.features, CORRELATION_ROWS, workspace.settings.seed)
    title = f"{report.redundant} of {len(report.features)} features repeat another (|rho| from {CLUSTER_THRESHOLD})"
    png = monitored.keep_picture(workspace, "feature_correlation", correlation_png(report, title))
    folder = monitored.monitoring_folder(workspace)
    write_json_atomically(folder / "feature_correlation.json", report.to_dict())
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": report.rows,
            "clusters": len(report.clusters),
            "redundant_features": report.redundant,
            "constant_features": list(report.constant),
            "plot": plot(png),
            "largest_clusters": table(monitored.cluster_table(report)),
            "highest_inflation": table(monitored.inflation_table(report)),
            "path": dg.MetadataValue.path(monitored.keep_table(workspace, "feature_correlation", report.to_frame())),
        }
    )


@dg.asset(
    key_prefix="monitoring",
    group_name="monitoring",
    deps=[["calibration", "calibrated_model"]],
    kinds={"python", "lightgbm", "parquet"},
    owners=OWNERS,
)
def shap_importance(workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult[None]:
    """Mean absolute SHAP value of every feature, for every registered version, on untouched rows of its snapshot."""
    history, not_measured = monitored.measured_importance(workspace, SHAP_ROWS)
    metadata: dict[str, Any] = {
        "dagster/row_count": history.height,
        "versions": history["version"].n_unique(),
        "not_measured": {str(version): reason for version, reason in not_measured.items()},
    }
    if not history.is_empty():
        name = workspace.settings.model_name
        newest = shap_png(history, f"What moves the forecasts of {name}")
        lines = shap_history_png(history, f"What moved the forecasts of {name}, version by version")
        metadata["newest_version"] = plot(monitored.keep_picture(workspace, "shap_importance", newest))
        metadata["over_versions"] = plot(monitored.keep_picture(workspace, "shap_history", lines))
    return dg.MaterializeResult(metadata=metadata)


@dg.asset(
    key_prefix="monitoring",
    group_name="monitoring",
    deps=[["feature_store", "online_features"]],
    kinds={"python", "polars", "json"},
    owners=OWNERS,
)
def parity(workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult[None]:
    """Every served feature vector computed again from the lake, and compared bit by bit."""
    path = workspace.home.parity_report
    report = replay_served_vectors(workspace, read_parity_report(path))
    write_parity_report(path, report)
    png = parity_png(report.by_day, "Served values compared with the offline computation")
    return dg.MaterializeResult(
        metadata={
            **{name: value for name, value in report.to_dict().items() if isinstance(value, int)},
            "not_comparable": report.not_comparable,
            "plot": plot(monitored.keep_picture(workspace, "parity", png)),
            "path": dg.MetadataValue.path(path),
        }
    )
