"""The training snapshot of a home: which days it covers, and freezing them. Rows and files are the core's work."""

from levibot_core.market.timeframe import MILLISECONDS_PER_DAY
from levibot_core.stores.snapshot_manifest import SnapshotManifest
from levibot_core.stores.training_rows import read_inputs
from levibot_pipelines.workspace import Workspace


def build_snapshot(workspace: Workspace) -> SnapshotManifest:
    """Freeze features and labels of the window, as known at its end.

    Raises:
        MarketDataUnavailableError: nothing was ever ingested.
        SnapshotError, HomeNotWritableError: see `levibot_core.stores.snapshots.SnapshotStore.build`.
    """
    identity = workspace.ingested_source
    start_ms, as_of_ms = training_window(workspace)
    return workspace.snapshots.build(
        inputs=read_inputs(
            workspace.lake,
            source_key=identity.key,
            market=workspace.settings.market,
            timeframe=workspace.settings.timeframe,
            symbols=workspace.settings.symbols,
            as_of_ms=as_of_ms,
        ),
        feature_set=workspace.feature_set,
        timeframe=workspace.timeframe,
        horizon_bars=workspace.settings.label_bars,
        source=identity,
        market=workspace.settings.market,
        as_of_ms=as_of_ms,
        start_ms=start_ms,
        triple_barrier=workspace.settings.triple_barrier,
    )


def training_window(workspace: Workspace) -> tuple[int, int]:
    """Start and as-of time of the training data, UTC milliseconds: the last whole days that every symbol has."""
    dataset = workspace.candles(workspace.ingested_source)
    until = workspace.settings.until
    known = [
        workspace.lake.latest_known_at_ms(dataset, symbol, before_ms=int(until.timestamp() * 1000) if until else None)
        for symbol in workspace.settings.symbols
    ]
    as_of_ms = min(known) // MILLISECONDS_PER_DAY * MILLISECONDS_PER_DAY
    return as_of_ms - workspace.settings.days * MILLISECONDS_PER_DAY, as_of_ms
