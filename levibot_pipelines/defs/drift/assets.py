"""Drift of the newest features against the champion's training snapshot."""

from datetime import UTC, datetime

import dagster as dg
import polars as pl

from levibot_core.drift.evidently_report import write_evidently_report
from levibot_core.drift.plots import psi_png
from levibot_core.drift.summary import summarise_drift
from levibot_core.errors import SnapshotNotFoundError
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY
from levibot_core.stores.files import write_json_atomically
from levibot_pipelines.defs.shared.automation import daily
from levibot_pipelines.defs.shared.metadata import OWNERS, plot, table
from levibot_pipelines.registry import CHAMPION
from levibot_pipelines.workspace import Workspace

CURRENT_DAYS = 7
# Evidently draws every column at length: of all features its report would take a minute and nobody would read it.
EVIDENTLY_FEATURES = 20


@dg.asset(
    key_prefix="drift",
    group_name="drift",
    deps=[["feature_store", "features"], ["training", "base_rate"]],
    automation_condition=daily,
    kinds={"python", "evidently", "html"},
    owners=OWNERS,
)
def report(workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult[None]:
    """Population stability index per feature, and Evidently's report of the features that moved most."""
    champion = workspace.registry.by_alias(CHAMPION)
    if champion is None:
        raise SnapshotNotFoundError(
            "Expected a champion whose training data to compare with. Materialise training/base_rate."
        )
    features = workspace.feature_set.names
    reference = workspace.snapshots.load(champion.tags["snapshot_id"]).rows
    current = current_features(workspace)
    drift = summarise_drift(reference, current, features)
    folder = workspace.home.reports / "drift"
    rows, seed = workspace.profile.drift_rows, workspace.settings.seed
    most_moved = drift.table["feature"].head(EVIDENTLY_FEATURES).to_list()
    write_evidently_report(reference, current, most_moved, folder / "latest.html", rows, seed)
    facts = {
        "level": drift.level,
        "champion_version": champion.version,
        "report_day": f"{datetime.now(UTC):%Y-%m-%d}",
        "critical_features": drift.count("critical"),
        "warning_features": drift.count("warning"),
    }
    write_json_atomically(folder / "latest.json", {**facts, "features": drift.table.to_dicts()})
    return dg.MaterializeResult(
        metadata={
            **facts,
            "dagster/row_count": current.height,
            "highest": table(drift.table.head(10)),
            "plot": plot(psi_png(drift.table, "Population stability index per feature")),
            "evidently": dg.MetadataValue.path(folder / "latest.html"),
        }
    )


def current_features(workspace: Workspace) -> pl.DataFrame:
    """Whole feature rows of the newest week of every symbol."""
    dataset = workspace.features(workspace.ingested_source)
    symbols = workspace.settings.symbols
    newest = max(workspace.lake.latest_known_at_ms(dataset, symbol) for symbol in symbols)
    rows = workspace.lake.read(dataset, symbols=symbols, start_ms=newest - CURRENT_DAYS * MILLISECONDS_PER_DAY)
    return rows.filter(pl.all_horizontal(pl.col(workspace.feature_set.names).is_not_nan()))
