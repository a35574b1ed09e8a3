"""What feature monitoring looks at: the champion's training snapshot, and the features the lake holds of its set.

Measuring is `levibot_core.monitoring`'s and `levibot_core.drift`'s work.
"""

from pathlib import Path

import polars as pl

from levibot_core.errors import LevibotError, MarketDataUnavailableError, SnapshotNotFoundError
from levibot_core.features.registry import load_registry
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY
from levibot_core.models.predictors import LIGHTGBM, XGBOOST
from levibot_core.monitoring.correlation import CorrelationReport
from levibot_core.monitoring.importance import ImportanceHistory, shap_importance
from levibot_core.monitoring.staleness import StalenessReport, clock_of, measure_staleness
from levibot_core.stores.files import write_atomically
from levibot_core.stores.paths import features_dataset
from levibot_core.stores.snapshots import Snapshot
from levibot_core.validation.split import chronological_split
from levibot_pipelines.registry import CHAMPION, RegisteredVersion
from levibot_pipelines.workspace import Workspace

NEWEST_DAYS = 3
"""A feature without a value in this many days has none, as far as staleness goes."""


def monitoring_folder(workspace: Workspace) -> Path:
    """Where monitoring leaves its reports and pictures."""
    return workspace.home.reports / "monitoring"


def staleness_report(workspace: Workspace) -> Path:
    """The newest report on staleness, as JSON."""
    return monitoring_folder(workspace) / "feature_staleness.json"


def keep_picture(workspace: Workspace, name: str, png: bytes) -> bytes:
    """Leave a picture where people without Dagster find it, and hand it on."""
    write_atomically(monitoring_folder(workspace) / f"{name}.png", lambda path: _write_bytes(path, png))
    return png


def keep_table(workspace: Workspace, name: str, frame: pl.DataFrame) -> Path:
    """Leave a table as Parquet among the reports; returns where."""
    path = monitoring_folder(workspace) / f"{name}.parquet"
    write_atomically(path, lambda temporary: frame.write_parquet(temporary, compression="zstd"))
    return path


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def champion_snapshot(workspace: Workspace) -> tuple[RegisteredVersion, Snapshot]:
    """The champion and the snapshot it was trained on.

    Raises:
        SnapshotNotFoundError: there is no champion, or its snapshot is gone.
    """
    champion = workspace.registry.by_alias(CHAMPION)
    if champion is None:
        raise SnapshotNotFoundError(
            "Expected a champion whose training data to compare with, was none. Materialise training/base_rate."
        )
    return champion, workspace.snapshots.load(champion.tags["snapshot_id"])


def whole_feature_rows(workspace: Workspace, snapshot: Snapshot, days: int) -> pl.DataFrame:
    """Feature rows of the newest days of the symbols and the feature set of a snapshot, without any NaN.

    Raises:
        MarketDataUnavailableError: the lake holds no features of that set.
    """
    manifest, settings = snapshot.manifest, workspace.settings
    table = load_registry(manifest.feature_set).table()
    dataset = features_dataset(
        workspace.ingested_source.key, settings.market, settings.timeframe, manifest.feature_set, table
    )
    newest = max(workspace.lake.latest_known_at_ms(dataset, symbol) for symbol in manifest.symbols)
    rows = workspace.lake.read(dataset, symbols=manifest.symbols, start_ms=newest - days * MILLISECONDS_PER_DAY)
    return rows.filter(pl.all_horizontal(pl.col(manifest.features).is_not_nan()))


def feature_staleness(workspace: Workspace, now_ms: int) -> StalenessReport:
    """The age of every feature of every symbol of this home, by the clock of its source."""
    identity, lake, symbols = workspace.ingested_source, workspace.lake, workspace.settings.symbols
    bars = [_newest_ms(workspace, symbol) for symbol in symbols]
    clock_ms = clock_of(identity.kind, now_ms, max(bars))
    start_ms = clock_ms - NEWEST_DAYS * MILLISECONDS_PER_DAY
    features = lake.read(workspace.features(identity), symbols=symbols, start_ms=start_ms)
    return measure_staleness(features, symbols, workspace.feature_set.names, clock_ms, workspace.timeframe)


def _newest_ms(workspace: Workspace, symbol: str) -> int:
    try:
        return workspace.lake.latest_known_at_ms(workspace.candles(workspace.ingested_source), symbol)
    except MarketDataUnavailableError:  # then its features have no value, which is what the report says
        return 0


def importance_history(workspace: Workspace) -> ImportanceHistory:
    """The importance of every version so far."""
    return ImportanceHistory(monitoring_folder(workspace) / "shap_importance.parquet")


def measured_importance(workspace: Workspace, rows: int) -> tuple[pl.DataFrame, dict[int, str]]:
    """The importance of every registered version of boosted trees; those that have none yet are measured.

    Returns:
        The history as `ImportanceHistory.read` gives it, and why a version could not be measured.
    """
    history = importance_history(workspace)
    known = set(history.read()["version"].unique())
    missing = [
        found
        for found in workspace.registry.versions()
        if found.family in (LIGHTGBM, XGBOOST) and found.version not in known
    ]
    measured, reasons = [], {}
    for found in missing:
        try:
            snapshot = workspace.snapshots.load(found.tags["snapshot_id"])
            test = chronological_split(snapshot.rows).test
            measured.append(shap_importance(workspace.registry.load_bundle(found.version), test, found.version, rows))
        except LevibotError as error:
            reasons[found.version] = str(error)
    return history.add(measured), reasons


def cluster_table(report: CorrelationReport, shown: int = 20) -> pl.DataFrame:
    """The largest clusters for people: keep, why the others could go, and their names."""
    largest = report.clusters[:shown]
    return pl.DataFrame(
        {
            "representative": [cluster.representative for cluster in largest],
            "features": [len(cluster.members) for cluster in largest],
            "weakest_rho": [cluster.weakest for cluster in largest],
            "others": [
                ", ".join(name for name in cluster.members if name != cluster.representative) for cluster in largest
            ],
        },
        schema={
            "representative": pl.String(),
            "features": pl.Int64(),
            "weakest_rho": pl.Float64(),
            "others": pl.String(),
        },
    )


def inflation_table(report: CorrelationReport, shown: int = 20) -> pl.DataFrame:
    """The features that the others explain best, with their variance inflation factor."""
    ranked = sorted(report.inflation.items(), key=lambda item: (-item[1], item[0]))[:shown]
    return pl.DataFrame(ranked, schema={"feature": pl.String(), "variance_inflation": pl.Float64()}, orient="row")
