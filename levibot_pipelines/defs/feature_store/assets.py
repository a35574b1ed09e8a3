"""Features per symbol and month, the training snapshot, and the newest vectors for serving."""

import dagster as dg

from levibot_core.config import load_settings
from levibot_core.features.refresh import refresh_features
from levibot_core.features.registry import FeatureSet, load_registry
from levibot_pipelines.defs.shared.automation import follows_inputs
from levibot_pipelines.defs.shared.metadata import OWNERS, column_schema, table
from levibot_pipelines.defs.shared.partitions import single_run, slices_of, symbol_months
from levibot_pipelines.online import warm_up
from levibot_pipelines.references import SnapshotReference
from levibot_pipelines.training_snapshot import build_snapshot
from levibot_pipelines.workspace import Workspace

_feature_set: FeatureSet = load_registry(load_settings().feature_set)


@dg.asset(
    key_prefix="feature_store",
    group_name="feature_store",
    deps=[["ingestion", "candles"], ["ingestion", "funding_rates"], ["ingestion", "fear_greed"]],
    partitions_def=symbol_months,
    backfill_policy=single_run,
    automation_condition=follows_inputs,
    code_version=_feature_set.sha256[:12],
    kinds={"python", "polars", "parquet"},
    owners=OWNERS,
    metadata={"dagster/column_schema": column_schema(_feature_set.table())},
)
def features(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult[None]:
    """Every feature of features.yml at every bar, each a pure function of its own window of closed bars."""
    identity = workspace.ingested_source
    tables = workspace.feature_tables(identity)
    report = refresh_features(
        workspace.lake,
        tables,
        workspace.feature_set,
        workspace.timeframe,
        slices=slices_of(context.partition_keys),
        on_progress=context.log.info,
    )
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": report.rows,
            "features": len(workspace.feature_set.names),
            "complete_rows": report.complete_rows,
            "feature_set": f"{workspace.feature_set.version} ({workspace.feature_set.sha256[:12]})",
            "folder": tables.features.folder,
        }
    )


@dg.asset(
    key_prefix="feature_store",
    group_name="feature_store",
    deps=[features],
    io_manager_key="references",
    kinds={"python", "polars", "parquet"},
    owners=OWNERS,
)
def training_snapshot(
    context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]
) -> dg.MaterializeResult[SnapshotReference]:
    """Features and labels of the window, as known at its end, frozen under an id that names their checksum."""
    manifest = build_snapshot(workspace)
    context.log.info(f"Snapshot {manifest.snapshot_id}: {manifest.rows:,} rows")
    return dg.MaterializeResult(
        value=SnapshotReference(snapshot_id=manifest.snapshot_id),
        data_version=dg.DataVersion(manifest.checksum),
        metadata={
            "dagster/row_count": manifest.rows,
            "snapshot_id": manifest.snapshot_id,
            "window": f"{manifest.first_ts} to {manifest.last_ts}",
            "dropped_rows": manifest.dropped,
            "path": dg.MetadataValue.path(workspace.home.snapshots / manifest.snapshot_id),
        },
    )


@dg.asset(
    key_prefix="feature_store",
    group_name="feature_store",
    deps=[features],
    automation_condition=follows_inputs,
    kinds={"python", "polars", "sqlite"},
    owners=OWNERS,
)
def online_features(workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult[None]:
    """The newest whole feature vector of every symbol, where the inference API reads it."""
    vectors = warm_up(workspace)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(vectors.complete),
            "newest": table(vectors.to_frame()),
            "incomplete": {symbol: list(names) for symbol, names in vectors.incomplete.items()},
            "store": workspace.online_store.place,
        }
    )
