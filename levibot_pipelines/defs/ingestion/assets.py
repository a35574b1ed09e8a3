"""Market data in the lake: candles, settled funding and the fear and greed index.

No retry policy: a source repeats what a network may have lost by itself, and repeating anything else changes nothing.
"""

import time

import dagster as dg

from levibot_core.market.ingest import IngestReport, ingest_candles, ingest_funding
from levibot_core.schemas import CANDLES, FEAR_GREED, FUNDING_RATES
from levibot_pipelines.defs.shared.automation import every_bar
from levibot_pipelines.defs.shared.metadata import OWNERS, column_schema
from levibot_pipelines.defs.shared.partitions import single_run, slices_of, symbol_months
from levibot_pipelines.workspace import Workspace


@dg.asset(
    key_prefix="ingestion",
    group_name="ingestion",
    partitions_def=symbol_months,
    backfill_policy=single_run,
    automation_condition=every_bar,
    pool="market_source",
    kinds={"python", "polars", "parquet"},
    owners=OWNERS,
    metadata={"dagster/column_schema": column_schema(CANDLES)},
)
def candles(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult[None]:
    """Closed candles per symbol and month, as the source gave them: gaps stay gaps, corrections append a revision."""
    source, lake = workspace.source, workspace.lake
    context.log.info(f"Source: {source.identity.description}")
    dataset = workspace.candles(source.identity)
    slices = slices_of(context.partition_keys)
    report = ingest_candles(
        source, lake, dataset, workspace.settings.market, workspace.timeframe, slices, _now_ms(), context.log.info
    )
    lake.set_current_source(source.identity)
    return _result(report, source.identity.description, dataset.folder)


@dg.asset(
    key_prefix="ingestion",
    group_name="ingestion",
    partitions_def=symbol_months,
    backfill_policy=single_run,
    automation_condition=every_bar,
    pool="market_source",
    kinds={"python", "polars", "parquet"},
    owners=OWNERS,
    metadata={"dagster/column_schema": column_schema(FUNDING_RATES)},
)
def funding_rates(
    context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]
) -> dg.MaterializeResult[None]:
    """Settled funding of the perpetual on the same pair, per symbol and month."""
    source = workspace.source
    dataset = workspace.funding(source.identity)
    slices = slices_of(context.partition_keys)
    report = ingest_funding(source, workspace.lake, dataset, slices, _now_ms(), context.log.info)
    return _result(report, source.identity.description, dataset.folder)


@dg.asset(
    key_prefix="ingestion",
    group_name="ingestion",
    pool="market_source",
    kinds={"python", "polars", "parquet"},
    owners=OWNERS,
    metadata={"dagster/column_schema": column_schema(FEAR_GREED)},
)
def fear_greed(workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult[None]:
    """The daily fear and greed index; a day's value is known only after that day ended."""
    source = workspace.source
    dataset = workspace.fear_greed(source.identity)
    written = workspace.lake.append(dataset, source.fear_greed(0, _now_ms()), _now_ms())
    return _result(IngestReport().plus(written), source.identity.description, dataset.folder)


def _result(report: IngestReport, source: str, folder: str) -> dg.MaterializeResult[None]:
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": report.rows_seen,
            "source": source,
            "folder": folder,
            "rows_new": report.rows_new,
            "rows_revised": report.rows_revised,
            "rows_unchanged": report.rows_unchanged,
            "notes": "; ".join(report.notes) or "none",
        }
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
